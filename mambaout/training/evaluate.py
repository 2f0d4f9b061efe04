"""Top-1 and top-5 accuracy, for all classes together and for each, counted by torchmetrics."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from mambaout.models import create_model, load_weights
from mambaout.models.registry import MODELS
from mambaout.models.weights import read_state_dict, shape_of
from mambaout.training.batches import Preparation, plainly
from mambaout.training.classes import match
from mambaout.training.devices import find_device
from mambaout.training.folders import PHOTO_SIZE, Folder, Photos, read_for_evaluation
from mambaout.training.recipe import Data, Machine, Recipe
from mambaout.training.run_files import read_run_file, weights_file
from mambaout.training.signals import leave_to_parent
from mambaout.training.sources import Source, check_labels, source


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        images: how many were classified.
        loss: mean cross-entropy.
        top1, top5: share of the images whose class was the first, or among the first five.
        classes: names.
        per_class: (classes,) share of each class's images that were recognised; NaN where there were none.
        confusion: (classes, classes) images of class i that were taken for class j.
        about: where the images came from; empty where there is nothing to say.
    """

    images: int
    loss: float
    top1: float
    top5: float
    classes: tuple[str, ...]
    per_class: torch.Tensor
    confusion: torch.Tensor
    about: str = ""

    def __str__(self) -> str:
        """The totals, then each class with what it is most often mistaken for, the worst first."""
        accuracy = f"top-1 {100 * self.top1:.2f} %, top-5 {100 * self.top5:.2f} %"
        lines = [self.about] if self.about else []
        lines.append(f"{self.images} images: {accuracy}, loss {self.loss:.4f}")
        width = max(map(len, self.classes))
        for i in self.per_class.argsort(stable=True).tolist():
            total = int(self.confusion[i].sum())
            if not total:
                continue
            line = f"  {self.classes[i]:<{width}}  {100 * self.per_class[i]:6.2f} % of {total}"
            mistakes = self.confusion[i].clone()
            mistakes[i] = 0
            if mistakes.any():
                line += f"; {int(mistakes.max())} taken for {self.classes[int(mistakes.argmax())]}"
            lines.append(line)
        return "\n".join(lines)


@torch.no_grad()
def measure(
    model: nn.Module,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    classes: Sequence[str],
    device: torch.device,
    autocast: AbstractContextManager[Any] | None = None,
    *,
    together: bool = False,
) -> Report:
    """Classify normalised images (B, C, H, W) with labels (B,).

    The model's mode and the random states are left as they were.

    Args:
        model, batches, device: what is measured, on what, and where.
        classes: their names.
        autocast: the precision of the forward pass.
        together: all processes call this, each with images of its own, and get the report of all images.
    """
    try:
        from torchmetrics import MeanMetric, MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: evaluation needs `pip install 'mambaout[train]'`") from error
    count = len(classes)
    metrics = MetricCollection(
        {
            "top1": MulticlassAccuracy(count, average="micro", sync_on_compute=together),
            "top5": MulticlassAccuracy(count, top_k=min(5, count), average="micro", sync_on_compute=together),
            "confusion": MulticlassConfusionMatrix(count, sync_on_compute=together),
        },
        compute_groups=False,
    ).to(device)
    loss = MeanMetric(sync_on_compute=together).to(device)
    was_training = model.training
    model.eval()
    for x, labels in batches:
        x, labels = x.to(device), labels.to(device)
        with autocast or nullcontext():
            logits = model(x).float()
        loss.update(F.cross_entropy(logits, labels), weight=len(labels))
        metrics.update(logits, labels)
    model.train(was_training)
    found = metrics.compute()
    confusion = found["confusion"].cpu()
    return Report(
        images=int(confusion.sum()),
        loss=loss.compute().item(),
        top1=found["top1"].item(),
        top5=found["top5"].item(),
        classes=tuple(classes),
        per_class=confusion.diag() / confusion.sum(1),
        confusion=confusion,
    )


def evaluation_batches(
    data: Folder | Source,
    prepare: Preparation,
    cfg: dict[str, Any],
    *,
    size: int = PHOTO_SIZE,
    batch_size: int = 256,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The evaluation images, normalised, in batches.

    Among several processes each takes every so-many-th image, none twice.

    Args:
        data: an image folder, or a set in memory.
        prepare: see :class:`Preparation`.
        cfg: the model's ``pretrained_cfg``, for its crop and interpolation (bicubic, whole image: the paper's).
        size: height and width of a folder's images.
        batch_size: images at once.
        workers: processes that decode a folder's images.
        rank, processes: this process's number, and how many there are.
    """
    if isinstance(data, Folder):
        from mambaout.training.photos import evaluation_transform

        crop = {key: cfg[key] for key in ("crop_pct", "interpolation") if key in cfg}
        images = Photos(data.root, data.val, evaluation_transform(size, prepare.mean, prepare.std, **crop))
        mine = Subset(images, range(rank, len(images), processes))
        loader: DataLoader[Any] = DataLoader(
            mine, batch_size, num_workers=workers, generator=torch.Generator(), worker_init_fn=leave_to_parent
        )
        return plainly(loader)

    pictures, labels = (t[rank::processes] for t in data.test())

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in zip(pictures.split(batch_size), labels.split(batch_size), strict=True):
            yield prepare.normalise(x.float() / 255), y

    return batches()


def evaluate(
    what: nn.Module | str | Path,
    data: Data | Source | None = None,
    *,
    architecture: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int = 256,
    workers: int = 8,
    whole: bool = False,
) -> Report:
    """Top-1 and top-5 accuracy on the test images, with the crop, interpolation and normalisation of the model.

    Where the weights tell the names of their classes, as those of a training do, classes are matched by name: the data
    may have some of them only, in any order. Else there must be as many, in the same order.

    Args:
        what: a model; the name of one with released weights; the folder, a checkpoint or the weights of a training
            of your own; or any other weights of ``architecture``.
        data: what to classify; by default what your own training learned from. A folder's images are as large as in
            that training, where ``data`` does not say.
        architecture: one of ``mambaout.list_models()``, for weights that do not say what they belong to.
        device: where; auto takes the GPU if there is one.
        precision: of the forward pass.
        batch_size: images at once.
        workers: processes that decode images.
        whole: take all images of a folder without val/, not only the fifth that a training holds back.

    Raises:
        ValueError: there is no such model or file, no data, or the two do not fit.
    """
    Machine(device, precision, workers=workers)  # refuses what no machine can do
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    model, recipe, known = _model(what, architecture)
    if data is None:
        if recipe is None:
            raise ValueError("say what to evaluate on: data=Data('fashion_mnist'), or Data('folder', folder=...)")
        data = recipe.data
    size = (data.image_size if isinstance(data, Data) else None) or (recipe and recipe.data.image_size) or PHOTO_SIZE
    place = torch.device(find_device(device))
    cfg = getattr(model, "pretrained_cfg", None) or {}
    images = images_of(data, whole)
    prepare = Preparation.of(model)
    prepare = prepare.for_photos(model) if isinstance(images, Folder) else prepare
    if known is None:
        prepare.check(images.classes)
        known, places = images.classes, list(range(len(images.classes)))
    else:
        places = match(images.classes, known)
    batches = evaluation_batches(images, prepare, cfg, size=size, batch_size=batch_size, workers=workers)
    order = torch.tensor(places)
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    autocast = torch.autocast(place.type, types[precision]) if precision in types else None
    report = measure(model.to(place), ((x, order[y]) for x, y in batches), known, place, autocast)
    return replace(report, about=str(images)) if isinstance(images, Folder) else report


def images_of(data: Data | Source, whole: bool = False) -> Folder | Source:
    """The images to evaluate on.

    Raises:
        ValueError: there are none, or a label is not the place of a class.
    """
    if isinstance(data, Data) and data.name == "folder":
        return read_for_evaluation(data, whole)
    found = source(data) if isinstance(data, Data) else data
    check_labels(found.test()[1], found.classes, "test")
    return found


def _model(
    what: nn.Module | str | Path, architecture: str | None
) -> tuple[Any, Recipe | None, Sequence[str] | None]:
    """The model, and the recipe that it was trained by and the names of its classes, where they are known."""
    if isinstance(what, nn.Module):
        return what, None, getattr(what, "class_names", None)
    path = Path(what)
    if str(what) in MODELS and not path.exists():
        return create_model(str(what), pretrained=True), None, None
    path = weights_file(path)
    if not path.is_file():
        near = difflib.get_close_matches(str(what), MODELS, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{what} is no model, and there is no such file or folder.{hint}")
    if architecture is not None:
        return load_weights(create_model(architecture, **shape_of(read_state_dict(path))), path), None, None
    kept = read_run_file(path)
    if kept.recipe is None or not kept.shape:
        raise ValueError(f"{path} does not say what model it belongs to: name its architecture, such as mambaout_tiny")
    model = create_model(kept.recipe.model.name, **kept.recipe.model.options() | kept.shape)
    return load_weights(model, kept.source), kept.recipe if kept.own_data else None, kept.class_names
