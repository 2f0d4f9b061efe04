"""Who may read whom (Figure 3a): asked of the derivative of any module.

Output token t reads input token s exactly when its derivative is not zero, dy_t / dx_s != 0. So the sparsity of the
Jacobian of one random instance is the mixer's mask, whatever the mixer is made of.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

NUMBERS = 2**21  # of input that are differentiated at once


@torch.enable_grad()
def reads(mixer: nn.Module | Callable[[torch.Tensor], torch.Tensor], *shape: int, seed: int = 0) -> torch.Tensor:
    """Which input tokens each output token depends on.

    One backward pass asks for many output tokens: the input is repeated along the batch, copy t is asked for its
    token t alone, in a random direction of its channels, and the gradient of copy t is row t of the answer. The sum
    is in float64; a dependence that is smaller than its smallest number counts as none.

    Args:
        mixer: (batch, tokens, channels) -> (batch, tokens, any channels); sequences of a batch must not mix. A module
            is copied, and the copy evaluated on the CPU in float64; any other function gets float64 and must keep it.
        shape: the tokens' axes, then the channels: ``L, D`` or ``H, W, D``.
        seed: of the random input and directions.

    Returns:
        (L, L) bool in raster order: entry [t, s] is True when output token t reads input token s.

    Raises:
        ValueError: the mixer gives other tokens than it got, or gradients that are not finite.
    """
    if isinstance(mixer, nn.Module):
        mixer = copy.deepcopy(mixer).to("cpu", torch.double).eval().requires_grad_(False)
    tokens, channels = math.prod(shape[:-1]), shape[-1]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.double)
    rows = []
    for asked in torch.arange(tokens).split(max(1, NUMBERS // x.numel())):
        copies = x.expand(len(asked), *shape).clone().requires_grad_()
        y = mixer(copies)
        if y.shape[1:-1] != x.shape[:-1]:
            raise ValueError(f"the mixer must keep its tokens {tuple(shape[:-1])}, but it gave {tuple(y.shape[1:-1])}")
        y = y.reshape(len(asked), tokens, -1)[torch.arange(len(asked)), asked]  # (copies, channels): token t of copy t
        direction = torch.randn(y.shape, generator=generator, dtype=torch.double)
        (gradient,) = torch.autograd.grad((y * direction).sum(), copies)
        if not gradient.isfinite().all():
            raise ValueError("the mixer's gradient is not finite on random input")
        rows.append(gradient.reshape(len(asked), tokens, channels).ne(0).any(-1))
    return torch.cat(rows)


def causal_mask(order: torch.Tensor) -> torch.Tensor:
    """What a causal mixer reads that takes the tokens in this order: those that came no later.

    Args:
        order: (L,), a route of :mod:`mambaout.layers.scans`.

    Returns:
        (L, L) bool, over the tokens at their places in the image (not in the order of reading).
    """
    place = order.argsort()
    return place <= place[:, None]
