"""Typical wrong answers get the hint that fits."""

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from mambaout.exercises import check


def half(a, b, quantile=0.975, free=1, ddof=1, root=True, z=None):
    """A paired interval with something wrong."""
    d = np.subtract(a, b)
    width = (z or t.ppf(quantile, len(d) - free)) * d.std(ddof=ddof) / (np.sqrt(len(d)) if root else 1)
    return d.mean(), d.mean() - width, d.mean() + width


def unpaired(a, b):
    interval = ttest_ind(a, b).confidence_interval()
    return np.mean(a) - np.mean(b), interval.low, interval.high


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("paired_interval", lambda a, b: half(b, a), "The sign is turned round"),
        ("paired_interval", unpaired, "two independent groups"),
        ("paired_interval", lambda a, b: half(a, b, z=1.96), "1.96 is for many runs"),
        ("paired_interval", lambda a, b: half(a, b, 0.95), "That covers 90 %"),
        ("paired_interval", lambda a, b: half(a, b, free=0), "n - 1 are left"),
        ("paired_interval", lambda a, b: half(a, b, ddof=0), "divides by n - 1"),
        ("paired_interval", lambda a, b: half(a, b, root=False), "The mean of n of them varies less"),
        ("paired_interval", lambda a, b: np.mean(a), "Return three numbers"),
        ("paired_interval", lambda a, b: (0.5, 0, 1), "The mean difference is 0.01600 here"),
        ("paired_interval", lambda a, b: (half(a, b)[0], 0, 1), "For 5 seeds expected"),
        ("hidden_channels", lambda dim, hidden, extra: hidden + round(extra / (3 * dim + 2)), "must give some up"),
        ("hidden_channels", lambda dim, hidden, extra: hidden - round(extra / (2 * dim + 1)), "a gate and a value"),
        ("hidden_channels", lambda dim, hidden, extra: hidden - round(extra / (2 * dim + 2)), "The second layer has"),
        ("hidden_channels", lambda dim, hidden, extra: hidden - round(extra / (3 * dim)), "a bias each"),
        ("hidden_channels", lambda dim, hidden, extra: hidden - extra / (3 * dim + 2), "whole number of channels"),
        ("hidden_channels", lambda dim, hidden, extra: "85", "Return one number"),
        ("hidden_channels", lambda dim, hidden, extra: 1, "expected 44"),
    ],
)
def test_a_wrong_answer_gets_its_hint(name, answer, hint):
    verdict = check(f"hypothesis_1.{name}", answer)
    assert not verdict.passed and hint in verdict.message, verdict
