"""Convolutions on images whose channels stand last, (B, H, W, C)."""

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.plain import is_plain, is_watched


def convolve(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Apply a convolution to (B, H, W, C): no copy when x is contiguous.

    Where each output reads few channels (the first layer, a depthwise layer), the weight goes along in
    channels-last order: PyTorch would else choose a kernel that is up to four times slower. The parameter itself
    is stored contiguous, as safetensors asks for.
    """
    x = x.permute(0, 3, 1, 2)
    if not is_watched(x) and is_plain(conv, nn.Conv2d) and conv.weight.shape[1] <= 4 and conv.padding_mode == "zeros":
        weight = conv.weight.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    else:
        y = conv(x)
    return y.permute(0, 2, 3, 1)
