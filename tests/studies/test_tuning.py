"""Every variant is compared at its own best rate, found on seeds and values that the comparison never uses."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mambaout.studies import record, runner
from mambaout.studies.record import config_hash
from mambaout.studies.runner import Study, execute, read_results, read_trials, tuned
from mambaout.studies.sequential import Pair
from mambaout.studies.tuning import Trial, Tuning
from mambaout.training.loop import Diverged

GRID = (1e-3, 2e-3, 4e-3, 8e-3)


@dataclass(frozen=True)
class Config:
    best: float  # the rate at which it is best
    lr: float = 4e-3


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(record, "data_dir", lambda: tmp_path)
    return tmp_path


def score(config: Config) -> float:
    return -abs(math.log(config.lr / config.best))


class Log:
    """What ran: (best, rate, seed) of each run of a study; interrupted at one of them."""

    def __init__(self, stop_at: int = -1) -> None:
        self.tuning: list[tuple[float, float, int]] = []
        self.comparison: list[tuple[float, float, int]] = []
        self.stop_at = stop_at

    def study(self, *bests: float, pairs: tuple[Pair, ...] = (), **tuning: object) -> Study:
        def note(where: list[tuple[float, float, int]], config: Config, seed: int) -> None:
            if len(self.tuning) + len(self.comparison) == self.stop_at:
                raise KeyboardInterrupt
            where.append((config.best, config.lr, seed))

        def tune(config: Config, seed: int, device: torch.device) -> dict[str, float]:
            note(self.tuning, config, seed)
            return {"validation_accuracy": score(config) + seed / 1e6, "validation_loss": config.lr}

        def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
            note(self.comparison, config, seed)
            return {"accuracy": score(config)}

        settings = {"grid": GRID, "limits": (2e-4, 3e-2), **tuning}
        variants = {f"best_{best:g}": Config(best) for best in bests}
        return Study("try", variants, run, tuning=Tuning(tune, **settings), pairs=pairs)  # type: ignore[arg-type]


def test_each_variant_is_compared_at_its_own_best() -> None:
    log = Log()
    study = log.study(2e-3, 4e-3)
    path = execute(study, seeds=2, device="cpu")
    assert log.comparison == [(2e-3, 2e-3, 0), (4e-3, 4e-3, 0), (2e-3, 2e-3, 1), (4e-3, 4e-3, 1)]
    assert path.name == "try.csv" and len(log.tuning) == 2 * 4 * 2
    assert {seed for *_, seed in log.tuning} == {1000, 1001}
    assert tuned(study) == {"best_0.002": Config(2e-3, 2e-3), "best_0.004": Config(4e-3, 4e-3)}
    configs = {row.variant: row.config for row in read_results("try")}
    assert configs == {name: config_hash(config) for name, config in tuned(study).items()}


def test_all_rows_behind_the_choice_are_kept() -> None:
    study = Log().study(2e-3)
    path = execute(study, device="cpu", stage="tuning")
    assert path.name == "try_tuning.csv" and not path.with_name("try.csv").exists()
    rows = read_trials("try")
    assert {(row.lr, row.seed, row.metric) for row in rows} == {
        (lr, seed, f"validation_{what}") for lr in GRID for seed in (1000, 1001) for what in ("accuracy", "loss")
    }
    assert all(row.config == config_hash(Config(2e-3, row.lr)) for row in rows)


@pytest.mark.parametrize(
    ("best", "rates", "choice"),
    [
        (3.9e-3, GRID, 4e-3),
        (1.7e-2, (*GRID, 1.6e-2), 1.6e-2),  # 0.032 lies beyond the limit
        (4.5e-4, (2.5e-4, 5e-4, *GRID), 5e-4),
        (1e-9, (2.5e-4, 5e-4, *GRID), 2.5e-4),  # likewise
    ],
)
def test_the_grid_grows_while_the_best_lies_at_an_end(best: float, rates: tuple[float, ...], choice: float) -> None:
    log = Log()
    study = log.study(best, seeds=(1000,))
    execute(study, device="cpu", stage="tuning")
    assert sorted(lr for _, lr, _ in log.tuning) == list(rates)
    assert next(iter(tuned(study).values())).lr == choice


@pytest.mark.parametrize("stop_at", range(22))
def test_goes_on_in_either_stage_where_it_was_killed(stop_at: int) -> None:
    whole = Log()
    execute(whole.study(2e-3, 1.6e-2), seeds=2, device="cpu")
    for name in ("try", "try_tuning"):
        (runner.data_dir() / "results" / f"{name}.csv").unlink()
    log = Log(stop_at)
    with pytest.raises(KeyboardInterrupt):
        execute(log.study(2e-3, 1.6e-2), seeds=2, device="cpu")
    log.stop_at = -1
    execute(log.study(2e-3, 1.6e-2), seeds=2, device="cpu")
    assert log.tuning == whole.tuning and log.comparison == whole.comparison
    assert len(whole.tuning) + len(whole.comparison) == 22


def test_a_process_tunes_and_compares_its_own_variants() -> None:
    log = Log()
    study = log.study(2e-3, 4e-3)
    execute(study, seeds=1, device="cpu", only="best_0.004")
    assert {best for best, *_ in log.tuning} == {4e-3} and log.comparison == [(4e-3, 4e-3, 0)]
    assert list(tuned(study)) == ["best_0.004"]
    with pytest.raises(ValueError, match=r"no learning rate is chosen yet for best_0\.002: run the tuning first"):
        execute(study, seeds=1, device="cpu", stage="comparison")
    execute(study, seeds=1, device="cpu", only="best_0.002")
    assert log.comparison == [(4e-3, 4e-3, 0), (2e-3, 2e-3, 0)] and len(log.tuning) == 16


def test_processes_may_tune_side_by_side() -> None:
    other = Log()

    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        if not other.tuning:  # another process tunes and compares a variant of its own meanwhile
            execute(other.study(2e-3), seeds=1, device="cpu")
        return {"validation_accuracy": score(config)}

    both = {"mine": Config(4e-3), "best_0.002": Config(2e-3)}
    study = Study("try", both, lambda *_: {"accuracy": 1.0}, tuning=Tuning(run, GRID, (1e-4, 3e-2)))
    execute(study, seeds=1, device="cpu", only="mine")
    assert {name: config.lr for name, config in tuned(study).items()} == {"mine": 4e-3, "best_0.002": 2e-3}
    assert {row.variant for row in read_results("try")} == set(both)


def test_a_new_choice_runs_the_comparison_again() -> None:
    log = Log()
    execute(log.study(2e-3), seeds=1, device="cpu")
    rows = read_trials("try")
    better = [dataclasses.replace(row, value=9.0) if row.lr == 4e-3 else row for row in rows]
    record.write_results("try_tuning", better, Trial)
    execute(log.study(2e-3), seeds=1, device="cpu")
    assert log.comparison == [(2e-3, 2e-3, 0), (2e-3, 4e-3, 0)]
    assert [row.config for row in read_results("try")] == [config_hash(Config(2e-3, 4e-3))]


def test_a_changed_configuration_is_tuned_again() -> None:
    log = Log()
    study = log.study(2e-3)
    execute(study, seeds=1, device="cpu")
    changed = dataclasses.replace(study, variants={"best_0.002": Config(4e-3)})
    execute(changed, seeds=1, device="cpu")
    assert {best for best, *_ in log.tuning[8:]} == {4e-3} and len(log.tuning) == 16
    assert {row.config for row in read_trials("try")} == {
        config_hash(Config(4e-3, lr)) for lr in GRID
    }


def test_the_rate_that_a_variant_is_declared_with_does_not_matter() -> None:
    log = Log()
    study = log.study(2e-3)
    execute(study, seeds=1, device="cpu")
    execute(dataclasses.replace(study, variants={"best_0.002": Config(2e-3, lr=0.5)}), seeds=1, device="cpu")
    assert len(log.tuning) == 8 and len(log.comparison) == 1


def test_a_rate_that_diverges_is_the_worst() -> None:
    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        if config.lr > 3e-3:
            raise Diverged("the loss is nan")
        return {"validation_loss": -config.lr}  # the lower the better

    tuning = Tuning(run, GRID, (1e-4, 3e-2), metric="validation_loss", maximise=False, seeds=(1000,))
    study = Study("try", {"a": Config(1.0)}, lambda *_: {"accuracy": 1.0}, tuning=tuning)
    execute(study, seeds=1, device="cpu")
    assert tuned(study)["a"].lr == 2e-3
    assert sum(math.isnan(row.value) for row in read_trials("try")) == 2
    execute(study, seeds=1, device="cpu")  # such rows are read again


def test_of_equally_good_rates_the_one_in_the_middle_is_chosen() -> None:
    tuning = Log().study(1e-3).tuning
    assert tuning is not None
    flat = {lr: {1000: 1.0, 1001: 1.0} for lr in GRID}
    assert tuning.choose(flat) == 2e-3
    assert tuning.choose({**flat, 2e-3: {1000: 0.9, 1001: 1.0}}) == 4e-3
    assert tuning.choose({lr: flat[lr] for lr in GRID[:3]}) is None
    assert "learning rate 0.002 (validation_accuracy 1, best of 4 rates)" in tuning.describe(flat)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": (1e-3, 2e-3, 4e-3)}, "at least four rates"),
        ({"grid": (1e-3, 2e-3, 4e-3, 3e-2)}, "2 to 3.5 times the one before"),
        ({"limits": (2e-3, 3e-2)}, "must enclose the grid"),
        ({"seeds": (0, 1)}, "seeds of its own"),
        ({"seeds": ()}, "seeds of its own"),
        ({"metric": "accuracy"}, 'nothing but a metric "validation_..." may choose a rate'),
    ],
)
def test_refuses_a_tuning_that_is_none(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Log().study(1e-3, **wrong)


def test_refuses_values_that_are_not_of_the_validation_part() -> None:
    def run(config: Config, seed: int, device: torch.device) -> dict[str, float]:
        return {"validation_accuracy": 1.0, "accuracy": 1.0}

    study = Study("try", {"a": Config(1.0)}, run, tuning=Tuning(run, GRID, (1e-4, 3e-2)))
    with pytest.raises(ValueError, match=r'only names that begin with "validation_"; got .*\'accuracy\''):
        execute(study, device="cpu")


def test_seeds_of_the_tuning_are_not_compared() -> None:
    with pytest.raises(ValueError, match="seeds from 1000 on are for the tuning; ask for fewer than 1001"):
        execute(Log().study(1e-3), seeds=1001, device="cpu")


def test_a_study_without_tuning_has_one_stage() -> None:
    study = Study("try", {"a": Config(1.0)}, lambda *_: {"accuracy": 1.0})
    with pytest.raises(ValueError, match="try has no tuning, so it has one stage only"):
        execute(study, stage="tuning", device="cpu")
    assert tuned(study) == {"a": Config(1.0)}


def test_large_variants_are_tuned_too() -> None:
    log = Log()
    study = dataclasses.replace(log.study(2e-3), large={"huge": Config(8e-3)})
    execute(study, seeds=1, device="cpu", large=True)
    assert log.comparison == [(8e-3, 8e-3, 0)] and list(tuned(study, large=True)) == ["huge"] and not tuned(study)
