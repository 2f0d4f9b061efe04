"""How a study runs: every variant with every seed, each result written at once, so that a stopped study goes on.

A study is a module of this package with a `STUDY`. `mambaout study NAME` runs it; functions here do the same from a
notebook. A study with a tuning stage first chooses each variant's learning rate (:mod:`mambaout.studies.tuning`), then
compares the variants at their own; a study with main pairs gives these as many seeds as their precision needs
(:mod:`mambaout.studies.sequential`).
"""

import dataclasses
import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from filelock import FileLock
from tqdm.auto import tqdm

import mambaout.studies
from mambaout.files.data import data_dir
from mambaout.files.read import table
from mambaout.studies.record import Result, config_hash, current_commit, device_name, write_results
from mambaout.studies.sequential import Pair, decide
from mambaout.studies.tuning import Run, Scores, Trial, Tuning, at, scores
from mambaout.training.devices import find_device

Stage = Literal["tuning", "comparison"]
Row = TypeVar("Row", bound=Result)
SEEDS = 5  # of each variant


@dataclass(frozen=True)
class Study:
    """An experiment behind the book.

    Attributes:
        name: of the module and of the file ``data/results/NAME.csv``.
        variants: what is compared: name -> frozen dataclass that says everything about a run but its seed.
        run: (configuration, seed, device) -> measured values by name. Seeds are paired: the same seed gives every
            variant the same data in the same order.
        large: further variants, of a size for a GPU; run with ``--large``.
        tuning: how each variant's learning rate is chosen first; its rows go to ``data/results/NAME_tuning.csv``.
        pairs: the main comparisons, which get as many seeds as their precision needs.
    """

    name: str
    variants: Mapping[str, Any]
    run: Run
    large: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuning: Tuning | None = None
    pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        known = {*self.variants, *self.large}
        for pair in self.pairs:
            if not {pair.after, pair.before} <= known:
                raise ValueError(f"{self.name}: a pair names {pair.after} and {pair.before}; there are {sorted(known)}")


def list_studies() -> list[str]:
    """Names of the studies that `find_study` knows."""
    modules = (importlib.import_module(f"{mambaout.studies.__name__}.{m.name}") for m in _modules())
    return [module.STUDY.name for module in modules if hasattr(module, "STUDY")]


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        ValueError: there is none; the known ones are listed.
    """
    if name not in {m.name for m in _modules()} or name not in list_studies():
        raise ValueError(f"There is no study {name!r}. Known studies: {', '.join(list_studies())}.")
    study: Study = importlib.import_module(f"{mambaout.studies.__name__}.{name}").STUDY
    return study


def execute(
    study: Study,
    *,
    seeds: int | None = None,
    device: str = "auto",
    large: bool = False,
    only: str = "",
    stage: Stage | None = None,
) -> Path:
    """Run what the result files lack, seed by seed, so that an early stop leaves complete comparisons.

    Args:
        study: see :func:`find_study`.
        seeds: runs of each variant in the comparison, seeds 0 to seeds - 1. By default 5, and for the variants of a
            main pair as many as its rule asks for.
        device: "cpu", "cuda", "mps"; "auto" takes a GPU where there is one.
        large: run the study's large variants, not the small ones.
        only: run only variants whose name contains this; processes with different ones may run side by side.
        stage: run only the tuning, or only the comparison of variants that are tuned.

    Returns:
        The result file, of the tuning if nothing else was asked for. Rows of variants that are not run now are kept;
        a row whose configuration has changed since is replaced, also when another learning rate has become best.

    Raises:
        ValueError: no variant is chosen, or a wrong number of seeds, or there is no such device or stage.
    """
    if seeds is not None and seeds < 1:
        raise ValueError(f"a study needs at least one seed, got {seeds}")
    if stage is not None and study.tuning is None:
        raise ValueError(f"{study.name} has no tuning, so it has one stage only; leave the stage out")
    if study.tuning is not None and seeds is not None and seeds > min(study.tuning.seeds):
        raise ValueError(f"seeds from {min(study.tuning.seeds)} on are for the tuning; ask for fewer than {seeds}")
    current_commit()  # now: what is edited while the study runs is not what runs
    everything = study.large if large else study.variants
    chosen = [name for name in everything if only in name]
    if not chosen:
        raise ValueError(f"{study.name} has no such variant; its variants: {', '.join(everything) or 'none'}")
    place = torch.device(find_device(device))
    with tqdm(total=0, unit="run", desc=study.name, disable=None) as bar:
        work = _Work(study, large, chosen, place, bar)
        if study.tuning is not None and stage != "comparison":
            work.tune(study.tuning, then=0 if stage else len(chosen) * (seeds or SEEDS))
        if stage != "tuning":  # a given number of seeds is what runs; otherwise the main pairs' rule may ask for more
            work.compare(seeds or SEEDS, study.pairs if seeds is None else ())
    return _path(_tuning(study.name) if stage == "tuning" else study.name)


def tuned(study: Study, *, large: bool = False) -> dict[str, Any]:
    """The variants as they are compared, each at the learning rate that the tuning has chosen.

    Those whose tuning is not finished are missing; a study without tuning gives all as they are.
    """
    variants = study.large if large else study.variants
    if study.tuning is None:
        return dict(variants)
    rates = {name: study.tuning.choose(found) for name, found in tried(study, large=large).items()}
    return {name: at(variants[name], rate) for name, rate in rates.items() if rate is not None}


def tried(study: Study, *, large: bool = False) -> dict[str, dict[float, dict[int, float]]]:
    """What the tuning has found for each variant: learning rate -> seed -> the value that it goes by."""
    variants = study.large if large else study.variants
    if study.tuning is None or not _path(_tuning(study.name)).exists():
        return {name: {} for name in variants}
    trials = read_trials(study.name)
    return {name: scores(trials, study.tuning, name, config) for name, config in variants.items()}


class _Work:
    """One call of :func:`execute`: some variants of a study, on one device."""

    def __init__(self, study: Study, large: bool, chosen: list[str], place: torch.device, bar: "tqdm[Any]") -> None:
        self.study, self.large, self.chosen, self.place, self.bar = study, large, chosen, place, bar

    def tune(self, tuning: Tuning, then: int) -> None:
        """Try learning rates until each chosen variant has its best; `then` runs of the comparison will follow."""
        variants = self.study.large if self.large else self.study.variants

        def current(row: Trial) -> bool:
            return row.variant not in self.chosen or row.config == config_hash(at(variants[row.variant], row.lr))

        def found() -> dict[str, Scores]:
            rows = _append(_tuning(self.study.name), Trial, [], current)
            return {name: scores(rows, tuning, name, variants[name]) for name in self.chosen}

        while left := [(name, *run) for name, own in found().items() for run in tuning.todo(own)]:
            name, lr, seed = left[0]
            rows = self.measured(tuning.measure, name, at(variants[name], lr), seed, f" at {lr:g}", len(left) + then)
            trials = [Trial(**dataclasses.asdict(row), lr=lr) for row in rows]
            _append(_tuning(self.study.name), Trial, trials, current)
        for name, own in found().items():
            self.bar.write(f"{self.study.name} {name}: {tuning.describe(own)}")

    def compare(self, seeds: int, pairs: tuple[Pair, ...]) -> None:
        """Run each chosen variant, as tuned, with every seed that it lacks, those of the main pairs among them."""
        configs = tuned(self.study, large=self.large)
        if untuned := [name for name in self.chosen if name not in configs]:
            raise ValueError(f"no learning rate is chosen yet for {', '.join(untuned)}: run the tuning first")
        hashes = {name: config_hash(config) for name, config in configs.items()}
        mine = [pair for pair in pairs if {pair.after, pair.before} & set(self.chosen)]

        def current(row: Result) -> bool:
            return row.variant not in self.chosen or row.config == hashes[row.variant]

        def left() -> list[tuple[int, str]]:
            rows = _append(self.study.name, Result, [], current)
            done = {(row.seed, row.variant) for row in rows}
            wanted = dict.fromkeys(self.chosen, seeds)
            for pair in mine:
                decision = decide(pair, *_values(rows, pair, hashes))
                for name in {pair.after, pair.before} & set(self.chosen):
                    wanted[name] = max(wanted[name], pair.first if decision is None else decision.seeds)
            runs = [(seed, name) for name in self.chosen for seed in range(wanted[name])]
            return sorted((run for run in runs if run not in done), key=lambda run: run[0])

        while runs := left():
            seed, name = runs[0]
            rows = self.measured(self.study.run, name, configs[name], seed, "", len(runs))
            _append(self.study.name, Result, rows, current)
        rows = read_results(self.study.name)
        for pair in mine:
            decision = decide(pair, *_values(rows, pair, hashes))
            waits = f"{pair.after} minus {pair.before}: one of the first {pair.first} seeds is missing; run this again"
            self.bar.write(str(decision or waits))

    def measured(self, run: Run, name: str, config: Any, seed: int, where: str, left: int) -> list[Result]:
        """The rows of one run, which is the first of so many that are left."""
        self.bar.total = self.bar.n + left
        label = f"{name}{where}, seed {seed}"
        self.bar.set_postfix_str(label)
        start = time.perf_counter()
        values = run(config, seed, self.place)
        seconds = round(time.perf_counter() - start, 1)
        if not values:
            raise ValueError(f"{self.study.name} {label}: the run measured nothing, so it would never be done")
        self.bar.update()
        found = ", ".join(f"{metric} {value:.4g}" for metric, value in values.items())
        self.bar.write(f"{self.study.name} {label}: {found} ({seconds} s)")
        of = (config_hash(config), device_name(self.place), seconds)
        return [Result(self.study.name, name, seed, metric, value, *of) for metric, value in values.items()]


def read_results(study: str) -> list[Result]:
    """The rows of a study's result file.

    Raises:
        ValueError: the file's columns or numbers are not those of :class:`~mambaout.studies.record.Result`.
    """
    return _read(study, Result)


def read_trials(study: str) -> list[Trial]:
    """The rows behind the learning rates that a study has chosen, from ``data/results/STUDY_tuning.csv``.

    Raises:
        ValueError: the file's columns or numbers are not those of :class:`~mambaout.studies.tuning.Trial`.
    """
    return _read(_tuning(study), Trial)


def _read(name: str, kind: type[Row]) -> list[Row]:
    path = _path(name)
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    rows = table(path, list(kinds))
    if rows and list(rows[0]) != list(kinds):
        raise ValueError(f"{path} has the columns {', '.join(rows[0])}; expected {', '.join(kinds)}. Move it away.")
    results = []
    for line, row in enumerate(rows, start=2):
        try:
            results.append(kind(**{key: kinds[key](row[key]) for key in kinds}))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}. Mend or remove that line.") from None
    return results


def _append(name: str, kind: type[Row], rows: list[Row], current: Callable[[Row], bool]) -> list[Row]:
    """Add rows to a result file, without those that are not current any more; returns all of them.

    The file is read anew under a lock: several processes may work on a study, each with variants of its own.
    """
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        old = _read(name, kind) if path.exists() else []
        now = {_run(row) for row in rows}  # another process may have run the same meanwhile
        kept = [row for row in old if current(row) and _run(row) not in now]
        if rows or kept != old:
            write_results(name, kept + rows, kind)
        return kept + rows


def _run(row: Result) -> tuple[object, ...]:
    """Which run a row comes from."""
    return row.variant, row.seed, getattr(row, "lr", None)


def _values(rows: list[Result], pair: Pair, hashes: Mapping[str, str]) -> tuple[dict[int, float], dict[int, float]]:
    """What the two of a pair reached, by seed, as they are tuned now."""
    after, before = (
        {
            row.seed: row.value
            for row in rows
            if row.variant == name and row.metric == pair.metric and row.config == hashes.get(name)
        }
        for name in (pair.after, pair.before)
    )
    return after, before


def _tuning(study: str) -> str:
    return f"{study}_tuning"


def _path(name: str) -> Path:
    return data_dir() / "results" / f"{name}.csv"


def _modules() -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(mambaout.studies.__path__))
