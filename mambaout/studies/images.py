"""What the studies of image classification share: inputs, first weights of narrow models, training, and accuracy."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.training import loop, optim

Batch = tuple[torch.Tensor, torch.Tensor]  # normalised images (B, C, H, W), labels (B,)


@dataclass(frozen=True, kw_only=True)
class ShortTraining:
    """How a study trains; its own configuration adds what.

    Attributes:
        images, epochs, batch_size: training images of an epoch, and passes over them.
        lr, weight_decay: AdamW with warm-up over the first tenth, then cosine.
        label_smoothing: of the cross entropy.
    """

    images: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.05
    label_smoothing: float = 0.1

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one pass."""
        return optim.batches_per_epoch(self.images, self.batch_size)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Smoothed cross entropy."""
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=self.label_smoothing)


def shuffled_batches(
    epochs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    config: ShortTraining,
    draw: torch.Generator,
    device: torch.device,
    *,
    mirror: bool,
) -> Iterator[Batch]:
    """The batches of a training, each epoch in a new random order.

    Args:
        epochs: images (N, H, W) or (N, C, H, W) uint8 and labels (N,) of each epoch.
        config: says how many images make a batch.
        draw: for the order and the mirroring; on the CPU, so that every device gets the same.
        device: where the batches go.
        mirror: whether half of the images are mirrored.
    """
    for images, labels in epochs:
        for batch in optim.shuffled(config.images, config.batch_size, 1, draw):
            x = normalise(images[batch])
            yield (mirrored(x, draw) if mirror else x).to(device), labels[batch].to(device)


def train_classifier(
    model: nn.Module,
    batches: Iterable[Batch],
    config: ShortTraining,
    *,
    on_step: Callable[[int, float], None] | None = None,
    backend: loop.Backend[Batch] | None = None,
) -> float:
    """Train in place, by the configuration.

    Args:
        model, batches, on_step, backend: see :func:`mambaout.training.loop.fit`.
        config: says how.

    Returns:
        The mean loss of the last 50 steps.
    """
    steps = config.epochs * config.steps_per_epoch
    optimizer = optim.adamw(model, config.lr, config.weight_decay)
    schedule = optim.warmup_cosine(optimizer, steps, steps // 10)
    losses = loop.fit(model, batches, config.loss, optimizer, schedule, clip_norm=1.0, on_step=on_step, backend=backend)
    last = losses[-50:]
    return sum(last) / len(last)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 28, 28) or (N, C, H, W) -> float (N, C, H, W) in [-1, 1]; a grey image gets its one channel."""
    return (images[:, None] if images.ndim == 3 else images).float() / 127.5 - 1


def mirrored(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image (N, C, H, W) mirrored with probability 1/2."""
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
    return torch.where(mirror, images.flip(-1), images)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Weights of standard deviation about 1 / sqrt(3 inputs), as PyTorch draws them, and positions that stand out.

    The models of this library start at 0.02, made for widths of hundreds. At a width of 32 they would hardly learn
    in the few steps of a small study, and an SSM would begin as a copy of its input.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    if hasattr(model, "pos_embed"):
        nn.init.normal_(model.get_parameter("pos_embed"), std=0.4)


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images (N, C, H, W) that get their label (N,); the model's mode stays as it was."""
    training = model.training
    model.eval()
    right = [model(x).argmax(-1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    model.train(training)
    return torch.cat(right).float().mean().item()
