"""Typical wrong answers get the hint that fits."""

import math

import numpy as np
import pytest

from mambaout.exercises import check


def own_stride_first(layers):
    size, jump = 1, 1
    for kernel, stride in layers:
        jump *= stride
        size += (kernel - 1) * jump
    return size


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda layers: math.prod(k for k, _ in layers), "kernels do not multiply"),
        (lambda layers: 1 + sum(k - 1 for k, _ in layers), "strides have no effect yet"),
        (lambda layers: sum(k for k, _ in layers), "windows overlap"),
        (own_stride_first, "a layer's own stride spreads what comes after it"),
        (lambda layers: 2, "one pixel is missing"),
        (lambda layers: 99, "expected 3"),
        (lambda layers: [3], "Return one number"),
    ],
)
def test_wrong_sizes(wrong, hint):
    verdict = check("receptive_fields.size", wrong)
    assert not verdict.passed and hint in verdict.message


def held(values, share):
    return np.searchsorted(np.cumsum(np.sort(values, axis=None)[::-1]) / values.sum(), share * (1 - 1e-12))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda values, share: int((values >= share * values.max()).sum()), "count mass"),
        (lambda values, share: int((values > (1 - share) * values.max()).sum()), "count mass"),
        (
            lambda values, share: int(np.searchsorted(np.cumsum(np.sort(values, axis=None)), share * values.sum())) + 1,
            "take the largest pixels first",
        ),
        (lambda values, share: int(held(values, share)), "one more is needed"),
        (lambda values, share: 0.37, "expected 2"),
        (lambda values, share: None, "Return one number"),
    ],
)
def test_wrong_areas(wrong, hint):
    verdict = check("receptive_fields.area", wrong)
    assert not verdict.passed and hint in verdict.message
