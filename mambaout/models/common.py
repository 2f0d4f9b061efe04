"""What the models share: initialisation and the checks on what they are given."""

from typing import Any

import torch
from torch import nn

from mambaout.layers.ssm import SelectiveSSM


def init_weights(module: nn.Module) -> None:
    """The authors' initialisation: truncated normal (std 0.02) for linear and convolution weights, zero biases.

    A :class:`SelectiveSSM` has drawn its own time scales already and is left alone.
    """
    if isinstance(module, SelectiveSSM):
        return
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for child in module.children():
        init_weights(child)


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Stochastic depth of each block, growing linearly from 0 at the first to ``last`` at the last."""
    return [last * i / max(1, blocks - 1) for i in range(blocks)]


def check_images(x: torch.Tensor, in_chans: int) -> None:
    """Raise a ValueError that says what images the model expects when x is something else."""
    expected = f"images of shape (batch, {in_chans}, height, width), floating point"
    if x.ndim != 4:
        raise ValueError(f"expected {expected}; got {x.ndim} dimensions: {tuple(x.shape)}")
    if x.shape[1] != in_chans:
        hint = "; the channels come second, not last" if x.shape[3] == in_chans else ""
        raise ValueError(f"expected {expected}; got {x.shape[1]} channels: {tuple(x.shape)}{hint}")
    if not x.is_floating_point():
        raise ValueError(f"expected {expected}; got {x.dtype}: convert, and normalise by pretrained_cfg's mean and std")
    if 0 in x.shape[2:]:
        raise ValueError(f"expected {expected}; got an empty image: {tuple(x.shape)}")


def require(condition: bool, rule: str, config: Any) -> None:
    """Raise a ValueError naming the rule and the configuration that breaks it."""
    if not condition:
        raise ValueError(f"{rule}; got {config}")
