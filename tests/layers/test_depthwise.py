"""The depthwise convolution's own backward against PyTorch's."""

import pytest
import torch
from torch import nn

from mambaout.layers.depthwise import DepthwiseConv2dFunction, depthwise_conv2d
from mambaout.layers.downsample import convolve


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
