"""What a few seeds can tell: means with intervals, paired differences, and the smallest difference one could see."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that covers the true one with the given confidence (Student's t)."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and interval of independent runs, assumed normal.

    Raises:
        ValueError: fewer than two values (one run has no spread), or one that is not finite.
    """
    from scipy.stats import t

    x = _runs(values)
    half = t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(x.mean(), x.mean() - half, x.mean() + half, len(x))


def seeds_needed(
    first: ArrayLike, half_width: float, most: int | None = None, confidence: float = 0.95
) -> int:
    """How many runs an interval of so many units to either side needs, told by the spread of the first runs alone.

    The first stage of Stein's procedure (Stein, 1945, "A two-sample test for a linear hypothesis whose power is
    independent of the variance"): n = (t s / half_width)^2, rounded up, at least as many as there are. It sees the
    standard deviation s of the first runs and nothing else, so neither the sign nor the size of what is measured can
    decide when to stop.

    Args:
        first: the runs of the first stage, at least two.
        half_width: the wanted distance from the mean to either end, in the unit of the runs.
        most: an end to it; the interval is then wider than wanted, and as valid.
        confidence: of the interval.
    """
    from scipy.stats import t

    x = _runs(first)
    if half_width <= 0:
        raise ValueError(f"half_width must be positive, got {half_width}")
    quantile = t.ppf((1 + confidence) / 2, len(x) - 1)
    needed = max(len(x), math.ceil((quantile * x.std(ddof=1) / half_width) ** 2))
    return needed if most is None else min(needed, max(most, len(x)))


def two_stage_interval(values: ArrayLike, first: int, confidence: float = 0.95) -> Interval:
    """The interval of runs whose number :func:`seeds_needed` has set: mean +- t s / sqrt(n), with t and s of the first.

    For normal runs it covers the true mean with exactly this confidence however large n became, since the mean of all
    runs is independent of the standard deviation of the first, which alone decided n. (The usual interval, from the
    standard deviation of all runs, promises too much after such a rule: it is narrow most often where chance made it
    so.) With no run beyond the first stage the two are the same.

    Args:
        values: all runs, those of the first stage in front.
        first: how many runs the first stage had, at least two.
        confidence: of the interval.
    """
    from scipy.stats import t

    x = _runs(values)
    if not 2 <= first <= len(x):
        raise ValueError(f"the first stage must have between 2 and all {len(x)} runs, got {first}")
    half = t.ppf((1 + confidence) / 2, first - 1) * x[:first].std(ddof=1) / np.sqrt(len(x))
    return Interval(x.mean(), x.mean() - half, x.mean() + half, len(x))


def differences(after: Mapping[int, float], before: Mapping[int, float]) -> np.ndarray:
    """after - before for each seed that both have, in order of the seeds: (n,).

    Pairing removes what a seed does to both, such as the images drawn and their order.

    Raises:
        ValueError: they share no seed.
    """
    seeds = sorted(after.keys() & before.keys())
    if not seeds:
        raise ValueError(f"the runs share no seed: {sorted(after)} and {sorted(before)}")
    return np.array([after[seed] - before[seed] for seed in seeds])


def smallest_detectable(values: ArrayLike, confidence: float = 0.95, power: float = 0.8) -> float:
    """The true mean difference that this many paired differences, so spread, would show with probability ``power``.

    (t at the confidence + t at the power) x standard error, the usual approximation for a paired t test. It says how
    fine the instrument is. A null result does not show that the difference is smaller than this; look at the interval.
    """
    from scipy.stats import t

    x = _runs(values)
    quantiles = t.ppf([(1 + confidence) / 2, power], len(x) - 1)
    return float(quantiles.sum() * x.std(ddof=1) / np.sqrt(len(x)))


def _runs(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"an interval needs a row of at least two runs, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"the runs must be finite, got {x.tolist()}")
    return x
