"""Depthwise convolution on (B, H, W, C), with faster gradients on the CPU."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.convolve import convolve
from mambaout.kernels.fused import fused
from mambaout.kernels.plain import is_plain, is_watched


def depthwise_conv2d(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Apply a depthwise convolution of stride 1 to (B, H, W, C).

    Where PyTorch's backward is slow (training on the CPU), :class:`DepthwiseConv2dFunction` computes the same
    gradients faster.
    """
    slow_backward = (
        not is_watched(x)
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and is_plain(conv, nn.Conv2d)
        and conv.weight.requires_grad
        and x.numel() > 0  # the weight's gradient has as many groups as images
    )
    if slow_backward and _keeps_size(conv):
        return DepthwiseConv2dFunction.apply(x.permute(0, 3, 1, 2), conv.weight, conv.bias).permute(0, 2, 3, 1)
    return convolve(conv, x)


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether it is what the Function computes: a square odd kernel for each channel, and zeros around the image."""
    channels, one, k, k2 = conv.weight.shape
    return (
        (one, k2, k % 2) == (1, k, 1)
        and conv.groups == channels
        and (conv.stride, conv.dilation, conv.padding_mode) == ((1, 1), (1, 1), "zeros")
        and conv.padding in ((k // 2, k // 2), "same")
    )


class DepthwiseConv2dFunction(torch.autograd.Function):
    """conv2d(x, weight, bias, padding="same", groups=C) with its own backward; twice differentiable.

    The input's gradient is again a depthwise convolution, with the kernels turned by 180 degrees. The weight's
    gradient is a correlation of each channel of x with the same channel of the output's gradient: a depthwise
    convolution too, over B * C channels, with the gradient as kernels; in float32 `depthwise_numba` is faster still.
    Under autocast both run in the lower precision of the output, and the sum over the batch in the weight's own.
    """

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x (B, C, H, W), weight (C, 1, k, k), bias (C,) or None -> (B, C, H, W)."""
        weight = weight.contiguous(memory_format=torch.channels_last)  # PyTorch takes a slower kernel without
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """Keep what backward needs."""
        ctx.save_for_backward(*inputs[:2])
        ctx.has_bias = inputs[2] is not None

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """(B, C, H, W) -> gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        (batch, channels, height, width), k = x.shape, weight.shape[-1]
        grad_x = None
        if ctx.needs_input_grad[0]:
            turned = weight.to(grad.dtype).flip(2, 3).contiguous(memory_format=torch.channels_last)
            grad_x = F.conv2d(grad, turned, padding=k // 2, groups=channels).to(x.dtype)
        if grad.dtype == x.dtype == torch.float32 and channels % 16 == 0 and not torch.is_grad_enabled():
            kernels = fused("depthwise_numba", x, grad)
            if kernels is not None:
                images = (x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1))
                grad_weight, grad_bias = kernels.depthwise_weight_gradient(*images, k)
                return grad_x, grad_weight, grad_bias if ctx.has_bias else None
        grad_weight = F.conv2d(
            x.to(grad.dtype).reshape(1, batch * channels, height, width),
            grad.reshape(batch * channels, 1, height, width),
            padding=k // 2,
            groups=batch * channels,
        )  # (1, B C, k, k)
        grad_weight = grad_weight.reshape(batch, channels, 1, k, k).sum(0, dtype=weight.dtype)
        return grad_x, grad_weight, grad.sum((0, 2, 3), dtype=weight.dtype) if ctx.has_bias else None
