"""Tiny models whose fields the tests ask for."""

from typing import Any

import torch
from torch import nn

from mambaout.models import MambaOut, MambaOutConfig, ViT, ViTConfig


def mambaout(token_mixer: str = "gated_cnn", scan: str = "raster", stem_stride: int = 2, **more: object) -> MambaOut:
    """Two stages of one block, 7 x 7 tokens of 28 pixels in the second, all biases and gains random."""
    torch.manual_seed(0)
    config = MambaOutConfig(depths=(1, 1), dims=(8, 12), token_mixer=token_mixer, scan=scan, kernel_size=3, d_state=2,
                            head_dim=4, stem_stride=stem_stride, num_classes=4, in_chans=1, **more)  # type: ignore[arg-type] # fmt: skip
    return loud(MambaOut(config))


def vit(token_mixer: str = "attention", token_order: str = "raster") -> ViT:
    """Two blocks, patches of 4 pixels, made for 16 of them."""
    torch.manual_seed(0)
    config = ViTConfig(dim=8, depth=2, num_heads=2, token_mixer=token_mixer, token_order=token_order, image_size=16,
                       patch_size=4, num_classes=4, in_chans=1)  # fmt: skip
    return loud(ViT(config))


def loud(model: nn.Module) -> Any:
    """Larger random parameters, so that every branch has a say."""
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return model.eval()
