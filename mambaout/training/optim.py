"""AdamW and its schedule, as DeiT and MambaOut use them, the moving average of the weights, the order of the images."""

import copy
import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights of linear layers and convolutions decay; norms, biases and what learns an offset do not.

    An SSM's ``A_log`` and ``D`` and a ViT's position embedding are kept from decay too, as in Mamba's and DeiT's code.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim < 2 or name.rpartition(".")[2] in ("A_log", "pos_embed")
            (kept if free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def layers(model: nn.Module) -> dict[str, int]:
    """Each parameter's layer, counted from the image.

    0 is what comes before the first block. Each block is a layer, with the downsampling before it; what comes behind
    the last block is the last layer.
    """
    names = [name for name, _ in model.named_parameters()]
    found = [re.match(r".*?\bblocks\.\d+\.", name) for name in names]
    blocks = list(dict.fromkeys(match[0] for match in found if match))
    depths, depth = {}, len(blocks) + 1
    for name, match in zip(reversed(names), reversed(found), strict=True):
        depth = blocks.index(match[0]) + 1 if match else depth
        depths[name] = depth
    for name, match in zip(names, found, strict=True):
        if match:
            break
        depths[name] = 0
    return depths


def layer_groups(model: nn.Module, weight_decay: float, lr: float, layer_decay: float) -> list[dict[str, Any]]:
    """:func:`parameter_groups` for each of the :func:`layers`, from the last, which learns at ``lr``, to the first.

    Each layer's rate is ``layer_decay`` times that of the next one (Clark et al., 2020; Bao et al., 2022).
    """
    decayed, kept = parameter_groups(model, weight_decay)
    depths = layers(model)
    by_parameter = {parameter: depths[name] for name, parameter in model.named_parameters()}
    groups = []
    for depth in range(last := max(depths.values()), -1, -1):
        for group in (decayed, kept):
            chosen = [parameter for parameter in group["params"] if by_parameter[parameter] == depth]
            if chosen:
                groups.append(group | {"params": chosen, "lr": lr * layer_decay ** (last - depth)})
    return groups


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    layer_decay: float | None = None,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) over :func:`parameter_groups`, or :func:`layer_groups`."""
    if layer_decay is None:
        return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=betas)
    return torch.optim.AdamW(layer_groups(model, weight_decay, lr, layer_decay), lr=lr, betas=betas)


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: int, *, start: float = 1e-3, end: float = 1e-2
) -> LambdaLR:
    """The learning rate rises linearly for ``warmup`` steps, then falls along half a cosine until ``steps``.

    Args:
        optimizer: its groups' ``lr`` are the peak.
        steps, warmup: optimiser steps in all, and of the rise.
        start, end: first and last learning rate as a share of the peak.
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"the warm-up must take less than all {steps} steps, and at least 0; got {warmup}: shorten it")

    def share(step: int) -> float:
        if step < warmup:
            return start + (1 - start) * step / warmup
        done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, share)


class MovingAverage:
    """An exponential moving average of the weights, which begins fast and slows down to ``decay``."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average, new = list(self.model.parameters()), [p.detach() for p in model.parameters()]
        get_ema_multi_avg_fn(decay)(average, new, self.updates)
        for buffer, value in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From checkpoints."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def batches_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in one pass over the images; a last one that is not full is left out.

    Raises:
        ValueError: there are fewer images than a batch.
    """
    if images < batch_size:
        raise ValueError(
            f"a batch of {batch_size} needs at least as many images, got {images}: choose a smaller batch_size"
        )
    return images // batch_size


def shuffled(images: int, batch_size: int, epochs: int, generator: torch.Generator) -> Iterable[torch.Tensor]:
    """Indices (batch_size,) of every batch of ``epochs`` passes, each pass in a new random order."""
    for _ in range(epochs):
        order = torch.randperm(images, generator=generator)
        yield from order.split(batch_size)[: batches_per_epoch(images, batch_size)]
