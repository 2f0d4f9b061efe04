"""Typical wrong answers get the hint that fits."""

import math

import pytest
import torch

from mambaout.exercises import check


def place(order):
    return order.argsort()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda order: order <= order[:, None], "invert the permutation"),
        (lambda order: place(order) < place(order)[:, None], "Only the diagonal is missing"),
        (lambda order: place(order)[:, None] <= place(order), "transposed"),
        (lambda order: torch.ones(len(order), len(order)).tril(), "bring it back to the image's order"),
        (lambda order: place(order), "return a tensor of shape (4, 4), got (4,)"),
        (lambda order: torch.ones(len(order), len(order)), "expected [[1, 0, 0, 0]"),
    ],
)
def test_wrong_masks(wrong, hint):
    verdict = check("token_mixing.mask", wrong)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda h, w, k: math.ceil((max(h, w) - 1) / k), "only half of the kernel"),
        (lambda h, w, k: math.ceil((max(h, w) - 1) / (k - 1)), "only half of the kernel"),
        (lambda h, w, k: math.ceil((h + w - 2) / (k // 2)), "also steps diagonally"),
        (lambda h, w, k: math.ceil((h - 1) / (k // 2)), "enough for the shorter side only"),
        (lambda h, w, k: math.ceil(max(h, w) / (k // 2)), "are 6 steps, not 7"),
        (lambda h, w, k: (max(h, w) - 1) // (k // 2), "a part of a layer is a layer"),
        (lambda h, w, k: 99, "expected 5 layers"),
    ],
)
def test_wrong_numbers_of_layers(wrong, hint):
    verdict = check("token_mixing.layers", wrong)
    assert not verdict.passed and hint in verdict.message


def peel(height, width, turn_back=False):
    """A spiral; with `turn_back` it forgets that the innermost ring may be a single line."""
    top, left, bottom, right, order = 0, 0, height - 1, width - 1, []
    while top <= bottom and left <= right:
        order += [top * width + c for c in range(left, right + 1)]
        order += [r * width + right for r in range(top + 1, bottom + 1)]
        if turn_back or top < bottom:
            order += [bottom * width + c for c in range(right - 1, left - 1, -1)]
        if turn_back or left < right:
            order += [r * width + left for r in range(bottom - 1, top, -1)]
        top, left, bottom, right = top + 1, left + 1, bottom - 1, right - 1
    return order


def snake(height, width):
    return [row * width + (width - 1 - c if row % 2 else c) for row in range(height) for c in range(width)]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda h, w: peel(h, w, turn_back=True), "no way back"),
        (lambda h, w: list(range(h * w)), "you jump from (row, column) (0, 1) to (1, 0)"),
        (snake, "leave a ring before all of it is read"),
        (lambda h, w: peel(h, w)[::-1], "begin at token 0"),
        (lambda h, w: peel(h, w)[:-1], "are missing"),
        (lambda h, w: [divmod(token, w) for token in peel(h, w)], "row * width + column"),
        (lambda h, w: torch.tensor([divmod(token, w) for token in peel(h, w)]), "row * width + column"),
    ],
)
def test_wrong_spirals(wrong, hint):
    assert check("token_mixing.spiral", peel).passed
    verdict = check("token_mixing.spiral", wrong)
    assert not verdict.passed and hint in verdict.message
