"""Studies write what they measure at once, go on where they stopped, and refuse files that they did not write."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mambaout.studies import record, runner
from mambaout.studies.runner import Study, execute, find_study, list_studies, read_results


@dataclass(frozen=True)
class Config:
    gain: float


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(record, "data_dir", lambda: tmp_path)
    return tmp_path


def study(calls: list[tuple[float, int]], fail_at: int = -1, **variants: float) -> Study:
    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append((config.gain, seed))
        return {"value": config.gain + seed, "device_is_cpu": float(device.type == "cpu")}

    return Study("try", {name: Config(gain) for name, gain in variants.items()}, run)


def values(metric: str = "value") -> dict[tuple[str, int], float]:
    return {(row.variant, row.seed): row.value for row in read_results("try") if row.metric == metric}


def test_runs_every_variant_with_every_seed_seed_by_seed() -> None:
    calls: list[tuple[float, int]] = []
    path = execute(study(calls, a=10, b=20), seeds=2, device="cpu")
    assert calls == [(10, 0), (20, 0), (10, 1), (20, 1)]
    assert values() == {("a", 0): 10, ("b", 0): 20, ("a", 1): 11, ("b", 1): 21}
    assert set(values("device_is_cpu").values()) == {1.0}
    assert path.name == "try.csv"


def test_goes_on_where_it_was_stopped() -> None:
    calls: list[tuple[float, int]] = []
    with pytest.raises(KeyboardInterrupt):
        execute(study(calls, fail_at=3, a=10, b=20), seeds=2, device="cpu")
    assert len(values()) == 3
    execute(study(calls, a=10, b=20), seeds=2, device="cpu")
    assert calls == [(10, 0), (20, 0), (10, 1), (20, 1)]


def test_a_changed_configuration_runs_again_and_replaces_its_rows() -> None:
    calls: list[tuple[float, int]] = []
    execute(study(calls, a=10, b=20), seeds=1, device="cpu")
    execute(study(calls, a=10, b=30), seeds=1, device="cpu")
    assert calls == [(10, 0), (20, 0), (30, 0)]
    assert values() == {("a", 0): 10, ("b", 0): 30}


def test_rows_of_variants_that_do_not_run_now_stay() -> None:
    calls: list[tuple[float, int]] = []
    execute(study(calls, a=10, b=20), seeds=1, device="cpu", only="a")
    execute(study(calls, b=20), seeds=1, device="cpu")
    assert values() == {("a", 0): 10, ("b", 0): 20}


def test_processes_may_share_a_study() -> None:
    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        if config.gain == 10:  # another process finishes a run of its own meanwhile
            execute(study([], b=20), seeds=1, device="cpu")
        return {"value": config.gain}

    execute(Study("try", {"a": Config(10)}, run), seeds=1, device="cpu")
    assert values() == {("a", 0): 10, ("b", 0): 20}


def test_a_run_that_another_process_has_done_meanwhile_stands_once() -> None:
    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        if config.gain == 10:
            execute(study([], a=10), seeds=1, device="cpu")
        return {"value": 10.0}

    execute(Study("try", {"a": Config(10)}, run), seeds=1, device="cpu")
    assert [(row.metric, row.value) for row in read_results("try")] == [("value", 10)]


def test_refuses_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="there is no gpu device here, only .*cpu"):
        execute(study([], a=10), device="gpu")


def test_refuses_to_run_nothing() -> None:
    with pytest.raises(ValueError, match="at least one seed, got 0"):
        execute(study([], a=10), seeds=0)


def test_large_variants_run_only_when_asked_for() -> None:
    calls: list[tuple[float, int]] = []
    small = study(calls, a=10)
    both = Study(small.name, small.variants, small.run, large={"a_large": Config(99)})
    execute(both, seeds=1, device="cpu", large=True)
    assert calls == [(99, 0)]
    with pytest.raises(ValueError, match="no such variant; its variants: none"):
        execute(small, large=True)


def test_rows_name_their_circumstances() -> None:
    execute(study([], a=10), seeds=1, device="cpu")
    row = read_results("try")[0]
    assert row.torch == torch.__version__ and row.device and row.seconds >= 0
    assert row.config == record.config_hash(Config(10)) != record.config_hash(Config(11))


def test_a_result_is_written_where_there_is_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    record.current_commit.cache_clear()  # an earlier run in this process may have asked git
    execute(study([], a=10), seeds=1, device="cpu")
    assert read_results("try")[0].commit == "unknown"
    record.current_commit.cache_clear()


def test_the_commit_is_marked_where_the_code_differs_from_it(data: Path) -> None:
    def git(*arguments: str) -> str:
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run(
            ["git", "-C", str(data), *name, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    results, code = data / "data" / "results" / "try.csv", data / "code.py"
    results.parent.mkdir(parents=True)
    for path in (results, code):
        path.write_text("1")
    git("add", ".")
    git("commit", "--message", "x")
    commit = git("rev-parse", "--short=12", "HEAD")
    for path, expected in ((results, commit), (code, f"{commit}+")):
        path.write_text("2")
        record.current_commit.cache_clear()
        assert record.current_commit() == expected
    record.current_commit.cache_clear()


def test_asking_git_runs_nothing_that_a_repository_names(data: Path) -> None:
    subprocess.run(["git", "-C", str(data), "init", "--quiet"], check=True)
    script = data / "script"
    script.write_text(f"#!/bin/sh\ntouch {data}/ran\n")
    script.chmod(0o755)
    for hook in ("post-index-change", "pre-commit"):
        (data / ".git/hooks").mkdir(exist_ok=True)
        (data / ".git/hooks" / hook).symlink_to(script)
    subprocess.run(["git", "-C", str(data), "config", "core.fsmonitor", str(script)], check=True)
    (data / "code.py").write_text("1")
    record.current_commit.cache_clear()
    record.current_commit()
    record.current_commit.cache_clear()
    assert not (data / "ran").exists()


def test_a_broken_file_is_named_and_left_alone(data: Path) -> None:
    execute(study([], a=10), seeds=1, device="cpu")
    path = data / "results" / "try.csv"
    path.write_text(path.read_text().replace(",value,10,", ",value,ten,"))
    broken = path.read_text()
    with pytest.raises(ValueError, match=r"try\.csv, line 2: could not convert string to float: 'ten'"):
        execute(study([], a=10), seeds=1, device="cpu")
    assert path.read_text() == broken
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"try\.csv has no column commit, .*; it has a, b"):
        read_results("try")
    header, row, *_ = broken.splitlines()
    path.write_text(f"{header},more\n{row},1\n")
    with pytest.raises(ValueError, match=r"columns study, .*, more; expected study, .*Move it away"):
        read_results("try")


def test_studies_are_found_by_name() -> None:
    assert {"recall", "causal_vit"} <= set(list_studies())
    for name in list_studies():
        found = find_study(name)
        assert found.name == name and found.variants
    with pytest.raises(ValueError, match=r"There is no study 'recal'\. Known studies: .*recall"):
        find_study("recal")
