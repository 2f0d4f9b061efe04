"""Data and a recipe so small that a training takes a second."""

import torch

from mambaout.training import Augment, Data, Model, Recipe, Tensors


def tiny_data(images: int = 96) -> Tensors:
    """Four classes of 12 x 12 grey images: noise, brighter in one quarter."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 120, (images, 12, 12), generator=generator, dtype=torch.uint8)
    y = torch.randint(4, (images,), generator=generator)
    for i, label in enumerate(y.tolist()):
        top, left = label // 2 * 6, label % 2 * 6
        x[i, top : top + 6, left : left + 6] += 100
    return Tensors(x, y, x[:30], y[:30], ("nw", "ne", "sw", "se"))


def tiny_recipe(**changes) -> Recipe:
    """Three epochs of six steps, with everything that draws random numbers."""
    settings = {
        "model": Model("mambaout_zepto", 0.2, ("dims=(8, 16)", "depths=(1, 1)", "head_dropout=0.1")),
        "data": Data("tiny"),
        "augment": Augment(shift=1, rotate=10, zoom=0.1, color_jitter=0.1, erase=0.3, mixup=0.4, cutmix=1.0),
        "epochs": 3,
        "batch_size": 16,
        "lr": 3e-3,
        "lr_batch": 16,
        "warmup_epochs": 1,
        "clip_norm": 1.0,
        "ema": 0.9,
    }
    return Recipe(**settings | changes)
