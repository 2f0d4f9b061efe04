"""The depthwise convolution's own backward against PyTorch's."""

import pytest
import torch
from torch import nn

from mambaout.kernels.convolve import convolve
from mambaout.kernels.depthwise import DepthwiseConv2dFunction, depthwise_conv2d


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (14, 14)])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_gradients_equal_pytorchs(size, kernel_size):
    conv = nn.Conv2d(6, 6, kernel_size, padding=kernel_size // 2, groups=6).double()
    x = torch.randn(2, *size, 6, dtype=torch.double, requires_grad=True)
    upstream = torch.randn_like(x)
    inputs = [x, conv.weight, conv.bias]
    ours = torch.autograd.grad(depthwise_conv2d(conv, x), inputs, upstream)
    theirs = torch.autograd.grad(convolve(conv, x), inputs, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck_twice():
    inputs = [
        torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in [(2, 3, 4, 5), (3, 1, 3, 3), (3,)]
    ]
    assert torch.autograd.gradcheck(DepthwiseConv2dFunction.apply, inputs)
    assert torch.autograd.gradgradcheck(DepthwiseConv2dFunction.apply, inputs)


def test_gradients_in_bfloat16():
    """Under autocast: gradients in float32 for the parameters, as near to the exact ones as PyTorch's own."""
    conv = nn.Conv2d(6, 6, 7, padding=3, groups=6)
    x = torch.randn(8, 14, 14, 6, requires_grad=True)
    upstream = torch.randn_like(x)
    inputs = [x, conv.weight, conv.bias]
    exact = torch.autograd.grad(convolve(conv, x), inputs, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        y, reference = depthwise_conv2d(conv, x), convolve(conv, x)
    assert y.dtype == torch.bfloat16 and type(y.grad_fn.next_functions[0][0]).__name__.startswith("DepthwiseConv2d")
    ours = torch.autograd.grad(y, inputs, upstream.bfloat16())
    theirs = torch.autograd.grad(reference, inputs, upstream.bfloat16())
    for a, b, true in zip(ours, theirs, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - true).norm() <= max(1.5 * (b - true).norm(), 0.01 * true.norm())


def test_an_empty_batch_has_zero_gradients():
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    (gradient,) = torch.autograd.grad(depthwise_conv2d(conv, torch.zeros(0, 4, 4, 6)).sum(), [conv.weight])
    assert not gradient.any()
