"""What the studies of image classification share: inputs, first weights of narrow models, and their accuracy."""

import torch
from torch import nn


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
