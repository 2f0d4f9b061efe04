"""How a study runs: every variant with every seed, each result written at once, so that a stopped study goes on.

A study is a module of this package with a `STUDY`. `mambaout study NAME` runs it; functions here do the same from a
notebook.
"""

import csv
import dataclasses
import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm.auto import tqdm

import mambaout.studies
from mambaout.files.data import data_dir
from mambaout.studies.record import Result, config_hash, current_commit, device_name, write_results
from mambaout.training.devices import find_device


@dataclass(frozen=True)
class Study:
    """An experiment behind the book.

    Attributes:
        name: of the module and of the file ``data/results/NAME.csv``.
        variants: what is compared: name -> frozen dataclass that says everything about a run but its seed.
        run: (configuration, seed, device) -> measured values by name. Seeds are paired: the same seed gives every
            variant the same data in the same order.
        large: further variants, of a size for a GPU; run with ``--large``.
    """

    name: str
    variants: Mapping[str, Any]
    run: Callable[[Any, int, torch.device], Mapping[str, float]]
    large: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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


def execute(study: Study, *, seeds: int = 5, device: str = "auto", large: bool = False, only: str = "") -> Path:
    """Run what the result file lacks, seed by seed, so that an early stop leaves complete comparisons.

    Args:
        study: see :func:`find_study`.
        seeds: runs of each variant, seeds 0 to seeds - 1.
        device: "cpu", "cuda", "mps"; "auto" takes a GPU where there is one.
        large: run the study's large variants, not the small ones.
        only: run only variants whose name contains this; processes with different ones may run side by side.

    Returns:
        The result file. Rows of variants that are not run now are kept; a row whose configuration has changed since
        is replaced.

    Raises:
        ValueError: no variant is chosen, or no seed, or there is no such device.
    """
    if seeds < 1:
        raise ValueError(f"a study needs at least one seed, got {seeds}")
    current_commit()  # now: what is edited while the study runs is not what runs
    everything = study.large if large else study.variants
    chosen = {name: config for name, config in everything.items() if only in name}
    if not chosen:
        raise ValueError(f"{study.name} has no such variant; its variants: {', '.join(everything) or 'none'}")
    place = torch.device(find_device(device))
    path = data_dir() / "results" / f"{study.name}.csv"
    hashes = {name: config_hash(config) for name, config in chosen.items()}
    done = {(row.variant, row.seed) for row in _append(path, [], hashes)}
    todo = [(name, seed) for seed in range(seeds) for name in chosen if (name, seed) not in done]
    with tqdm(todo, unit="run", desc=study.name, disable=None) as bar:
        for name, seed in bar:
            bar.set_postfix_str(f"{name}, seed {seed}")
            start = time.perf_counter()
            values = study.run(chosen[name], seed, place)
            seconds = round(time.perf_counter() - start, 1)
            rows = [
                Result(study.name, name, seed, metric, value, hashes[name], device_name(place), seconds)
                for metric, value in values.items()
            ]
            _append(path, rows, hashes)
            found = ", ".join(f"{metric} {value:.4g}" for metric, value in values.items())
            bar.write(f"{study.name} {name}, seed {seed}: {found} ({seconds} s)")
    return path


def read_results(study: str) -> list[Result]:
    """The rows of a study's result file.

    Raises:
        ValueError: the file's columns or numbers are not those of :class:`~mambaout.studies.record.Result`.
    """
    path = data_dir() / "results" / f"{study}.csv"
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Result)}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != list(kinds):
            raise ValueError(f"{path} has the columns {reader.fieldnames}; expected {list(kinds)}. Move it away.")
        try:
            return [Result(**{key: kinds[key](value) for key, value in row.items()}) for row in reader]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}. Mend or remove that line.") from None


def _append(path: Path, rows: list[Result], hashes: Mapping[str, str]) -> list[Result]:
    """Add rows to a result file, without those of configurations that have changed since; returns all of them.

    The file is read anew under a lock: several processes may work on a study, each with variants of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        old = read_results(path.stem) if path.exists() else []
        now = {(row.variant, row.seed) for row in rows}  # another process may have run the same meanwhile
        kept = [
            row
            for row in old
            if row.config == hashes.get(row.variant, row.config) and (row.variant, row.seed) not in now
        ]
        if rows or kept != old:
            write_results(path.stem, kept + rows)
        return kept + rows


def _modules() -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(mambaout.studies.__path__))
