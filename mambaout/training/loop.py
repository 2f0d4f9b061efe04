"""The training loop itself: a loss, its gradient, a step."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

Batch = TypeVar("Batch")


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    *,
    clip_norm: float | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """One optimiser step for each batch.

    Args:
        model: put into training mode; changed in place.
        batches: anything that `loss` understands.
        loss: the model and a batch -> a scalar to minimise.
        optimizer, schedule: see :mod:`mambaout.training.optim`.
        clip_norm: largest norm of all gradients together; None leaves them.
        on_step: called after each step with its number (from 1) and its loss.

    Returns:
        The loss of every step.

    Raises:
        Diverged: the loss is infinite or not a number; the model is as it was before that step.
    """
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(batches, 1):
        value = loss(model, batch)
        losses.append(value.item())
        if not math.isfinite(losses[-1]):
            raise Diverged(
                f"the loss of step {step} is {losses[-1]}; the step before had {losses[-2] if step > 1 else 'none'}. "
                "Try a lower learning rate, a longer warm-up, or clip_norm."
            )
        optimizer.zero_grad()
        value.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, losses[-1])
    return losses
