"""Checks of the exercises of the chapter on Hypothesis 1."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t, ttest_ind

from mambaout.analysis.statistics import mean_interval
from mambaout.exercises import NotYet, exercise, number

# Accuracies with a large spread between the seeds that both models share, and with a small one.
CASES = (
    ([0.62, 0.70, 0.55, 0.66, 0.74], [0.60, 0.69, 0.54, 0.63, 0.73]),
    ([0.811, 0.806, 0.809, 0.814], [0.812, 0.803, 0.810, 0.809]),
)


def _close(found: Sequence[float], right: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(found, right, strict=True))


@exercise("hypothesis_1.paired_interval")
def _paired_interval(answer: Any) -> None:
    """the differences of the seeds are the sample, and with n of them Student's t has n - 1 degrees of freedom."""
    for a, b in CASES:
        try:
            mean, low, high = (float(value) for value in answer(a, b))
        except (TypeError, ValueError):
            raise NotYet("Return three numbers: the mean difference, and the two ends of the interval.") from None
        found, right = (low, high), mean_interval(np.subtract(a, b))
        if math.isclose(mean, -right.mean, rel_tol=1e-6):
            raise NotYet("The sign is turned round: take the first model minus the second.")
        if not math.isclose(mean, right.mean, rel_tol=1e-6):
            raise NotYet(f"The mean difference is {right.mean:.5f} here, and you return {mean:.5f}.")
        if _close(found, (right.low, right.high)):
            continue
        half, spread = (high - low) / 2, np.subtract(a, b).std(ddof=1) / math.sqrt(right.n)
        unpaired = ttest_ind(a, b, equal_var=False).confidence_interval()
        pooled = ttest_ind(a, b).confidence_interval()
        if any(_close(found, (interval.low, interval.high)) for interval in (unpaired, pooled)):
            raise NotYet("This is the interval for two independent groups. These are pairs: take differences first.")
        if math.isclose(half, 1.96 * spread, rel_tol=1e-3):
            raise NotYet("1.96 is for many runs. With a handful, take the quantile of Student's t.")
        if math.isclose(half, t.ppf(0.95, right.n - 1) * spread, rel_tol=1e-3):
            raise NotYet("That covers 90 %: 2.5 % lie outside on each side, so the quantile is that of 0.975.")
        if math.isclose(half, t.ppf(0.975, right.n) * spread, rel_tol=1e-3):
            raise NotYet("One degree of freedom goes to the mean: n - 1 are left.")
        if math.isclose(half, t.ppf(0.975, right.n - 1) * spread * math.sqrt((right.n - 1) / right.n), rel_tol=1e-3):
            raise NotYet("The standard deviation of a sample divides by n - 1 (ddof=1).")
        if math.isclose(half, t.ppf(0.975, right.n - 1) * spread * math.sqrt(right.n), rel_tol=1e-3):
            raise NotYet("That is where single seeds lie. The mean of n of them varies less, by sqrt(n).")
        raise NotYet(f"For {right.n} seeds expected [{right.low:.5f}, {right.high:.5f}], got [{low:.5f}, {high:.5f}].")


@exercise("hypothesis_1.hidden_channels")
def _hidden_channels(answer: Any) -> None:
    """a hidden channel costs a gate, a value, their two biases, and a column of the last layer."""
    for dim, hidden, extra in ((32, 85, 4_000), (64, 170, 16_640), (96, 256, 0), (384, 1024, 100_000)):
        right = hidden - round(extra / (3 * dim + 2))
        found = number(answer(dim, hidden, extra), f"dim={dim}")
        if found == right:
            continue
        case = f"For dim={dim}, hidden={hidden}, extra={extra} came {found:g}"
        if found != round(found):
            raise NotYet(f"{case}. A layer has a whole number of channels: round.")
        if found == hidden + round(extra / (3 * dim + 2)):
            raise NotYet(f"{case}. The mixer brings parameters, so the linear layers must give some up.")
        if found in (hidden - round(extra / (2 * dim + 1)), hidden - round(extra / (2 * dim))):
            raise NotYet(f"{case}. The first layer makes a gate and a value: two outputs for each hidden channel.")
        if found == hidden - round(extra / (2 * dim + 2)):
            raise NotYet(f"{case}. The second layer has a column for each hidden channel, too.")
        if found == hidden - round(extra / (3 * dim)):
            raise NotYet(f"{case}. The first layer's two outputs have a bias each.")
        if found == hidden - round(extra / (3 * dim + 3)):
            raise NotYet(f"{case}. The bias of the second layer has one number for each of its outputs: it stays.")
        raise NotYet(f"{case}, expected {right}.")
