"""ViT with fully-visible or causal attention: the subject of the paper's Figure 3b."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.layers.downsample import NORM_EPS
from mambaout.layers.scans import inverse, routes
from mambaout.layers.transformer import TransformerBlock
from mambaout.models.common import check_images, drop_path_rates, init_weights, require

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
        require(self.num_classes >= 0, "num_classes must be 0 or more", self)
        require(self.in_chans > 0, "in_chans must be positive", self)


class ViT(nn.Module):
    """Vision Transformer (Dosovitskiy et al., 2021) without class token: the mean over tokens is classified.

    A class token that comes first sees nothing under a causal mask; the mean treats both modes alike.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.num_features = config.dim
        self.patch_embed = nn.Conv2d(config.in_chans, config.dim, config.patch_size, stride=config.patch_size)
        side = config.image_size // config.patch_size
        self.pos_embed = nn.Parameter(torch.empty(1, side * side, config.dim))
        causal = config.token_mixer == "causal_attention"
        drop_paths = drop_path_rates(config.drop_path_rate, config.depth)
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(config.dim, config.num_heads, mlp_ratio=config.mlp_ratio, causal=causal, drop_path=p)
                for p in drop_paths
            )
        )
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.head = nn.Linear(config.dim, config.num_classes) if config.num_classes else nn.Identity()
        self.feature_info = [{"num_chs": config.dim, "reduction": config.patch_size, "module": "blocks"}]
        self.pretrained_cfg: dict[str, Any] = {}
        init_weights(self)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, in_chans, H, W), sides multiples of patch_size -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> normalised tokens (B, L, dim), L = H W / patch_size^2, in raster order."""
        check_images(x, self.config.in_chans)
        p = self.config.patch_size
        if x.shape[2] % p or x.shape[3] % p:
            raise ValueError(f"image sides must be multiples of the patch size {p}; got {tuple(x.shape[2:])}")
        x = self.patch_embed(x)  # (B, dim, H / p, W / p)
        height, width = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + self.positions(height, width)  # (B, L, dim)
        return self.norm(self.mix(x, height, width))

    def mix(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """All blocks on raster-ordered tokens (B, L, dim), each reading them along its own route."""
        if self.config.token_order == "raster":
            return self.blocks(x)
        orders = routes(self.config.token_order, height, width, x.device)  # (R, L)
        back = inverse(orders)
        for i, block in enumerate(self.blocks):
            order, unorder = orders[i % len(orders)], back[i % len(orders)]
            # index_select, not x[:, order]: the backward pass of the latter is several times slower on a CPU.
            x = block(x.index_select(1, order)).index_select(1, unorder)
        return x

    def forward_intermediates(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_chans, H, W) -> one map (B, dim, H / p, W / p)."""
        height = x.shape[2] // self.config.patch_size
        return [self.forward_features(x).transpose(1, 2).unflatten(2, (height, -1))]

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(B, L, dim) -> (B, num_classes), or the mean token (B, dim) with ``pre_logits``."""
        x = x.mean(dim=1)
        return x if pre_logits else self.head(x)

    def positions(self, height: int, width: int) -> torch.Tensor:
        """Position embedding for a grid of tokens: (1, height width, dim); interpolated where the grid differs."""
        side = self.config.image_size // self.config.patch_size
        if (height, width) == (side, side):
            return self.pos_embed
        grid = self.pos_embed.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, dim, side, side)
        grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True, align_corners=False)
        return grid.flatten(2).transpose(1, 2)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last linear layer by a fresh one (for fine-tuning)."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.head.to(device=self.pos_embed.device, dtype=self.pos_embed.dtype)
        init_weights(self.head)
