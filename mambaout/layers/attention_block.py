"""The block with attention where a Mamba block has its SSM: the third memory behind the same convolution."""

import torch
from torch.nn import functional as F

from mambaout.layers.attention import Attention
from mambaout.layers.gated_cnn import GatedCNNBlock


class AttentionBlock(GatedCNNBlock):
    """:class:`GatedCNNBlock` whose token mixer is Attention(GELU(Conv(Z))) in place of Conv(Z).

    It is no block of the paper. It is there for comparisons that change one thing: with the SSM of
    :class:`MambaBlock` (Eq. 11) replaced by attention, what differs between the two is the memory alone.

    Args:
        dim: channels of the input and output.
        num_heads: heads; must divide the convolved channels.
        causal: if True token t reads tokens 1..t of raster order only, else every token.
        others: see :class:`GatedCNNBlock`.
    """

    def __init__(self, dim: int, *, num_heads: int = 1, causal: bool = False, **block: float) -> None:
        super().__init__(dim, **block)  # type: ignore[arg-type]
        self.attn = Attention(self.split[-1], num_heads, causal=causal)

    def token_mixer(self, x: torch.Tensor) -> torch.Tensor:
        """Attention(GELU(Conv(Z))): (B, H, W, conv_channels) -> same shape."""
        x = F.gelu(super().token_mixer(x))
        return self.attn(x.flatten(1, 2)).unflatten(1, x.shape[1:3])  # through (B, H W, conv_channels)
