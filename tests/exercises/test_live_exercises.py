"""Typical wrong answers get the hint that fits."""

import pytest
import torch
from torch.nn import functional as F

from mambaout.exercises import check


def doubling(a, b, fill=1.0, new_a=False, grow=True, steps=99):
    """The solution with one mistake at a time."""
    reach = 1
    while reach < len(a) and steps:
        longer = a * F.pad(a[:-reach], (reach, 0), value=fill)
        b = b + (longer if new_a else a) * F.pad(b[:-reach], (reach, 0))
        a = longer if grow else a
        reach, steps = 2 * reach, steps - 1
    return b


def in_place(a, b):
    h = doubling(a, b)
    b[0] += 1
    return h


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda a, b: doubling(a.flip(0), b.flip(0)).flip(0), "take in what stands to the left"),
        (lambda a, b: doubling(a, b, steps=1), "one step is not enough"),
        (lambda a, b: doubling(a, b, new_a=True), "use the `a` from before that step"),
        (lambda a, b: doubling(a, b, grow=False), "Does a token's `a` grow as well"),
        (lambda a, b: doubling(a, b)[-1], "return a tensor of shape"),
        (lambda a, b: None, "got NoneType"),
        (in_place, "changes its arguments in place"),
    ],
)
def test_wrong_scans(wrong, hint):
    verdict = check("live.doubling", wrong)
    assert not verdict.passed and hint in verdict.message


def test_a_fill_of_zero_in_the_kept_share_does_no_harm():
    """Before the first token stands state 0, so that what is kept of it does not matter."""
    assert check("live.doubling", lambda a, b: doubling(a, b, fill=0.0)).passed
    assert torch.equal(*(doubling(*torch.ones(2, 5), fill=fill) for fill in (0.0, 1.0)))
