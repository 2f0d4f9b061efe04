"""`GatedCNNBlock.forward` on the CPU: the same numbers with fewer copies and passes over memory.

Where the layer takes one product with fc1 and splits it, this takes two with row slices of its weight, each of which
is contiguous: a convolution can read the one part, and `gelu_numba` multiplies the other in a single pass. For the
gradient only the products' inputs are kept, and what lies between is computed again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fused import fused
from .plain import is_plain, is_recorded, is_watched
from .scan_reference import gradients_of, needs_grad

if TYPE_CHECKING:
    from types import ModuleType

    from mambaout.layers.gated_cnn import GatedCNNBlock

CHUNK = 2**19  # numbers in a chunk's hidden activation: 2 MB in float32
NARROW = 256  # hidden channels up to which chunks measured faster


def may_run(block: GatedCNNBlock, x: Tensor) -> bool:
    """Whether nobody can see the difference between :func:`forward` and the layer's own words, and it is no slower."""
    linears = (block.fc1, block.fc2)
    return not is_watched(x) and x.device.type == "cpu" and all(is_plain(linear, nn.Linear) for linear in linears)


def forward(block: GatedCNNBlock, x: Tensor) -> Tensor:
    """(B, H, W, dim) -> (B, H, W, dim). The block's norm, token mixer and drop path are called as ever."""
    normed = block.norm(x)
    hidden, passed, _ = block.split
    upper, lower = _cut(block.fc1.weight, block.fc1.bias, hidden + passed)
    mixed = block.token_mixer(F.linear(normed, *lower))
    return x + block.drop_path(gated_linears(normed, mixed, *upper, block.fc2.weight, block.fc2.bias))


def _cut(weight: Tensor, bias: Tensor | None, first: int) -> tuple[tuple[Tensor, Tensor | None], ...]:
    """A linear layer's weight and bias for its first outputs, and for the others."""
    if bias is None:
        return (weight[:first], None), (weight[first:], None)
    return (weight[:first], bias[:first]), (weight[first:], bias[first:])


def gated_linears(
    x: Tensor, mixed: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> Tensor:
    """(GELU(gate) * (identity, mixed)) W2 + b2, where (gate, identity) = x W1 + b1.

    Args:
        x: (..., dim).
        mixed: (..., convolved).
        weight1, bias1: (hidden + passed, dim) and (hidden + passed,), hidden = passed + convolved.
        weight2, bias2: (dim, hidden) and (dim,).
    """
    given = (x, mixed, weight1, bias1, weight2, bias2)
    single = not torch.is_autocast_enabled("cpu") and all(t is None or t.dtype == torch.float32 for t in given)
    kernels = fused("gelu_numba", *given) if single and mixed.numel() else None
    if kernels is None:
        return _plain(*given)
    x, mixed = (t.reshape(-1, t.shape[-1]) for t in (x, mixed))
    form = partial(_GatedLinears.apply if needs_grad(*given) else _in_chunks, kernels)
    y = form(x, mixed.contiguous(), *given[2:])
    return y.view(*given[0].shape[:-1], y.shape[-1])


def _plain(
    x: Tensor, mixed: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> Tensor:
    """The obvious form, with two products in place of one that would have to be split."""
    gate, identity = (F.linear(x, *rows) for rows in _cut(weight1, bias1, weight2.shape[1]))
    return F.linear(F.gelu(gate) * torch.cat((identity, mixed), dim=-1), weight2, bias2)


def _in_chunks(
    kernels: ModuleType,
    x: Tensor,
    mixed: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
) -> Tensor:
    """Without gradients, and in narrow blocks a few thousand tokens at a time: x (T, dim), mixed (T, convolved).

    The hidden activations of a chunk stay in the cache, where those of a whole batch would go to memory and back.
    Wide blocks have fewer tokens and spend their time in the products, which prefer all tokens at once.
    """
    hidden = weight2.shape[1]
    rows = CHUNK // hidden if hidden <= NARROW else len(x)
    if rows >= len(x):
        return F.linear(kernels.gelu_product(F.linear(x, weight1, bias1), mixed), weight2, bias2)
    y = x.new_empty(len(x), len(weight2))
    for x_c, mixed_c, y_c in zip(*(t.split(rows) for t in (x, mixed, y)), strict=True):
        product = kernels.gelu_product(F.linear(x_c, weight1, bias1), mixed_c)
        torch.mm(product, weight2.t(), out=y_c)
    return y if bias2 is None else y.add_(bias2)


class _GatedLinears(torch.autograd.Function):
    """`gated_linears` on x (T, dim) and mixed (T, convolved), twice differentiable."""

    @staticmethod
    def forward(ctx, kernels, x, mixed, weight1, bias1, weight2, bias2):
        gate_identity = F.linear(x, weight1, bias1)  # (T, hidden + passed)
        ctx.kernels = kernels
        ctx.save_for_backward(x, mixed, weight1, bias1, weight2, bias2, gate_identity)
        return F.linear(kernels.gelu_product(gate_identity, mixed), weight2, bias2)

    @staticmethod
    def backward(ctx, grad):
        *inputs, gate_identity = ctx.saved_tensors
        if torch.is_grad_enabled() or is_recorded(grad):  # a second derivative, or gradients in batches
            return None, *gradients_of(lambda *given: (_plain(*given),), inputs, (grad,))
        x, mixed, weight1, _, weight2, _ = inputs
        product, d_gate_identity, d_mixed = ctx.kernels.gelu_product_backward(grad @ weight2, gate_identity, mixed)
        needed = ctx.needs_input_grad[1:]
        return (
            None,
            d_gate_identity @ weight1 if needed[0] else None,
            d_mixed,
            d_gate_identity.t() @ x if needed[2] else None,
            d_gate_identity.sum(0) if needed[3] else None,
            grad.t() @ product if needed[4] else None,
            grad.sum(0) if needed[5] else None,
        )
