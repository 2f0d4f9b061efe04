"""Checks of the exercises of the chapter on training."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from mambaout.exercises import NotYet, exercise, number
from mambaout.training.batches import Share
from mambaout.training.optim import warmup_cosine


def _engine_rate(t: int, steps: int, warmup: int, peak: float, start: float, end: float) -> float:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedule = warmup_cosine(optimizer, steps, warmup, start=start / peak, end=end / peak)
    return peak * float(schedule.lr_lambdas[0](t))


@exercise("training.rate")
def _rate(answer: Any) -> None:
    """a straight line up to the peak, then half a cosine that ends with the last step."""
    cases = [(100, 20, 4e-3, 1e-6, 1e-5), (11, 3, 1.0, 0.0, 0.0), (50, 0, 1e-3, 1e-6, 1e-4), (30, 10, 2.0, 0.5, 1.0)]
    for steps, warmup, peak, start, end in cases:
        for t in range(steps):
            case = f"step {t} of {steps} with {warmup} steps of warm-up, peak {peak:g}, start {start:g}, end {end:g}"
            right = _engine_rate(t, steps, warmup, peak, start, end)
            found = number(answer(t, steps, warmup, peak, start, end), case)
            if math.isclose(found, right, rel_tol=1e-6, abs_tol=1e-9):
                continue
            said = f"For {case} came {found:g}, expected {right:g}."
            if t < warmup:
                if math.isclose(found, peak * t / warmup):
                    raise NotYet(f"{said} The line begins at start, not at 0.")
                if math.isclose(found, start + (peak - start) * (t + 1) / warmup):
                    raise NotYet(f"{said} Steps are counted from 0: the first has the rate start.")
                raise NotYet(f"{said} During the warm-up the rate rises in a straight line from start to peak.")
            for done, hint in (
                (t / (steps - 1), "The cosine begins where the warm-up ends, not with the first step."),
                ((t - warmup) / (steps - warmup), "The last step is steps - 1, and the cosine is over with it."),
            ):
                if math.isclose(found, end + (peak - end) * (1 + math.cos(math.pi * done)) / 2, rel_tol=1e-6):
                    raise NotYet(f"{said} {hint}")
            done = (t - warmup) / (steps - 1 - warmup)
            if math.isclose(found, peak * (1 + math.cos(math.pi * done)) / 2, rel_tol=1e-6, abs_tol=1e-9):
                raise NotYet(f"{said} The cosine falls from peak to end, not to 0.")
            raise NotYet(said)


@exercise("training.smooth_loss")
def _smooth_loss(answer: Any) -> None:
    """the true class keeps 1 - epsilon, and epsilon is spread over all classes, the true one included."""
    random = torch.Generator().manual_seed(0)
    for images, classes, epsilon in ((1, 3, 0.0), (4, 3, 0.3), (5, 10, 0.1), (2, 1000, 0.1)):
        logits = 2 * torch.randn(images, classes, generator=random)
        labels = torch.randint(classes, (images,), generator=random)
        case = f"{images} images, {classes} classes and epsilon {epsilon}"
        found = answer(logits.clone(), labels.clone(), epsilon)
        if isinstance(found, torch.Tensor):
            if found.numel() != 1:
                raise NotYet(f"Return the mean over the images, one number; got the shape {tuple(found.shape)}.")
            found = found.item()
        found = number(found, case)
        right = F.cross_entropy(logits, labels, label_smoothing=epsilon).item()
        if math.isclose(found, right, rel_tol=1e-4):
            continue
        for wrong, hint in _WRONG_LOSSES:
            if math.isclose(found, wrong(logits, labels, epsilon), rel_tol=1e-4):
                raise NotYet(f"For {case}: {hint}")
        raise NotYet(f"For {case} came {found:.4f}, expected {right:.4f}.")


def _spread_over_others(logits: torch.Tensor, labels: torch.Tensor, epsilon: float) -> float:
    classes = logits.shape[1]
    target = F.one_hot(labels, classes).float()
    target = (1 - epsilon) * target + epsilon / (classes - 1) * (1 - target)
    return F.cross_entropy(logits, target).item()


_WRONG_LOSSES: list[tuple[Callable[[torch.Tensor, torch.Tensor, float], float], str]] = [
    (lambda z, y, e: F.cross_entropy(z, y).item(), "this is the cross-entropy without smoothing."),
    (_spread_over_others, "epsilon is spread over all classes, the true one included, so that each gets epsilon / K."),
    (
        lambda z, y, e: F.cross_entropy(z, y, label_smoothing=e, reduction="sum").item(),
        "this is the sum over the images; take their mean.",
    ),
    (lambda z, y, e: -F.cross_entropy(z, y, label_smoothing=e).item(), "the sign is missing: log p is negative."),
    (
        lambda z, y, e: (1 - e) * F.cross_entropy(z, y).item() - e * z.log_softmax(-1).sum(-1).mean().item(),
        "every class gets epsilon / K, not epsilon: take the mean over the classes.",
    ),
]


@exercise("training.share")
def _share(answer: Any) -> None:
    """every image once, neighbours together, and all micro-batches of one size."""
    for batch, processes, micro in ((8, 2, 4), (8, 2, 2), (64, 4, 8), (16, 1, 4), (4096, 8, 256)):
        numbers = torch.arange(batch)
        taken: list[int] = []
        for rank in range(processes):
            found = answer(rank, batch, processes, micro)
            case = f"process {rank} of {processes}, a batch of {batch} and micro-batches of {micro}"
            try:
                found = [[int(i) for i in piece] for piece in found]
            except TypeError:
                raise NotYet(f"Return a list of lists of numbers; for {case} came {found!r}.") from None
            sizes = sorted({len(piece) for piece in found})
            if sizes != [micro]:
                raise NotYet(f"For {case} the micro-batches have the sizes {sizes}.")
            right = [piece.tolist() for piece in Share.of(batch, micro, rank, processes).split(numbers)]
            flat = [i for piece in found for i in piece]
            if len(flat) > batch // processes:
                raise NotYet(f"For {case} came {len(flat)} images; its share are {batch // processes}.")
            if again := sorted(set(taken) & set(flat)):
                raise NotYet(f"For {case} came image {again[0]}, which an earlier process has taken.")
            taken += flat
            if found == right:
                continue
            if flat == list(range(rank, batch, processes)):
                raise NotYet(f"For {case} every {processes}th image came; a process takes neighbours.")
            raise NotYet(f"For {case} came {found[0][:4]} ... first, expected {right[0][:4]} ...")
