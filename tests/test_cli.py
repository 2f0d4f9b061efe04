"""The command line."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mambaout.cli import main
from mambaout.commands import doctor
from mambaout.commands import fetch as fetching
from mambaout.files import data as files
from mambaout.models import WeightsError, released

ENTRY = files.Entry(
    "paper/x.csv", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", None
)  # "abc"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one data file, which is missing, and no address to download it from."""
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    monkeypatch.setattr(files, "manifest", lambda: {ENTRY.name: ENTRY})
    monkeypatch.setattr(files, "_repository_url", lambda name: None)
    (tmp_path / "data/paper").mkdir(parents=True)
    return tmp_path / "data"


def test_help_as_a_module() -> None:
    run = subprocess.run([sys.executable, "-m", "mambaout", "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "fetch" in run.stdout and "doctor" in run.stdout


def test_study_runs_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from mambaout.studies import record, runner

    seen = []

    def run(config: int, seed: int, device: object) -> dict[str, float]:
        seen.append((config, seed))
        return {"x": 0.0}

    tiny = runner.Study("tiny", {"a": 1, "b": 2}, run)
    monkeypatch.setattr(runner, "find_study", lambda name: {"tiny": tiny}[name])
    for module in (record, runner):
        monkeypatch.setattr(module, "data_dir", lambda: tmp_path)
    assert main(["study", "tiny", "--seeds", "2", "--only", "b", "--device", "cpu"]) == 0
    assert seen == [(2, 0), (2, 1)] and str(tmp_path / "results" / "tiny.csv") in capsys.readouterr().out


def test_an_unknown_study_lists_the_known_ones(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["study", "recal"]) == 1
    assert "There is no study 'recal'. Known studies: causal_vit" in capsys.readouterr().err


def test_entry_point() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="mambaout")
    assert script.load() is main


@pytest.mark.parametrize("args", [[], ["docter"], ["fetch", "--wrong"]])
def test_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(args)
    assert exit.value.code == 2
    assert "mambaout" in capsys.readouterr().err


# doctor


def test_doctor_on_this_repository(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    total = len(files.manifest())
    assert f"{total} of {total} as expected" in report
    for line in (
        "torch",
        metadata.version("torch"),
        "seaborn",
        "threads",
        "mambaout_femto",
        str(files.data_dir()),
    ):
        assert line in report


def test_doctor_names_a_broken_file_and_its_cure(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / ENTRY.name).write_text("ab")
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith(f"  {ENTRY.name}"))
    assert "truncated: expected 3 bytes, found 2" in lines[at]
    assert lines[at + 1].strip() == f"-> run `mambaout fetch {ENTRY.name}`"


def test_doctor_needs_no_data_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "repository_root", lambda: None)
    monkeypatch.setenv("MAMBAOUT_DATA", str(tmp_path))
    assert main(["doctor"]) == 0
    assert "downloaded when they are first asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("package", "version", "cure", "broken"),
    [
        ("torch", "1.13.1+cpu", "-> run `pip install --upgrade 'torch>=", 1),
        ("seaborn", None, "-> run `pip install --upgrade 'seaborn>=", 0),
    ],
)
def test_doctor_compares_versions_with_the_floors(
    package: str,
    version: str | None,
    cure: str,
    broken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = metadata.version

    def fake(name: str) -> str:
        if name != package:
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(doctor.metadata, "version", fake)
    assert main(["doctor"]) == broken
    assert cure in capsys.readouterr().out


# fetch


def test_fetch_leaves_good_files_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / ENTRY.name).write_text("abc")
    assert main(["fetch"]) == 0
    assert "already there" in capsys.readouterr().out


def test_fetch_tells_what_it_cannot_get(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "paper"]) == 1
    assert "paper/x.csv has no download address" in capsys.readouterr().err


def test_fetch_repairs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ENTRY.name).write_text("xyz")
    (checkout.parent / "source.csv").write_text("abc")
    address = (checkout.parent / "source.csv").as_uri()
    monkeypatch.setattr(files, "_repository_url", lambda name: address)
    assert main(["fetch", ENTRY.name]) == 0
    assert (checkout / ENTRY.name).read_text() == "abc"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fetch", "fashion"], '"fashion". The nearest names: fashion-mnist'),
        (["fetch", "--released-weights", "mambaout_fempto"], "The nearest names: mambaout_femto"),
    ],
)
def test_unknown_names_list_the_near_ones(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 1
    assert expected in capsys.readouterr().err


def test_fetch_selects_folders_and_files() -> None:
    names = [entry.name for entry in fetching.select(["photos/", "paper/coco.csv"])]
    assert "paper/coco.csv" in names and "photos/china.webp" in names
    assert all(name.startswith("photos/") or name == "paper/coco.csv" for name in names)
    assert fetching.select([]) == list(files.manifest().values())


def test_fetch_weights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def fake(name: str, *, replace: bool) -> Path:
        asked.append(name)
        if name == "mambaout_tiny":
            raise WeightsError("could not be downloaded")
        return Path("weights")

    monkeypatch.setattr(released, "fetch_released", fake)
    assert main(["fetch", "--released-weights", "mambaout_femto"]) == 0
    assert main(["fetch", "--released-weights", "mambaout_femto", "--released-weights", "mambaout_tiny"]) == 1
    assert asked == ["mambaout_femto"] * 2 + ["mambaout_tiny"]
    assert "mambaout_tiny: could not be downloaded" in capsys.readouterr().err
