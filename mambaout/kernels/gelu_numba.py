"""GELU(gate) * value, and its gradients, as one pass over memory: compiled by numba.

As separate operations of PyTorch this is GELU, a concatenation and a product forward, and five more passes backward,
each of which reads and writes arrays larger than the cache.
"""

import math
from typing import Any

import numpy as np
import torch
from numba import float32, int64, njit, types, void
from torch import Tensor

from .compiled import compiled
from .threads import share
from .vectors import LANES, exp2, load, load_first, maximum, store, store_first, where_positive

ROWS = types.Array(float32, 2, "C")
LEAST = 2**15  # numbers that are worth a thread of its own

# Abramowitz and Stegun, 7.1.26: erfc(z) = t (c1 + t (c2 + ...)) exp(-z^2) with t = 1 / (1 + p z), z >= 0, to 1.5e-7.
_P = np.float32(0.3275911 / math.sqrt(2))
_C = tuple(np.float32(c / 2) for c in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))
_HALF_LOG2E = np.float32(-0.5 * math.log2(math.e))
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))
_ONE = np.float32(1)


@njit(inline="always")
def _normal(x):
    """Of the standard normal distribution: the probability below x, and x times the density at x."""
    t = _ONE / (_ONE + _P * maximum(x, np.float32(-1) * x))
    bell = exp2(_HALF_LOG2E * x * x)
    tail = t * (_C[0] + t * (_C[1] + t * (_C[2] + t * (_C[3] + t * _C[4])))) * bell  # the probability beyond |x|
    return where_positive(x, _ONE - tail, tail), _DENSITY * x * bell


@njit(inline="always")
def _read(array, row, column, count):
    return load(array, (row, column)) if count >= LANES else load_first(array, (row, column), count)


@njit(inline="always")
def _write(array, row, column, value, count):
    if count >= LANES:
        store(array, (row, column), value)
    else:
        store_first(array, (row, column), value, count)


@compiled(void(int64, int64, ROWS, ROWS, ROWS))
def _forward_kernel(first, stop, gate_identity, mixed, out):
    """Rows `first` to `stop`; shapes as in `gelu_product`."""
    hidden = out.shape[1]
    passed = hidden - mixed.shape[1]
    for row in range(first, stop):
        for j in range(0, passed, LANES):
            count = passed - j
            gate = _read(gate_identity, row, j, count)
            below, _ = _normal(gate)
            _write(out, row, j, gate * below * _read(gate_identity, row, hidden + j, count), count)
        for j in range(passed, hidden, LANES):
            count = hidden - j
            gate = _read(gate_identity, row, j, count)
            below, _ = _normal(gate)
            _write(out, row, j, gate * below * _read(mixed, row, j - passed, count), count)


@compiled(void(int64, int64, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS))
def _backward_kernel(first, stop, grad, gate_identity, mixed, out, d_gate_identity, d_mixed):
    """The same rows of all gradients, and `out` once more, which need not be kept."""
    hidden = out.shape[1]
    passed = hidden - mixed.shape[1]
    for row in range(first, stop):
        for j in range(0, passed, LANES):
            count = passed - j
            g, gate = _read(grad, row, j, count), _read(gate_identity, row, j, count)
            value = _read(gate_identity, row, hidden + j, count)
            below, slope = _normal(gate)
            _write(out, row, j, gate * below * value, count)
            _write(d_gate_identity, row, j, g * value * (below + slope), count)
            _write(d_gate_identity, row, hidden + j, g * gate * below, count)
        for j in range(passed, hidden, LANES):
            count = hidden - j
            g, gate = _read(grad, row, j, count), _read(gate_identity, row, j, count)
            value = _read(mixed, row, j - passed, count)
            below, slope = _normal(gate)
            _write(out, row, j, gate * below * value, count)
            _write(d_gate_identity, row, j, g * value * (below + slope), count)
            _write(d_mixed, row, j - passed, g * gate * below, count)


def _run(kernel: Any, *arrays: Tensor) -> None:
    """Run a kernel over all rows, on as many threads as PyTorch uses."""
    given = [array.detach().numpy() for array in arrays]
    rows, columns = arrays[0].shape
    share(lambda thread, first, stop: kernel(first, stop, *given), rows, -(-LEAST // max(1, columns)))


def gelu_product(gate_identity: Tensor, mixed: Tensor) -> Tensor:
    """GELU(gate) * (identity, mixed).

    Args:
        gate_identity: (T, hidden + passed), contiguous: hidden gates, then the value channels that are not mixed.
        mixed: (T, hidden - passed), contiguous: the value channels that are.

    Returns:
        (T, hidden).
    """
    out = gate_identity.new_empty(len(mixed), (gate_identity.shape[1] + mixed.shape[1]) // 2)
    _run(_forward_kernel, gate_identity, mixed, out)
    return out


def gelu_product_backward(grad: Tensor, gate_identity: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the product's gradient (T, hidden): the product itself, and the gradients of both arguments."""
    out, d_gate_identity, d_mixed = (torch.empty_like(t) for t in (grad, gate_identity, mixed))
    _run(_backward_kernel, grad, gate_identity, mixed, out, d_gate_identity, d_mixed)
    return out, d_gate_identity, d_mixed
