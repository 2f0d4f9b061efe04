"""What the models share: initialisation and the checks on what they are given."""

import ast
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from mambaout.layers.ssm import SelectiveSSM

GLOBAL_POOLS = ("avg", "")


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
    """Raise a ValueError naming the rule, and the settings in it as they are in the configuration that breaks it."""
    if condition:
        return
    words = set(re.findall(r"\w+", rule))
    found = [f"{field.name} {getattr(config, field.name)!r}" for field in fields(config) if field.name in words]
    raise ValueError(f"{rule}; got {', '.join(found)}" if found else rule)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Settings of a model as they are written on a command line, "dims=(48,96)" or "token_mixer=mamba"."""
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"a model's setting is written name=value, such as dims=(48,96); got {setting!r}")
        try:
            options[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a bare word
            options[key.strip()] = value.strip()
    return options
