"""The Gated CNN block: what remains of a Mamba block when its SSM is taken out (Figure 4b).

Code name      paper           shape
x              X               (B, H, W, dim)
fc1            [W2, W1]        dim -> hidden (gate) + hidden (value)
gate           X' W2           (B, H, W, hidden)
value          X' W1           (B, H, W, hidden) = identity channels, then convolved channels
token_mixer    TokenMixer      Eq. 10 here; Eq. 11 in mamba.py
fc2            W3              hidden -> dim
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels import gated_cnn
from mambaout.kernels.depthwise import depthwise_conv2d
from mambaout.layers.downsample import NORM_EPS
from mambaout.layers.drop_path import DropPath


class GatedCNNBlock(nn.Module):
    """Y = (TokenMixer(X' W1) * GELU(X' W2)) W3 + X with X' = LayerNorm(X)   (Eqs. 8-10).

    As in the authors' code, and not drawn in Figure 4, only ``conv_ratio * dim`` of the ``hidden``
    value channels are convolved; the others pass through (an idea of ShuffleNet V2 and InceptionNeXt).

    Args:
        dim: channels of the input and output.
        expansion_ratio: hidden = int(expansion_ratio * dim).
        conv_ratio: convolved channels = int(conv_ratio * dim), at least 1 and at most hidden.
        kernel_size: odd side of the depthwise convolution's kernel.
        drop_path: probability of dropping the residual branch while training.
    """

    def __init__(
        self,
        dim: int,
        *,
        expansion_ratio: float = 8 / 3,
        conv_ratio: float = 1.0,
        kernel_size: int = 7,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden, conv_channels = int(expansion_ratio * dim), int(conv_ratio * dim)
        if not 1 <= conv_channels <= hidden:
            raise ValueError(
                f"conv_ratio {conv_ratio:g} of dim {dim} asks for {conv_channels} convolved channels, "
                f"but there must be between 1 and {hidden} (= int(expansion_ratio * dim))"
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the image's size, got {kernel_size}")
        self.split = (hidden, hidden - conv_channels, conv_channels)  # gate, identity, convolved
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.conv = nn.Conv2d(conv_channels, conv_channels, kernel_size, padding=kernel_size // 2, groups=conv_channels)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, dim) -> (B, H, W, dim)."""
        if gated_cnn.may_run(self, x):
            return gated_cnn.forward(self, x)  # the same numbers, faster
        gate, identity, z = self.fc1(self.norm(x)).split(self.split, dim=-1)
        value = torch.cat((identity, self.token_mixer(z)), dim=-1)  # (B, H, W, hidden)
        return x + self.drop_path(self.fc2(F.gelu(gate) * value))

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """Conv(Z), Eq. 10: (B, H, W, conv_channels) -> same shape."""
        return depthwise_conv2d(self.conv, z)


class IdentityBlock(GatedCNNBlock):
    """:class:`GatedCNNBlock` without its convolution: a gated MLP on each token by itself, the floor of comparisons.

    In a model the stem's and the downsampling's 3 x 3 convolutions are then all that mixes tokens.
    """

    def __init__(self, dim: int, **block: Any) -> None:
        super().__init__(dim, **block)
        del self.conv

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """Z itself: (B, H, W, conv_channels) -> same shape."""
        return z
