"""The weight's gradient of a depthwise convolution on (B, H, W, C), where a CPU's convolution library is slow."""

import numpy as np
from numba import float32, int64, types, void
from torch import Tensor

from .compiled import compiled
from .threads import share
from .vectors import LANES, load, splat, store

IMAGES = types.Array(float32, 4, "C")  # (B, H, W, C)
SUMS = types.Array(float32, 3, "C")  # (B, k * k + 1, C): the kernel's gradient, and the bias's
LEAST = 2**18  # products that are worth a thread of its own


@compiled(void(int64, int64, IMAGES, IMAGES, int64, SUMS))
def _kernel(first, stop, x, grad, k, sums):
    """Programs `first` to `stop`, an image and sixteen channels each."""
    _, height, width, channels = x.shape
    blocks = channels // LANES
    reach = k // 2
    for program in range(first, stop):
        b, c = program // blocks, program % blocks * LANES
        for tap in range(k * k + 1):
            store(sums, (b, tap, c), splat(np.float32(0)))
        for row in range(height):
            total = load(sums, (b, k * k, c))
            for column in range(width):
                total = total + load(grad, (b, row, column, c))
            store(sums, (b, k * k, c), total)
            for i in range(max(0, reach - row), min(k, height + reach - row)):
                above = row + i - reach
                for j in range(k):
                    left, right = max(0, reach - j), min(width, width + reach - j)
                    shift = j - reach
                    # Four sums side by side: one alone would wait for itself at each step.
                    s0 = load(sums, (b, i * k + j, c))
                    s1 = s2 = s3 = splat(np.float32(0))
                    column = left
                    while column + 3 < right:
                        s0 = s0 + load(grad, (b, row, column, c)) * load(x, (b, above, column + shift, c))
                        s1 = s1 + load(grad, (b, row, column + 1, c)) * load(x, (b, above, column + 1 + shift, c))
                        s2 = s2 + load(grad, (b, row, column + 2, c)) * load(x, (b, above, column + 2 + shift, c))
                        s3 = s3 + load(grad, (b, row, column + 3, c)) * load(x, (b, above, column + 3 + shift, c))
                        column += 4
                    while column < right:
                        s0 = s0 + load(grad, (b, row, column, c)) * load(x, (b, above, column + shift, c))
                        column += 1
                    store(sums, (b, i * k + j, c), (s0 + s1) + (s2 + s3))


def depthwise_weight_gradient(x: Tensor, grad: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Gradients of the weight (C, 1, k, k) and the bias (C,) of a convolution of stride 1 that keeps the size.

    Args:
        x: its input (B, H, W, C), float32, C a multiple of 16.
        grad: the gradient of its output, of the same shape.
        kernel_size: k, odd.
    """
    x, grad = x.contiguous(), grad.contiguous()
    batch, height, width, channels = x.shape
    taps = kernel_size**2
    sums = x.new_empty(batch, taps + 1, channels)
    arrays = (x.detach().numpy(), grad.detach().numpy(), kernel_size, sums.numpy())
    programs = batch * (channels // LANES)
    least = -(-LEAST // (height * width * taps * LANES))
    share(lambda thread, first, stop: _kernel(first, stop, *arrays), programs, least)
    whole = sums.sum(0)  # (k * k + 1, C)
    return whole[:taps].t().reshape(channels, 1, kernel_size, kernel_size), whole[taps]
