"""Blocks that no model of the paper has: they tell the effect of an SSM from that of what comes along with it.

Each is :class:`~mambaout.layers.GatedCNNBlock` with another token mixer. With Conv(Z) (Eq. 10) and SSM(GELU(Conv(Z)))
(Eq. 11) the first two make a factorial, {GELU or not} x {SSM or not}; the others reach every token without an SSM.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.convolve import convolve
from mambaout.layers import GatedCNNBlock, MambaBlock
from mambaout.models import MambaOut, MambaOutConfig

REACH = 31  # tokens of the long convolutions: 15 to either side, all that a grid of 16 x 16 has


class ConvGELUBlock(GatedCNNBlock):
    """GELU(Conv(Z)): a Mamba block without its SSM."""

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """(B, H, W, conv_channels) -> same shape."""
        return F.gelu(super().token_mixer(z))


class BareSSMBlock(MambaBlock):
    """SSM(Conv(Z)): a Mamba block without its activation."""

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """(B, H, W, conv_channels) -> same shape."""
        return self.mix(GatedCNNBlock.token_mixer(self, z))


class ConvMeanBlock(GatedCNNBlock):
    """Conv(Z) + its mean over all tokens, channel by channel."""

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """(B, H, W, conv_channels) -> same shape."""
        y = super().token_mixer(z)
        return y + y.mean((1, 2), keepdim=True)


class LongConvBlock(GatedCNNBlock):
    """Conv(Z), then a depthwise 31 x 31 convolution of rank one: a column of 31 weights, then a row.

    A full one would have more parameters than the small networks of the studies in all.
    """

    def __init__(self, dim: int, *, expansion_ratio: float) -> None:
        super().__init__(dim, expansion_ratio=expansion_ratio)
        channels, half = self.split[-1], REACH // 2
        self.column = nn.Conv2d(channels, channels, (REACH, 1), padding=(half, 0), groups=channels)
        self.row = nn.Conv2d(channels, channels, (1, REACH), padding=(0, half), groups=channels)

    def token_mixer(self, z: torch.Tensor) -> torch.Tensor:
        """(B, H, W, conv_channels) -> same shape."""
        return convolve(self.row, convolve(self.column, super().token_mixer(z)))


BLOCKS: dict[str, Callable[[int, MambaOutConfig], GatedCNNBlock]] = {
    "conv_gelu": lambda dim, config: ConvGELUBlock(dim, expansion_ratio=config.expansion_ratio),
    "ssm_bare": lambda dim, config: BareSSMBlock(
        dim, expansion_ratio=config.expansion_ratio, d_state=config.d_state
    ),
    "conv_mean": lambda dim, config: ConvMeanBlock(dim, expansion_ratio=config.expansion_ratio),
    "conv_long_range": lambda dim, config: LongConvBlock(dim, expansion_ratio=config.expansion_ratio),
}


def replace_blocks(model: MambaOut, name: str) -> None:
    """Put new blocks of :data:`BLOCKS` into a model, in place."""
    for dim, stage in zip(model.cfg.dims, model.stages, strict=True):
        blocks = stage.get_submodule("blocks")
        assert isinstance(blocks, nn.Sequential)
        for i in range(len(blocks)):
            blocks[i] = BLOCKS[name](dim, model.cfg)


def extra_parameters(name: str, config: MambaOutConfig) -> int:
    """How many more parameters a model has with these blocks than with Gated CNN blocks of the same widths."""
    with torch.device("meta"):  # shapes are enough
        counts = [
            depth * sum(p.numel() for p in block.parameters()) * sign
            for depth, dim in zip(config.depths, config.dims, strict=True)
            for sign, block in (
                (1, BLOCKS[name](dim, config)),
                (-1, GatedCNNBlock(dim, expansion_ratio=config.expansion_ratio)),
            )
        ]
    return sum(counts)
