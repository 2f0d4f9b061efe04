"""What trained weights bring on one's own images: fine-tuning beside a linear probe of them, and beside no weights."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.training.batches import Preparation
from mambaout.training.checkpoint import write_whole
from mambaout.training.engine import Run, train
from mambaout.training.evaluate import evaluation_batches, measure
from mambaout.training.folders import PHOTO_SIZE, Folder
from mambaout.training.recipe import Machine, Recipe
from mambaout.training.sources import generator
from mambaout.training.start import first_model

REPORT = "report.md"
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # of the probe's weights; chosen on a fifth of the training images


@dataclass(frozen=True)
class Arm:
    """One way to a classifier.

    Attributes:
        name: of the way.
        top1: share of the test images that it recognises.
        images: how many these are.
        seconds: that it took, evaluations included.
    """

    name: str
    top1: float
    images: int
    seconds: float

    def interval(self) -> tuple[float, float]:
        """Of the accuracy, 95 %, for other test images of the same kind (Wilson, 1927)."""
        n, z = self.images, 1.96
        middle = (self.top1 + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.top1 * (1 - self.top1) / n + z * z / (4 * n * n))
        return middle - half, middle + half


@dataclass(frozen=True)
class Comparison:
    """The ways side by side; as text, a table in Markdown.

    Attributes:
        run: the fine-tuning.
        arms: it, the linear probe, and the training from scratch.
    """

    run: Run
    arms: tuple[Arm, ...]

    def __str__(self) -> str:
        recipe = self.run.recipe
        weights = recipe.model.checkpoint or f"the released weights of {recipe.model.name}"
        lines = [
            f"# {recipe.model.name} on {self.run.data}",
            "",
            f"Starts from {weights}; {recipe.epochs} epochs, seed {recipe.seed}, one run each. The intervals tell how "
            "far another test set of this size might lie, not another seed. The rates are the recipe's, "
            f"{recipe.peak_lr:g}, and {from_scratch(recipe).peak_lr:g} from scratch; none was tuned on these images.",
            "",
            "| training | top-1 | 95 % interval | seconds |",
            "| --- | --- | --- | --- |",
        ]
        for arm in self.arms:
            low, high = arm.interval()
            lines.append(f"| {arm.name} | {arm.top1:.2%} | {low:.1%} to {high:.1%} | {arm.seconds:.0f} |")
        return "\n".join(lines)


def compare_starts(run: Run, machine: Machine, *, progress: bool = True) -> Comparison:
    """Train the same model from scratch and a linear probe beside a finished run, in folders below the run's.

    The table is also written to report.md in the run's folder.

    Raises:
        ValueError: the run did not start from trained weights, learned from no folder, or has none.
    """
    started = run.recipe.model.pretrained or run.recipe.model.checkpoint is not None
    if not started or not isinstance(run.data, Folder) or run.folder is None:
        raise ValueError("a comparison takes a run that starts from trained weights and learns from a folder of images")
    scratch = train(from_scratch(run.recipe), machine, folder=run.folder / "scratch", progress=progress)
    found = Comparison(run, (_arm("fine-tuned", run), linear_probe(run, machine), _arm("from scratch", scratch)))
    write_whole(run.folder / REPORT, lambda file: file.write(f"{found}\n".encode()))
    return found


def from_scratch(recipe: Recipe) -> Recipe:
    """The same training without trained weights, at the rates of the book's recipes for that: it is not starved."""
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, pretrained=False, checkpoint=None),
        layer_decay=None,
        lr=2e-3,
        lr_batch=128,
        warmup_epochs=max(recipe.warmup_epochs, recipe.epochs / 10),
        min_lr=1e-5,
    )


def _arm(name: str, run: Run) -> Arm:
    assert isinstance(run.data, Folder)
    return Arm(name, run.history[-1].top1, len(run.data.val), run.history[-1].seconds)


def linear_probe(run: Run, machine: Machine) -> Arm:
    """A logistic regression on what the first weights of a run make of the images, without augmentation."""
    start = time.perf_counter()
    model: Any = first_model(run.recipe.model, run.data.classes)
    model.reset_classifier(0)
    device = next(run.model.parameters()).device
    model = model.to(device).eval()
    assert isinstance(run.data, Folder)
    train_x, train_y = _features(model, run, dataclasses.replace(run.data, val=run.data.train), machine)
    test_x, test_y = _features(model, run, run.data, machine)
    mean, std = train_x.mean(0), train_x.std(0).clamp(min=1e-6)
    train_x, test_x = (train_x - mean) / std, (test_x - mean) / std

    order = torch.randperm(len(train_y), generator=generator(0, "probe")).to(device)
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    classes = len(run.data.classes)

    def held_loss(penalty: float) -> float:
        layer = logistic_regression(train_x[kept], train_y[kept], classes, penalty)
        with torch.no_grad():
            return F.cross_entropy(layer(train_x[held]), train_y[held]).item()

    layer = logistic_regression(train_x, train_y, classes, min(PENALTIES, key=held_loss))
    report = measure(layer, iter([(test_x, test_y)]), run.data.classes, device)
    return Arm("linear probe", report.top1, report.images, time.perf_counter() - start)


def _features(model: Any, run: Run, folder: Folder, machine: Machine) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the images in ``folder.val``: (N, D), and their labels (N,)."""
    prepare = dataclasses.replace(Preparation.of(model), classes=len(folder.classes)).for_photos(model)
    device, size = next(model.parameters()).device, run.recipe.data.image_size or PHOTO_SIZE
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]] = evaluation_batches(
        folder, prepare, model.pretrained_cfg, size=size, batch_size=64, workers=machine.workers
    )
    with torch.no_grad():
        found = [(model(x.to(device)), y.to(device)) for x, y in batches]
    features, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return features, labels


def logistic_regression(x: torch.Tensor, y: torch.Tensor, classes: int, penalty: float) -> nn.Linear:
    """The layer with the least cross-entropy plus ``penalty`` times half the squared weights, by L-BFGS.

    Args:
        x, y: features (N, D) and labels (N,).
        classes: outputs.
        penalty: see above.
    """
    layer = nn.Linear(x.shape[1], classes, device=x.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), y) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.requires_grad_(False)
