"""MambaOut: Gated CNN blocks stacked in stages (Figure 4a, Table 4; the authors' models/mambaout.py)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mambaout.layers.attention_block import AttentionBlock
from mambaout.layers.downsample import Downsample, Stem
from mambaout.layers.gated_cnn import GatedCNNBlock, IdentityBlock
from mambaout.layers.head import ClassifierHead
from mambaout.layers.mamba import MambaBlock
from mambaout.layers.positions import sincos_positions
from mambaout.layers.scans import SCANS
from mambaout.models.common import check_images, drop_path_rates, init_weights, require

TOKEN_MIXERS = ("gated_cnn", "mamba", "attention", "causal_attention", "identity")


@dataclass(frozen=True)
class MambaOutConfig:
    """What defines a MambaOut, or a visual Mamba or a Transformer of the same macro-architecture.

    Attributes:
        depths: blocks of each stage; one stage makes an isotropic model.
        dims: channels of each stage.
        token_mixer: "gated_cnn" (Eq. 10); or "mamba" to put the SSM back into every block (Eq. 11); or, where the
            SSM then stands, "attention" (fully-visible) or "causal_attention"; or "identity", no mixing in the blocks.
        scan: in which order the SSMs of "mamba" read the tokens, see :mod:`mambaout.layers.scans`.
        stem_stride: pixels between tokens of the first stage: 4, or 2 or 1 for small images.
        expansion_ratio, conv_ratio, kernel_size: see :class:`~mambaout.layers.GatedCNNBlock`.
        d_state: numbers of state per channel of the SSM (only "mamba" has one).
        head_dim: channels of an attention head (only the attention mixers have heads).
        positions: add sines and cosines of its place to each token of the stem; attention by itself knows no order.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        head_dropout: dropout before the last linear layer.
        num_classes: 0 for a model that returns features.
        in_chans: channels of the images.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 576)
    token_mixer: str = "gated_cnn"
    scan: str = "raster"
    stem_stride: int = 4
    expansion_ratio: float = 8 / 3
    conv_ratio: float = 1.0
    kernel_size: int = 7
    d_state: int = 16
    head_dim: int = 16
    positions: bool = False
    drop_path_rate: float = 0.0
    head_dropout: float = 0.0
    num_classes: int = 1000
    in_chans: int = 3

    def __post_init__(self) -> None:
        require(len(self.depths) == len(self.dims) > 0, "depths and dims need one entry a stage each", self)
        require(min(*self.depths, *self.dims) > 0, "depths and dims must be positive", self)
        require(self.token_mixer in TOKEN_MIXERS, f"token_mixer must be one of {', '.join(TOKEN_MIXERS)}", self)
        require(self.scan in SCANS, f"scan must be one of {', '.join(SCANS)}", self)
        require(self.scan == "raster" or self.token_mixer == "mamba", 'only token_mixer "mamba" has a scan', self)
        require(self.num_classes >= 0, "num_classes must be 0 or more", self)
        require(self.in_chans > 0, "in_chans must be positive", self)


def make_block(dim: int, config: MambaOutConfig, drop_path: float = 0.0) -> GatedCNNBlock:
    """The block that a configuration's token mixer names, with ``dim`` channels."""
    options: dict[str, Any] = {
        "expansion_ratio": config.expansion_ratio,
        "conv_ratio": config.conv_ratio,
        "kernel_size": config.kernel_size,
        "drop_path": drop_path,
    }
    if config.token_mixer == "gated_cnn":
        return GatedCNNBlock(dim, **options)
    if config.token_mixer == "identity":
        return IdentityBlock(dim, **options)
    if config.token_mixer == "mamba":
        return MambaBlock(dim, d_state=config.d_state, scan=config.scan, **options)
    channels = int(config.conv_ratio * dim)
    require(
        channels % config.head_dim == 0,
        f"head_dim must divide the {channels} channels that attention reads (conv_ratio * dim)",
        config,
    )
    causal = config.token_mixer == "causal_attention"
    return AttentionBlock(dim, num_heads=channels // config.head_dim, causal=causal, **options)


class Stage(nn.Module):
    """Optional downsampling, then blocks of one width."""

    def __init__(self, in_dim: int | None, dim: int, config: MambaOutConfig, drop_paths: list[float]) -> None:
        super().__init__()
        self.downsample = nn.Identity() if in_dim is None else Downsample(in_dim, dim)
        self.blocks = nn.Sequential(*(make_block(dim, config, p) for p in drop_paths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, in_dim) -> (B, H', W', dim)."""
        return self.blocks(self.downsample(x))


class MambaOut(nn.Module):
    """Stem, stages of Gated CNN blocks with downsampling between, and a classification head.

    The attributes and methods that it shares with timm's models (``num_classes``, ``num_features``,
    ``feature_info``, ``pretrained_cfg``, ``forward_features``, ``forward_head``, ``get_classifier``,
    ``reset_classifier``) mean the same here.
    """

    def __init__(self, config: MambaOutConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.num_features = config.dims[-1]
        self.stem = Stem(config.in_chans, config.dims[0], stride=config.stem_stride)

        drop_paths = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        in_dims = (None, *config.dims[:-1])
        self.stages = nn.Sequential(
            *(
                Stage(in_dim, dim, config, [next(drop_paths) for _ in range(depth)])
                for in_dim, dim, depth in zip(in_dims, config.dims, config.depths, strict=True)
            )
        )
        self.head = ClassifierHead(config.dims[-1], config.num_classes, dropout=config.head_dropout)
        self.feature_info = [
            {"num_chs": dim, "reduction": config.stem_stride * 2**i, "module": f"stages.{i}"}
            for i, dim in enumerate(config.dims)
        ]
        self.pretrained_cfg: dict[str, Any] = {}
        init_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, in_chans, H, W) of any size -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> the last stage's map (B, H', W', dims[-1])."""
        check_images(x, self.config.in_chans)
        return self.stages(self.tokens(x))

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> what the first stage reads, (B, H', W', dims[0])."""
        x = self.stem(x)
        if self.config.positions:
            x = x + sincos_positions(*x.shape[1:], device=x.device, dtype=x.dtype)
        return x

    def forward_intermediates(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_chans, H, W) -> every stage's map, as (B, dims[i], H_i, W_i)."""
        check_images(x, self.config.in_chans)
        x = self.tokens(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(B, H', W', dims[-1]) -> (B, num_classes), or (B, 4 dims[-1]) with ``pre_logits``."""
        return self.head(x, pre_logits=pre_logits)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc2

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last linear layer by a fresh one (for fine-tuning)."""
        old = self.head.fc1.weight
        self.num_classes = num_classes
        self.head.fc2 = nn.Linear(self.head.num_features, num_classes) if num_classes else nn.Identity()
        self.head.fc2.to(device=old.device, dtype=old.dtype)
        init_weights(self.head.fc2)
