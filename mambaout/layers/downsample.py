"""Stem, downsampling and the order of axes they use (Figure 4a; the authors' models/mambaout.py).

Between layers an image is (B, H, W, C): LayerNorm and linear layers act on the last axis, and a
convolution sees the same memory through a permuted "channels last" view.
"""

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.convolve import convolve

NORM_EPS = 1e-6  # every LayerNorm of the released models


class Stem(nn.Module):
    """Two 3x3 convolutions, each followed by LayerNorm, with GELU between: image to first tokens.

    Args:
        in_chans: channels of the image.
        dim: channels of the tokens; the first convolution makes half of them.
        stride: how far apart tokens lie in pixels: 4 as in the paper, 2 or 1 for small images.
    """

    def __init__(self, in_chans: int, dim: int, stride: int = 4) -> None:
        super().__init__()
        if stride not in (1, 2, 4):
            raise ValueError(f"the stem's stride must be 1, 2 or 4, got {stride}")
        self.conv1 = nn.Conv2d(in_chans, dim // 2, 3, stride=2 if stride > 1 else 1, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2 if stride > 2 else 1, padding=1)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> (B, ceil(H / stride), ceil(W / stride), dim)."""
        x = convolve(self.conv1, x.permute(0, 2, 3, 1).contiguous())  # (B, H', W', dim / 2)
        x = F.gelu(self.norm1(x))
        return self.norm2(convolve(self.conv2, x))  # (B, H'', W'', dim)


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 and LayerNorm: halves height and width between stages."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, in_dim) -> (B, ceil(H / 2), ceil(W / 2), out_dim)."""
        return self.norm(convolve(self.conv, x))
