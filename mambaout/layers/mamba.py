"""The Mamba block as the paper draws it: a Gated CNN block plus an SSM (Figure 1a, Eq. 11), along any token order."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.plain import is_plain, is_watched
from mambaout.layers.gated_cnn import GatedCNNBlock
from mambaout.layers.scans import inverse, routes
from mambaout.layers.ssm import SelectiveSSM, ssm_along


class MambaBlock(GatedCNNBlock):
    """:class:`GatedCNNBlock` whose token mixer is SSM(GELU(Conv(Z))) in place of Conv(Z)   (Eq. 11).

    Everything else is inherited, so that a comparison of the two changes one thing. The SSM reads the
    convolved channels as tokens in raster order: row after row, each from left to right.
    Mamba's own block (Gu & Dao, 2023, Figure 3) differs in details that the paper leaves aside:
    a causal 1-D convolution of width 4, SiLU, and RMSNorm.

    With another ``scan`` the block is that of a *visual Mamba*: an SSM of its own along each route, as in Vim and
    VMamba, each with its own selection parameters, A and D. Their outputs are averaged. VMamba adds them, and brings
    the sum back to scale by a LayerNorm, which this block has not; Vim's released models halve the sum of their two.
    Sum and mean can express the same functions, but only the mean starts at the same scale for any number of routes.

    Args:
        d_state: numbers of state per channel.
        scan: name of the token order, one of :data:`mambaout.layers.scans.SCANS`.
        others: see :class:`GatedCNNBlock`.
    """

    def __init__(self, dim: int, *, d_state: int = 16, scan: str = "raster", **block: Any) -> None:
        super().__init__(dim, **block)
        self.scan = scan
        ssms = [SelectiveSSM(self.split[-1], d_state=d_state) for _ in routes(scan, 1, 1)]
        self.ssm = ssms[0] if len(ssms) == 1 else nn.ModuleList(ssms)

    def token_mixer(self, x: torch.Tensor) -> torch.Tensor:
        """SSM(GELU(Conv(Z))): (B, H, W, conv_channels) -> same shape."""
        return self.mix(F.gelu(super().token_mixer(x)))

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """The SSM alone, along every route: (B, H, W, conv_channels) -> same shape."""
        if self.scan == "raster":  # nothing to reorder
            return self.ssm(x.flatten(1, 2)).unflatten(1, x.shape[1:3])  # through (B, H W, conv_channels)
        ssms: list[Any] = list(self.ssm) if isinstance(self.ssm, nn.ModuleList) else [self.ssm]
        orders = routes(self.scan, x.shape[1], x.shape[2], x.device)
        if not is_watched(x) and all(is_plain(ssm, SelectiveSSM) for ssm in ssms):
            return ssm_along(ssms, x.flatten(1, 2), orders).view_as(x)
        return mix_along(ssms, x, orders)

    def extra_repr(self) -> str:
        """The token order, for print(module)."""
        return f"scan={self.scan}"


def mix_along(mixers: Iterable[nn.Module], x: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Mean over routes of a mixer that reads the tokens of an image in that order.

    Args:
        mixers: one for each route, on (B, L, D).
        x: (B, H, W, D).
        orders: (routes, H W), from :func:`mambaout.layers.scans.routes`.

    Returns:
        (B, H, W, D), each token at its place in the image.
    """
    tokens, places = x.flatten(1, 2), inverse(orders)  # (B, L, D), (routes, L)
    # One call for each route: A differs between them, and a batch keeps the scan's workspaces full already.
    # index_select, not tokens[:, order]: the backward pass of the latter is several times slower on a CPU.
    outputs = [
        mixer(tokens.index_select(1, orders[r])).index_select(1, places[r])  # no loop over rows: FX could not follow
        for r, mixer in enumerate(mixers)
    ]
    return torch.stack(outputs).mean(0).unflatten(1, x.shape[1:3])


torch.fx.wrap("routes")
