"""Every model of the registry, with fewer blocks and narrower where it is large: what all must do is tested on all."""

import dataclasses

import torch

import mambaout
from mambaout.models.registry import MODELS

SMALLER = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}


def settings(name):
    if name.startswith("vit"):
        return {"dim": 16, "depth": 4, "num_heads": 2, "image_size": 32}
    return SMALLER if len(MODELS[name].dims) == 4 else {}


# One name for each network that is left when they are so small.
NAMES = list({dataclasses.replace(cfg, **settings(name)): name for name, cfg in reversed(MODELS.items())}.values())


def make(name, **others):
    torch.manual_seed(0)
    return mambaout.create_model(name, **settings(name) | others)


def images(model, batch=1):
    """Of 32 x 32 pixels: multiples of every stride."""
    return torch.randn(batch, model.in_chans, 32, 32, generator=torch.Generator().manual_seed(0))
