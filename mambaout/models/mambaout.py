"""MambaOut: Gated CNN blocks stacked in stages (Figure 4a, Table 4; the authors' models/mambaout.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn

from mambaout.layers.attention_block import AttentionBlock
from mambaout.layers.downsample import Downsample, Stem
from mambaout.layers.gated_cnn import GatedCNNBlock, IdentityBlock
from mambaout.layers.head import ClassifierHead
from mambaout.layers.mamba import MambaBlock
from mambaout.layers.positions import sincos_positions
from mambaout.layers.scans import SCANS
from mambaout.models.common import GLOBAL_POOLS, check_images, drop_path_rates, init_weights, require
from mambaout.models.contract import VisionModel, check_format, run, take_indices

torch.fx.wrap("check_images")  # symbolic tracing keeps these as they are, and does not look inside
torch.fx.wrap("sincos_positions")

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
        global_pool: "avg" before the head, or "" for a head that treats every token by itself.
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
    global_pool: str = "avg"
    num_classes: int = 1000
    in_chans: int = 3

    def __post_init__(self) -> None:
        require(len(self.depths) == len(self.dims) > 0, "depths and dims need one entry a stage each", self)
        require(min(*self.depths, *self.dims) > 0, "depths and dims must be positive", self)
        require(self.token_mixer in TOKEN_MIXERS, f"token_mixer must be one of {', '.join(TOKEN_MIXERS)}", self)
        require(self.scan in SCANS, f"scan must be one of {', '.join(SCANS)}", self)
        require(self.scan == "raster" or self.token_mixer == "mamba", 'only token_mixer "mamba" has a scan', self)
        require(self.global_pool in GLOBAL_POOLS, 'global_pool must be "avg", or "" for none', self)
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

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, in_dim) -> (B, H', W', dim)."""
        x = self.downsample(x)
        if not self.grad_checkpointing:
            return self.blocks(x)
        for block in self.blocks:
            x = run(block, x, checkpointing=True)
        return x


class MambaOut(VisionModel):
    """Stem, stages of Gated CNN blocks with downsampling between, and a classification head.

    The attributes and methods that it shares with timm's models mean the same here; see
    :class:`~mambaout.models.contract.VisionModel` for those that all models have.
    """

    output_fmt = "NHWC"
    first_conv, classifier = "stem.conv1", "head.fc2"

    def __init__(self, cfg: MambaOutConfig) -> None:
        super().__init__(cfg, num_features=cfg.dims[-1])
        self.stem = self.make_stem()
        drop_paths = iter(drop_path_rates(cfg.drop_path_rate, sum(cfg.depths)))
        in_dims = (None, *cfg.dims[:-1])
        self.stages = nn.Sequential(
            *(
                Stage(
                    nn.Identity() if in_dim is None else self.make_downsample(in_dim, dim),
                    [self.make_block(dim, next(drop_paths)) for _ in range(depth)],
                )
                for in_dim, dim, depth in zip(in_dims, cfg.dims, cfg.depths, strict=True)
            )
        )
        self.head: Any = self.make_head(cfg.num_classes, cfg.global_pool)
        self.head_hidden_size: int = self.head.num_features
        self.feature_info = [
            {"num_chs": dim, "reduction": cfg.stem_stride * 2**i, "module": f"stages.{i}"}
            for i, dim in enumerate(cfg.dims)
        ]
        init_weights(self)

    def make_stem(self) -> nn.Module:
        """From images to the first stage's tokens."""
        return Stem(self.cfg.in_chans, self.cfg.dims[0], stride=self.cfg.stem_stride)

    def make_downsample(self, in_dim: int, dim: int) -> nn.Module:
        """From one stage's tokens to the next one's."""
        return Downsample(in_dim, dim)

    def make_block(self, dim: int, drop_path: float) -> nn.Module:
        """A block of a stage with ``dim`` channels."""
        return make_block(dim, self.cfg, drop_path)

    def make_head(self, num_classes: int, global_pool: str) -> Any:
        """From the last stage's tokens to logits."""
        return ClassifierHead(self.num_features, num_classes, self.cfg.head_dropout, global_pool)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, in_chans, H, W) of any size -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> the last stage's map (B, H', W', dims[-1])."""
        check_images(x, self.in_chans)
        return self.stages(self.tokens(x))

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> what the first stage reads, (B, H', W', dims[0])."""
        x = self.stem(x)
        if self.cfg.positions:
            height, width = x.shape[1:3]
            x = x + sincos_positions(height, width, self.cfg.dims[0], device=x.device, dtype=x.dtype)
        return x

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The maps of several stages from one forward pass.

        Args:
            x: images (B, in_chans, H, W).
            indices: which stages: all, the last so many (int), or those named; -1 is the last.
            norm: has no effect, as in timm's MambaOut: the norm stands behind the pooling.
            stop_early: leave out the stages after the last one that was asked for.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: return the list alone.

        Returns:
            What the last computed stage gives, (B, H', W', dims[-1]) as from ``forward_features``, and the list of maps
            (B, dims[i], H_i, W_i) in the order of the stages.
        """
        check_images(x, self.in_chans)
        check_format(output_fmt, ("NCHW", "NHWC"))
        taken = take_indices(len(self.stages), indices)
        x = self.tokens(x)
        maps = []
        for i, stage in enumerate(self.stages[: max(taken) + 1] if stop_early else self.stages):
            x = stage(x)
            if i in taken:
                maps.append(x.permute(0, 3, 1, 2) if output_fmt == "NCHW" else x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Take away what the maps of these stages do not need; ``prune_norm`` has no effect.

        Returns:
            The stages, counted from 0.
        """
        before = self.state_dict().keys()
        taken = take_indices(len(self.stages), indices)
        shorter = max(taken) + 1 < len(self.stages)
        self.stages = self.stages[: max(taken) + 1]
        self.num_features = self.feature_info[max(taken)]["num_chs"]
        if prune_head or shorter:
            self.head, self.num_classes, self.head_hidden_size = nn.Identity(), 0, self.num_features
        self.pruned |= before - self.state_dict().keys()
        return taken

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(B, H', W', dims[-1]) -> (B, num_classes), or (B, 4 dims[-1]) with ``pre_logits``."""
        return self.head(x, pre_logits=True) if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return getattr(self.head, "fc2", self.head)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer by a fresh one (for fine-tuning); a head that was taken away comes back.

        Args:
            num_classes: its outputs; 0 for none, so that features come out.
            global_pool: "avg" or "", see :class:`MambaOutConfig`; as it was by default.
        """
        if global_pool not in (None, *GLOBAL_POOLS):
            raise ValueError(f'global_pool must be "avg", or "" for none; got {global_pool!r}')
        like = next(self.parameters())
        if not isinstance(self.head, ClassifierHead):
            self.head = self.make_head(num_classes, self.cfg.global_pool)
            init_weights(self.head)
        self.head.global_pool = self.head.global_pool if global_pool is None else global_pool
        self.head.fc2 = nn.Linear(self.head.num_features, num_classes) if num_classes else nn.Identity()
        init_weights(self.head.fc2)
        self.head.to(device=like.device, dtype=like.dtype).train(self.training)
        self.num_classes, self.head_hidden_size = num_classes, self.head.num_features

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort the weights by depth, for timm's layer-wise learning rates."""
        blocks = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else blocks}
