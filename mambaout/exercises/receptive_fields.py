"""Checks of the exercises of the chapter on effective receptive fields."""

import math
from typing import Any

import numpy as np
from torch import nn

from mambaout.analysis.receptive_measures import FieldMap
from mambaout.analysis.receptive_theory import theoretical_receptive_field
from mambaout.exercises import NotYet, exercise, number


@exercise("receptive_fields.size")
def _size(answer: Any) -> None:
    """each kernel counts in the pixels that its input's neighbours are apart: the product of the strides before it."""
    chains = ([(3, 1)], [(3, 1), (3, 1)], [(3, 2), (3, 1)], [(4, 4), (7, 1), (7, 1)], [(3, 2), (3, 2), (7, 1), (3, 2)])
    for layers in chains:
        right = _theory(layers)
        found = number(answer(layers), f"the layers {layers}")
        if found == right:
            continue
        case = f"For the (kernel, stride) pairs {layers} came {found:g}"
        hints = {
            math.prod(kernel for kernel, _ in layers): "kernels do not multiply: each layer adds to what is there.",
            1 + sum(kernel - 1 for kernel, _ in layers): "strides have no effect yet, but after one of them neighbours "
            "are further apart.",
            sum(kernel for kernel, _ in layers): "windows overlap: a layer adds its kernel less one.",
            _own_stride_first(layers): "a layer's own stride spreads what comes after it, not its own kernel.",
            right - 1: "one pixel is missing: before any layer, an output is one pixel.",
        }
        raise NotYet(f"{case}: {hints.get(int(found), f'expected {right}.')}")


def _theory(layers: list[tuple[int, int]]) -> int:
    chain = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride) for kernel, stride in layers))
    size = theoretical_receptive_field(chain).size
    if size is None:
        raise AssertionError("convolutions have a size")
    return size[0]


def _own_stride_first(layers: list[tuple[int, int]]) -> int:
    size, jump = 1, 1
    for kernel, stride in layers:
        jump *= stride
        size += (kernel - 1) * jump
    return size


@exercise("receptive_fields.area")
def _area(answer: Any) -> None:
    """sort, add up, count: no unit, no middle pixel, no square."""
    draw = np.random.default_rng(0)
    maps = [np.eye(4), np.pad(np.ones((2, 3)), 4), draw.random((6, 9)) ** 4, 1e6 * draw.random((5, 5)) ** 2]
    for values in maps:
        for share in (0.5, 0.9):
            right = math.ceil(FieldMap(values, (0, 0)).area(share) - 1e-9)
            found = number(answer(values.copy(), share), f"a map of {values.shape} and the share {share}")
            if found == right:
                continue
            case = f"For a map of {values.shape[0]} x {values.shape[1]} and the share {share} came {found:g}"
            smallest_first = np.cumsum(np.sort(values, axis=None))
            hints = {
                int((values > (1 - share) * values.max()).sum()): "that counts pixels above a threshold; count mass.",
                int((values >= share * values.max()).sum()): "that counts pixels above a threshold; count mass.",
                int(np.searchsorted(smallest_first, share * smallest_first[-1])) + 1: "take the largest pixels first.",
                right - 1: "these pixels hold less than the share; one more is needed.",
            }
            raise NotYet(f"{case}: {hints.get(int(found), f'expected {right}.')}")
