"""timm's own MambaOut variants, whose weights are the best there are: norm-first, with scaled branches.

They differ from the paper's in four places: the stem has no norm between its convolutions, downsampling normalises
before its convolution, each block's branch is scaled by a learned vector, and the head has one norm less. The large
ones take SiLU for GELU in stem and blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.convolve import convolve
from mambaout.layers.downsample import NORM_EPS, Downsample, Stem
from mambaout.layers.gated_cnn import GatedCNNBlock
from mambaout.layers.head import ClassifierHead
from mambaout.models.common import require
from mambaout.models.mambaout import MambaOut, MambaOutConfig

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": F.gelu, "silu": F.silu}


@dataclass(frozen=True)
class MambaOutRWConfig(MambaOutConfig):
    """What defines one of timm's variants.

    Attributes:
        activation: "gelu" or "silu", in stem and blocks.
        layer_scale: what the scales of the blocks' branches start at.
        others: see :class:`MambaOutConfig`; the token mixer is "gated_cnn".
    """

    activation: str = "gelu"
    layer_scale: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.activation in ACTIVATIONS, f"activation must be one of {', '.join(ACTIVATIONS)}", self)
        require(self.token_mixer == "gated_cnn", 'token_mixer must be "gated_cnn" in timm\'s variants', self)


class RWStem(Stem):
    """:class:`Stem` without its first norm."""

    def __init__(self, in_chans: int, dim: int, stride: int, activation: str) -> None:
        super().__init__(in_chans, dim, stride)
        del self.norm1
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> (B, ceil(H / stride), ceil(W / stride), dim)."""
        x = self.activation(convolve(self.conv1, x.permute(0, 2, 3, 1).contiguous()))
        return self.norm2(convolve(self.conv2, x))


class NormFirstDownsample(Downsample):
    """LayerNorm, then a 3x3 convolution of stride 2."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)
        self.norm = nn.LayerNorm(in_dim, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, in_dim) -> (B, ceil(H / 2), ceil(W / 2), out_dim)."""
        return convolve(self.conv, self.norm(x))


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al., 2021, https://arxiv.org/abs/2103.17239)."""

    def __init__(self, dim: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return x * self.gamma


class ScaledBlock(GatedCNNBlock):
    """:class:`GatedCNNBlock` whose branch is scaled before it is added, with a choice of activation."""

    def __init__(self, dim: int, cfg: MambaOutRWConfig, drop_path: float) -> None:
        super().__init__(
            dim,
            expansion_ratio=cfg.expansion_ratio,
            conv_ratio=cfg.conv_ratio,
            kernel_size=cfg.kernel_size,
            drop_path=drop_path,
        )
        self.ls = LayerScale(dim, cfg.layer_scale)
        self.activation = ACTIVATIONS[cfg.activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, dim) -> (B, H, W, dim)."""
        gate, identity, z = self.fc1(self.norm(x)).split(self.split, dim=-1)
        value = torch.cat((identity, self.token_mixer(z)), dim=-1)  # (B, H, W, hidden)
        return x + self.drop_path(self.ls(self.fc2(self.activation(gate) * value)))


class MambaOutRW(MambaOut):
    """:class:`MambaOut` of these parts."""

    cfg: MambaOutRWConfig

    def make_stem(self) -> nn.Module:
        """From images to the first stage's tokens."""
        return RWStem(self.cfg.in_chans, self.cfg.dims[0], self.cfg.stem_stride, self.cfg.activation)

    def make_downsample(self, in_dim: int, dim: int) -> nn.Module:
        """From one stage's tokens to the next one's."""
        return NormFirstDownsample(in_dim, dim)

    def make_block(self, dim: int, drop_path: float) -> nn.Module:
        """A block of a stage with ``dim`` channels."""
        return ScaledBlock(dim, self.cfg, drop_path)

    def make_head(self, num_classes: int, global_pool: str) -> ClassifierHead:
        """From the last stage's tokens to logits."""
        head = super().make_head(num_classes, global_pool)
        head.hidden_norm = nn.Identity()
        return head
