"""What the analyses ask of a model: its maps, and to hold still meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mambaout.models import ViT

Model = nn.Module | Callable[[torch.Tensor], Any]


def feature_maps(model: Model, images: torch.Tensor) -> list[torch.Tensor]:
    """The stages' maps of (B, C, H, W) images: a list of (B, C_i, H_i, W_i).

    A model with ``forward_intermediates`` (ours, and timm's) is asked for them; any other module or function is called,
    and must return one map or a list of them. A ViT of ours is one stage: its map is what the head reads, the last
    block's output normalised. Features without place, (B, C), are a map of one position.

    Raises:
        TypeError: something else came out.
    """
    intermediates = getattr(model, "forward_intermediates", None)
    if intermediates is None:
        outputs = model(images)
    elif isinstance(model, ViT):
        outputs = intermediates(images, 1, norm=True, intermediates_only=True)
    else:
        outputs = intermediates(images, intermediates_only=True)
    maps = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    maps = [y[:, :, None, None] if y.ndim == 2 else y for y in maps]
    if not maps or any(y.ndim != 4 or len(y) != len(images) for y in maps):
        shapes = ", ".join(str(tuple(y.shape)) for y in maps)
        raise TypeError(f"expected maps of shape ({len(images)}, channels, height, width), but the model gave {shapes}")
    return maps


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Evaluation mode and parameters that ask for no gradient, inside a `with` block; then all as it was."""
    if not isinstance(model, nn.Module):
        yield
        return
    training = {module: module.training for module in model.modules()}
    asking = [p for p in model.parameters() if p.requires_grad]
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for p in asking:
            p.requires_grad_()
