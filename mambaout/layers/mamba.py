"""The Mamba block as the paper draws it: a Gated CNN block plus an SSM (Figure 1a, Eq. 11)."""

import torch
from torch.nn import functional as F

from mambaout.layers.gated_cnn import GatedCNNBlock
from mambaout.layers.ssm import SelectiveSSM


class MambaBlock(GatedCNNBlock):
    """:class:`GatedCNNBlock` whose token mixer is SSM(GELU(Conv(Z))) in place of Conv(Z)   (Eq. 11).

    Everything else is inherited, so that a comparison of the two changes one thing. The SSM reads the
    convolved channels as tokens in raster order: row after row, each from left to right.
    Mamba's own block (Gu & Dao, 2023, Figure 3) differs in details that the paper leaves aside:
    a causal 1-D convolution of width 4, SiLU, and RMSNorm.

    Args:
        d_state: numbers of state per channel.
        others: see :class:`GatedCNNBlock`.
    """

    def __init__(self, dim: int, *, d_state: int = 16, **block: float) -> None:
        super().__init__(dim, **block)  # type: ignore[arg-type]
        self.ssm = SelectiveSSM(self.split[-1], d_state=d_state)

    def token_mixer(self, x: torch.Tensor) -> torch.Tensor:
        """SSM(GELU(Conv(Z))): (B, H, W, conv_channels) -> same shape."""
        x = F.gelu(super().token_mixer(x))
        return self.ssm(x.flatten(1, 2)).unflatten(1, x.shape[1:3])  # through (B, H W, conv_channels)
