"""ViT with fully-visible or causal attention: the subject of the paper's Figure 3b."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from mambaout.layers.downsample import NORM_EPS
from mambaout.layers.scans import inverse, routes
from mambaout.layers.transformer import TransformerBlock
from mambaout.models.common import GLOBAL_POOLS, check_images, drop_path_rates, init_weights, require
from mambaout.models.contract import VisionModel, check_format, run, take_indices

TOKEN_MIXERS = ("attention", "causal_attention")
TOKEN_ORDERS = ("raster", "random", "bidirectional")


@dataclass(frozen=True)
class ViTConfig:
    """What defines a ViT.

    Attributes:
        dim, depth, num_heads: width, number of blocks, heads.
        token_mixer: "attention" (fully-visible) or "causal_attention".
        token_order: in which order causal attention reads the tokens: "raster"; "random", one fixed order;
            or "bidirectional", where every second block reads raster order backwards.
        image_size: height = width for which the position embedding is made; other sizes interpolate it.
        patch_size: pixels of a patch's side.
        mlp_ratio: hidden width of the MLP over dim.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        head_dropout: dropout before the last linear layer.
        global_pool: "avg", the mean over tokens, or "" for a head that treats every token by itself.
        num_classes: 0 for a model that returns features.
        in_chans: channels of the images.
    """

    dim: int = 384
    depth: int = 12
    num_heads: int = 6
    token_mixer: str = "attention"
    token_order: str = "raster"
    image_size: int = 224
    patch_size: int = 16
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    head_dropout: float = 0.0
    global_pool: str = "avg"
    num_classes: int = 1000
    in_chans: int = 3

    def __post_init__(self) -> None:
        require(min(self.dim, self.depth, self.num_heads) > 0, "dim, depth and num_heads must be positive", self)
        require(self.token_mixer in TOKEN_MIXERS, f"token_mixer must be one of {', '.join(TOKEN_MIXERS)}", self)
        require(self.token_order in TOKEN_ORDERS, f"token_order must be one of {', '.join(TOKEN_ORDERS)}", self)
        require(
            self.token_order == "raster" or self.token_mixer == "causal_attention",
            "only causal attention depends on the token_order",
            self,
        )
        require(0 < self.patch_size <= self.image_size, "patch_size must lie in 1..image_size", self)
        require(self.image_size % self.patch_size == 0, "image_size must be a multiple of patch_size", self)
        require(self.global_pool in GLOBAL_POOLS, 'global_pool must be "avg", or "" for none', self)
        require(self.num_classes >= 0, "num_classes must be 0 or more", self)
        require(self.in_chans > 0, "in_chans must be positive", self)


class ViT(VisionModel):
    """Vision Transformer (Dosovitskiy et al., 2021) without class token: the mean over tokens is classified.

    A class token that comes first sees nothing under a causal mask; the mean treats both modes alike. What it shares
    with timm's models means the same here, see :class:`~mambaout.models.contract.VisionModel`.
    """

    output_fmt = "NLC"
    first_conv, classifier = "patch_embed", "head"

    def __init__(self, cfg: ViTConfig) -> None:
        super().__init__(cfg, num_features=cfg.dim)
        self.head_hidden_size = cfg.dim
        self.global_pool = cfg.global_pool
        self.patch_embed = nn.Conv2d(cfg.in_chans, cfg.dim, cfg.patch_size, stride=cfg.patch_size)
        side = cfg.image_size // cfg.patch_size
        self.pos_embed = nn.Parameter(torch.empty(1, side * side, cfg.dim))
        causal = cfg.token_mixer == "causal_attention"
        drop_paths = drop_path_rates(cfg.drop_path_rate, cfg.depth)
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(cfg.dim, cfg.num_heads, mlp_ratio=cfg.mlp_ratio, causal=causal, drop_path=p)
                for p in drop_paths
            )
        )
        self.norm: nn.Module = nn.LayerNorm(cfg.dim, eps=NORM_EPS)
        self.head_drop = nn.Dropout(cfg.head_dropout)
        self.head = nn.Linear(cfg.dim, cfg.num_classes) if cfg.num_classes else nn.Identity()
        self.feature_info = [
            {"num_chs": cfg.dim, "reduction": cfg.patch_size, "module": f"blocks.{i}"} for i in range(cfg.depth)
        ]
        init_weights(self)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, in_chans, H, W), sides multiples of patch_size -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> normalised tokens (B, L, dim), L = H W / patch_size^2, in raster order."""
        (x,) = deque(self.tokens(x, len(self.blocks)), maxlen=1)  # the last block's
        return self.norm(x)

    def tokens(self, x: torch.Tensor, blocks: int) -> Iterator[torch.Tensor]:
        """(B, in_chans, H, W) -> raster-ordered tokens (B, L, dim) after each of the first blocks."""
        check_patches(x, self.in_chans, self.cfg.patch_size)
        x = self.patch_embed(x)  # (B, dim, H / p, W / p)
        height, width = x.shape[2:]
        side = self.cfg.image_size // self.cfg.patch_size
        x = x.flatten(2).transpose(1, 2) + resize_positions(self.pos_embed, side, height, width)  # (B, L, dim)
        raster = self.cfg.token_order == "raster"
        if not raster:
            orders = routes(self.cfg.token_order, height, width, x.device)  # (R, L)
            back = inverse(orders)
        for i, block in enumerate(self.blocks[:blocks]):
            if raster:
                x = run(block, x, self.grad_checkpointing)
            else:  # each block reads the tokens along its own route
                order, unorder = orders[i % len(orders)], back[i % len(orders)]
                # index_select, not x[:, order]: the backward pass of the latter is several times slower on a CPU.
                x = run(block, x.index_select(1, order), self.grad_checkpointing).index_select(1, unorder)
            yield x

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """What several blocks give, from one forward pass.

        Args:
            x: images (B, in_chans, H, W).
            indices: which blocks: all, the last so many (int), or those named; -1 is the last.
            norm: apply the model's last norm to each, as ``forward_features`` does to the last.
            stop_early: leave out the blocks after the last one that was asked for.
            output_fmt: "NCHW" for maps (B, dim, H / p, W / p), or "NLC" for tokens (B, L, dim).
            intermediates_only: return the list alone.

        Returns:
            The normalised tokens (B, L, dim) of the last computed block, and the list.
        """
        check_format(output_fmt, ("NCHW", "NLC"))
        taken = take_indices(len(self.blocks), indices)
        height = x.shape[2] // self.cfg.patch_size
        outputs = list(self.tokens(x, max(taken) + 1 if stop_early else len(self.blocks)))
        found = [self.norm(y) if norm else y for i, y in enumerate(outputs) if i in taken]
        if output_fmt == "NCHW":
            found = [y.transpose(1, 2).unflatten(2, (height, -1)) for y in found]
        return found if intermediates_only else (self.norm(outputs[-1]), found)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = True, prune_head: bool = True
    ) -> list[int]:
        """Take away what the maps of these blocks do not need.

        Returns:
            The blocks, counted from 0.
        """
        before = self.state_dict().keys()
        taken = take_indices(len(self.blocks), indices)
        shorter = max(taken) + 1 < len(self.blocks)
        self.blocks = self.blocks[: max(taken) + 1]
        if prune_norm or shorter:
            self.norm = nn.Identity()
        if prune_head or shorter:
            self.reset_classifier(0, "")
        self.pruned |= before - self.state_dict().keys()
        return taken

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(B, L, dim) -> (B, num_classes), or the mean token (B, dim) with ``pre_logits``; (B, L, ...) unpooled."""
        x = self.head_drop(x.mean(dim=1) if self.global_pool else x)
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last linear layer by a fresh one (for fine-tuning).

        Args:
            num_classes: its outputs; 0 for none, so that features come out.
            global_pool: "avg" or "", see :class:`ViTConfig`; as it was by default.
        """
        if global_pool not in (None, *GLOBAL_POOLS):
            raise ValueError(f'global_pool must be "avg", or "" for none; got {global_pool!r}')
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.head.to(device=self.pos_embed.device, dtype=self.pos_embed.dtype).train(self.training)
        init_weights(self.head)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort the weights by depth, for timm's layer-wise learning rates."""
        return {"stem": r"^pos_embed|^patch_embed", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}


def check_patches(x: torch.Tensor, in_chans: int, patch_size: int) -> None:
    """Raise a ValueError that says what images the model expects when x is something else."""
    check_images(x, in_chans)
    if x.shape[2] % patch_size or x.shape[3] % patch_size:
        raise ValueError(f"image sides must be multiples of the patch size {patch_size}; got {tuple(x.shape[2:])}")


def resize_positions(pos_embed: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    """Position embedding (1, side^2, dim) for a grid of tokens: (1, height width, dim); interpolated if it differs."""
    if (height, width) == (side, side):
        return pos_embed
    grid = pos_embed.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, dim, side, side)
    grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return grid.flatten(2).transpose(1, 2)


# Symbolic tracing does not look inside these.
torch.fx.wrap("check_patches")
torch.fx.wrap("resize_positions")
torch.fx.wrap("routes")
