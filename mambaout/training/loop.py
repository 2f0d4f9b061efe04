"""The training loop itself: a loss, its gradient, a step."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

Batch = TypeVar("Batch")
BatchIn = TypeVar("BatchIn", contravariant=True)


class Diverged(RuntimeError):  # noqa: N818
    """The loss is no longer a finite number."""


class Steps(Protocol):
    """What takes an optimiser step: torch's optimiser, or one that is wrapped for several processes."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> object:
        """Change the weights by them."""


class Backend(Protocol[BatchIn]):
    """How gradients come about; :class:`mambaout.training.devices.Devices` is the one for GPUs and many processes."""

    def gradients(self, batch: BatchIn) -> float:
        """Fill ``.grad`` of every parameter for one batch, and return its loss."""

    def clip(self, norm: float) -> None:
        """Scale all gradients down together, so that their norm is at most ``norm``."""


class Local(Generic[Batch]):
    """One process, one device, the whole batch at once."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Batch], torch.Tensor]) -> None:
        self.model, self.loss = model, loss

    def gradients(self, batch: Batch) -> float:
        """See :class:`Backend`."""
        value = self.loss(self.model, batch)
        value.backward()
        return value.item()

    def clip(self, norm: float) -> None:
        """See :class:`Backend`."""
        nn.utils.clip_grad_norm_(self.model.parameters(), norm)


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Any], torch.Tensor],
    optimizer: Steps,
    schedule: LRScheduler,
    *,
    clip_norm: float | None = None,
    on_step: Callable[[int, float], None] | None = None,
    backend: Backend[Batch] | None = None,
    first_step: int = 1,
) -> list[float]:
    """One optimiser step for each batch.

    Args:
        model: put into training mode; changed in place.
        batches: anything that `loss` understands.
        loss: the model and a batch -> a scalar to minimise.
        optimizer, schedule: see :mod:`mambaout.training.optim`.
        clip_norm: largest norm of all gradients together; None leaves them.
        on_step: called after each step with its number and its loss.
        backend: how gradients are computed; in this process by default.
        first_step: number of the first step, more than 1 in a run that is continued.

    Returns:
        The loss of every step.

    Raises:
        Diverged: the loss is infinite or not a number; the model is as it was before that step.
    """
    backend = Local(model, loss) if backend is None else backend
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(batches, first_step):
        optimizer.zero_grad()
        losses.append(backend.gradients(batch))
        if not math.isfinite(losses[-1]):
            before = losses[-2] if len(losses) > 1 else "none"
            raise Diverged(
                f"the loss of step {step} is {losses[-1]}; the step before had {before}. "
                "Try a lower learning rate, a longer warm-up, or clip_norm."
            )
        if clip_norm is not None:
            backend.clip(clip_norm)
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, losses[-1])
    return losses
