"""Typical wrong answers get the hint that fits."""

import math

import pytest
import torch
from torch.nn import functional as F

from mambaout.exercises import check


def rate(t, steps, warmup, peak, start, end, *, first=0, begin=None, last=1, rise=None, fall=None):
    if t < warmup:
        rise = start if rise is None else rise
        return rise + (peak - rise) * (t + first) / warmup
    begin = warmup if begin is None else begin
    fall = end if fall is None else fall
    return fall + (peak - fall) * (1 + math.cos(math.pi * (t - begin) / (steps - last - begin))) / 2


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda *a: rate(*a, rise=0.0), "begins at start, not at 0"),
        (lambda *a: rate(*a, first=1), "counted from 0"),
        (lambda *a: rate(*a, begin=0), "begins where the warm-up ends"),
        (lambda *a: rate(*a, last=0), "The last step is steps - 1"),
        (lambda *a: rate(*a, fall=0.0), "not to 0"),
        (lambda t, steps, warmup, peak, start, end: peak, "rises in a straight line"),
        (lambda t, steps, warmup, *a: rate(t, steps, warmup, *a) if t < warmup else 7.0, "came 7, expected"),
        (lambda *a: torch.ones(2), "Return one number"),
    ],
)
def test_wrong_schedules(wrong, hint):
    assert check("training.rate", rate).passed
    verdict = check("training.rate", wrong)
    assert not verdict.passed and hint in verdict.message


def log_p(logits, labels):
    return logits.log_softmax(-1)[torch.arange(len(labels)), labels]


def over_others(logits, labels, epsilon):
    rest = logits.log_softmax(-1).sum(-1) - log_p(logits, labels)
    return -((1 - epsilon) * log_p(logits, labels) + epsilon * rest / (logits.shape[1] - 1)).mean()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda z, y, e: F.cross_entropy(z, y), "without smoothing"),
        (over_others, "the true one included"),
        (lambda z, y, e: F.cross_entropy(z, y, label_smoothing=e, reduction="sum"), "take their mean"),
        (lambda z, y, e: -F.cross_entropy(z, y, label_smoothing=e), "the sign is missing"),
        (lambda z, y, e: -((1 - e) * log_p(z, y) + e * z.log_softmax(-1).sum(-1)).mean(), "take the mean over the"),
        (lambda z, y, e: F.cross_entropy(z, y, label_smoothing=e, reduction="none"), "one number; got the shape (4,)"),
        (lambda z, y, e: 0.0, "came 0.0000, expected"),
    ],
)
def test_wrong_losses(wrong, hint):
    verdict = check("training.smooth_loss", wrong)
    assert not verdict.passed and hint in verdict.message


def cut(numbers, micro):
    return [numbers[i : i + micro] for i in range(0, len(numbers), micro)]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda r, b, p, m: cut(list(range(r, b, p)), m), "a process takes neighbours"),
        (lambda r, b, p, m: [list(range(r * b // p, (r + 1) * b // p))], "have the sizes [4]"),
        (lambda r, b, p, m: cut(list(range(b)), m), "came 8 images; its share are 4"),
        (lambda r, b, p, m: cut(list(range(b // p)), m), "which an earlier process has taken"),
        (lambda r, b, p, m: list(range(m)), "a list of lists"),
        (lambda r, b, p, m: cut(list(range(b // p))[::-1], m), "expected [0, 1, 2, 3]"),
    ],
)
def test_wrong_shares(wrong, hint):
    verdict = check("training.share", wrong)
    assert not verdict.passed and hint in verdict.message
