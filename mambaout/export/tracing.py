"""From a PyTorch function to the list of its operations, gradients among them.

A tracer runs the function once on tensors that have shapes and no numbers, and writes down each operation. The
function may call :func:`torch.func.vjp`: a gradient is made of operations like any other, so it can be written down,
and run where there is no autograd.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import Graph
from torch.nn import functional as F

aten = torch.ops.aten


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, output_padding: list[int], groups: int, mask: list[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """The gradient of the input alone: one transposed convolution."""
    if transposed or mask[1] or mask[2] or dilation != [1, 1]:
        raise NotImplementedError("only the gradient of a plain convolution's input is exported, not of its weights")
    sizes = zip(x.shape[2:], grad.shape[2:], weight.shape[2:], stride, padding, strict=True)
    # Rows and columns at the far edge that no output reaches when the stride does not divide the size.
    extra = [n - ((m - 1) * s - 2 * p + k) for n, m, k, s, p in sizes]
    return F.conv_transpose2d(grad, weight, None, stride, padding, extra, groups), None, None


def _slice_backward(grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """Zeros around the slice."""
    if step != 1:
        raise NotImplementedError("the gradient of a slice with steps is not exported")
    rank, dim = len(sizes), dim % len(sizes)
    start = start % sizes[dim] if start < 0 else start
    after = sizes[dim] - start - grad.shape[dim]
    return F.pad(grad, [0, 0] * (rank - 1 - dim) + [start, after])


def _softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    """Without the case for large arguments, where the sigmoid is 1 in float32 anyway."""
    return grad * torch.sigmoid(x * beta)


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    **get_decompositions([
        aten.native_layer_norm_backward, aten.gelu_backward, aten._softmax_backward_data, aten.select_backward,
        aten.addmm, aten.split_with_sizes_copy, aten.sigmoid_backward,
    ]),
    aten.convolution_backward.default: _convolution_backward,
    aten.slice_backward.default: _slice_backward,
    aten.softplus_backward.default: _softplus_backward,
}  # fmt: skip


def trace(function: Callable[..., Any], *example: Any) -> Graph:
    """The operations of ``function(*example)``, with the shape and type of every result in ``node.meta["val"]``.

    Args:
        function: takes and returns tensors, dicts and tuples of them; what it does may depend on shapes, not on values.
        example: arguments of the right shapes and types.

    Returns:
        A graph without operations whose result nobody uses. Its placeholders are the tensors of ``example`` in order.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    module = make_fx(function, decomposition_table=dict(DECOMPOSITIONS), tracing_mode="fake")(*example)
    module.graph.eliminate_dead_code()
    return module.graph
