"""The rows that studies write: one measured value each, with what is needed to repeat it."""

import csv
import dataclasses
import datetime
import hashlib
import io
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mambaout.files.data import data_dir
from mambaout.training.checkpoint import write_whole


@cache
def current_commit() -> str:
    """The checkout's git commit when this was first asked for, with "+" behind it when files differed from it.

    What studies themselves write does not count: a study that goes on has changed its result file.
    """
    commit = _git("describe", "--always", "--abbrev=12", "--exclude=*")
    written = [f":(top,exclude)data/{folder}" for folder in ("results", "weights")]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *written)
    return commit + ("+" if changed else "") or "unknown"


def _git(*arguments: str) -> str:
    """What git answers about the repository that holds the data; nothing where there is none."""
    # Whatever the repository's own settings name, nothing but git itself runs.
    quiet = ["--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    command = ["git", *quiet, "-C", str(data_dir()), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        return run.stdout.strip()
    except OSError:  # no git here
        return ""


@dataclass(frozen=True)
class Result:
    """One row of ``data/results/STUDY.csv``.

    Attributes:
        study, variant, seed, metric: what was measured, of what.
        value: the number.
        config: hash of the configuration that produced it.
        device: name of the processor it ran on.
        seconds: how long the run took.
        torch, commit, date: version, git commit, day.
    """

    study: str
    variant: str
    seed: int
    metric: str
    value: float
    config: str
    device: str
    seconds: float
    torch: str = dataclasses.field(default_factory=lambda: torch.__version__)
    commit: str = dataclasses.field(default_factory=current_commit)
    date: str = dataclasses.field(default_factory=lambda: datetime.date.today().isoformat())


def config_hash(config: Any) -> str:
    """Ten hexadecimal digits that change when any field of a configuration does."""
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config  # type: ignore[arg-type]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]


def write_results(study: str, rows: Iterable[Result], kind: type[Result] = Result) -> Path:
    """Replace the study's result file, whole or not at all; `kind` says which columns its rows have."""
    path = data_dir() / "results" / f"{study}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in dataclasses.fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
    return path


def device_name(device: torch.device) -> str:
    """Name of the processor or GPU, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
