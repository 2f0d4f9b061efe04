"""What a few seeds can tell: means with intervals, paired differences, and the smallest difference one could see."""

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
