"""The learning rate of each variant, chosen before the comparison on seeds and images that the comparison never uses.

A comparison at one common rate compares learning rates. So every variant is tried at each rate of a grid, and at
further ones while the best lies at an end; it is compared at its own best.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mambaout.studies.record import Result, config_hash
from mambaout.training.loop import Diverged

Run = Callable[[Any, int, torch.device], Mapping[str, float]]  # configuration, seed, device -> values by name
Scores = Mapping[float, Mapping[int, float]]  # learning rate -> seed -> what the tuning goes by


@dataclass(frozen=True, kw_only=True)
class Trial(Result):
    """One row of ``data/results/STUDY_tuning.csv``: a :class:`~mambaout.studies.record.Result` at a learning rate."""

    lr: float


@dataclass(frozen=True)
class Tuning:
    """How a study chooses the learning rate of each variant, the field ``lr`` of its configuration.

    Attributes:
        run: (configuration, seed, device) -> values by name. It trains as the comparison does, and measures on a
            validation part; for that reason its values' names begin with ``validation_``, and it never sees a test
            set.
        grid: the rates that every variant is tried at: at least four, ascending, a factor of 2 to 3.5 apart.
        limits: the lowest and the highest rate to try when the best lies at an end of those tried.
        metric: the value to go by.
        maximise: whether more of it is better.
        seeds: of the tuning; the comparison has others.
    """

    run: Run
    grid: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    limits: tuple[float, float] = (6e-5, 6.4e-2)
    metric: str = "validation_accuracy"
    maximise: bool = True
    seeds: tuple[int, ...] = (1000, 1001)

    def __post_init__(self) -> None:
        steps = [after / before for before, after in zip(self.grid, self.grid[1:], strict=False)]
        if len(self.grid) < 4 or not all(2 <= step <= 3.5 for step in steps):
            raise ValueError(f"a grid needs at least four rates, each 2 to 3.5 times the one before; got {self.grid}")
        if not 0 < self.limits[0] <= self.grid[0] <= self.grid[-1] <= self.limits[1]:
            raise ValueError(f"the limits {self.limits} must enclose the grid {self.grid}")
        if not self.seeds or min(self.seeds) < 1000 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"tuning needs seeds of its own, different ones from 1000 on; got {self.seeds}")
        if not self.metric.startswith("validation_"):
            raise ValueError(f'nothing but a metric "validation_..." may choose a rate; got {self.metric!r}')

    def measure(self, config: Any, seed: int, device: torch.device) -> Mapping[str, float]:
        """Run once; the values that were measured. A training that diverges gives nan.

        Raises:
            ValueError: there is one that is not of the validation part, or the one to go by is missing.
        """
        try:
            values = self.run(config, seed, device)
        except Diverged:  # the rate is too high
            return {self.metric: math.nan}
        if self.metric not in values or not all(name.startswith("validation_") for name in values):
            raise ValueError(
                f'a tuning run gives {self.metric}, and only names that begin with "validation_"; got {list(values)}'
            )
        return values

    def todo(self, scores: Scores) -> list[tuple[float, int]]:
        """The (rate, seed) to run next, by what has been found: the grid, then one rate further at a time.

        Nothing is left when the best rate lies between two others, or at a limit.
        """
        rates = sorted({*self.grid, *scores})
        left = [(rate, seed) for seed in self.seeds for rate in rates if seed not in scores.get(rate, {})]
        if left:
            return left
        best, beyond = self._best(scores), None
        if best == rates[0]:
            beyond = _rounded(rates[0] / (rates[1] / rates[0]))
        elif best == rates[-1]:
            beyond = _rounded(rates[-1] * (rates[-1] / rates[-2]))
        if beyond is None or not self.limits[0] <= beyond <= self.limits[1]:
            return []
        return [(beyond, seed) for seed in self.seeds]

    def choose(self, scores: Scores) -> float | None:
        """The best rate by the mean over the seeds; None while something is left to run."""
        return None if self.todo(scores) else self._best(scores)

    def describe(self, scores: Scores) -> str:
        """The choice in words."""
        best, rates = self._best(scores), sorted(scores)
        mean = np.mean([scores[best][seed] for seed in self.seeds])
        edge = ", the limit" if best in (rates[0], rates[-1]) else ""
        return f"learning rate {best:g}{edge} ({self.metric} {mean:.4g}, best of {len(rates)} rates)"

    def _best(self, scores: Scores) -> float:
        """Of rates that are equally good the one farthest from the ends, then the lower one. A run that diverged, nan,
        is worse than any that did not."""
        rates = sorted(scores)
        sign = 1 if self.maximise else -1

        def rank(rate: float) -> tuple[float, int, float]:
            mean = float(np.mean([scores[rate][seed] for seed in self.seeds]))
            place = rates.index(rate)
            return (-math.inf if math.isnan(mean) else sign * mean, min(place, len(rates) - 1 - place), -rate)

        return max(rates, key=rank)


def at(config: Any, lr: float) -> Any:
    """The configuration with this learning rate."""
    return dataclasses.replace(config, lr=lr)


def scores(trials: Iterable[Trial], tuning: Tuning, variant: str, config: Any) -> dict[float, dict[int, float]]:
    """What was found for a variant, by rate and seed; rows of other configurations do not count."""
    found: dict[float, dict[int, float]] = {}
    for row in trials:
        if row.variant == variant and row.metric == tuning.metric and row.config == config_hash(at(config, row.lr)):
            found.setdefault(row.lr, {})[row.seed] = row.value
    return found


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
