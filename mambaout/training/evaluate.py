"""Top-1 and top-5 accuracy, for all classes together and for each, counted by torchmetrics."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from mambaout.models import create_model, load_weights
from mambaout.models.registry import MODELS
from mambaout.models.weights import read_state_dict, shape_of, tensors_in
from mambaout.training import checkpoint
from mambaout.training.batches import Preparation
from mambaout.training.devices import find_device
from mambaout.training.recipe import Data, Machine, Recipe, from_json
from mambaout.training.sources import PHOTO_SIZE, Source, image_folder, source

WEIGHTS = "weights.safetensors"  # what a finished training leaves in its folder


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
    """

    images: int
    loss: float
    top1: float
    top5: float
    classes: tuple[str, ...]
    per_class: torch.Tensor
    confusion: torch.Tensor

    def __str__(self) -> str:
        """The totals, then each class with what it is most often mistaken for, the worst first."""
        accuracy = f"top-1 {100 * self.top1:.2f} %, top-5 {100 * self.top5:.2f} %"
        lines = [f"{self.images} images: {accuracy}, loss {self.loss:.4f}"]
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
    data: Data | Source,
    prepare: Preparation,
    cfg: dict[str, Any],
    *,
    batch_size: int = 256,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> tuple[Iterator[tuple[torch.Tensor, torch.Tensor]], Sequence[str]]:
    """The evaluation images, normalised, in batches, and the names of the classes.

    Among several processes each takes every so-many-th image, none twice.

    Args:
        data: an image folder's, or a set in memory.
        prepare: see :class:`Preparation`.
        cfg: the model's ``pretrained_cfg``, for its crop and interpolation (bicubic, whole image: the paper's).
    """
    if isinstance(data, Data):
        from mambaout.training.photos import evaluation_transform

        crop = {key: cfg[key] for key in ("crop_pct", "interpolation") if key in cfg}
        size = data.image_size or PHOTO_SIZE
        folder = image_folder(data, "val", evaluation_transform(size, prepare.mean, prepare.std, **crop))
        mine = Subset(folder, range(rank, len(folder), processes))
        return iter(DataLoader(mine, batch_size, num_workers=workers, generator=torch.Generator())), folder.classes

    images, labels = (t[rank::processes] for t in data.test())

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            yield prepare.normalise(x.float() / 255), y

    return batches(), data.classes


def evaluate(
    what: nn.Module | str | Path,
    data: Data | Source | None = None,
    *,
    architecture: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int = 256,
    workers: int = 8,
) -> Report:
    """Top-1 and top-5 accuracy on the test images, with the crop, interpolation and normalisation of the model.

    Args:
        what: a model; the name of one with released weights; the folder, a checkpoint or the weights of a training
            of your own; or any other weights of ``architecture``.
        data: what to classify; by default what your own training learned from.
        architecture: one of ``mambaout.list_models()``, for weights that do not say what they belong to.
        device: where; auto takes the GPU if there is one.
        precision: of the forward pass.
        batch_size: images at once.
        workers: processes that decode images.

    Raises:
        ValueError: there is no such model or file, no data, or the two do not fit.
    """
    Machine(device, precision, workers=workers)  # refuses what no machine can do
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    model, recipe = _model(what, architecture)
    if data is None:
        if recipe is None:
            raise ValueError("say what to evaluate on: data=Data('fashion_mnist'), or Data('folder', folder=...)")
        data = recipe.data
    if isinstance(data, Data) and data.name != "folder":
        data = source(data)
    place = torch.device(find_device(device))
    cfg = getattr(model, "pretrained_cfg", None) or {}
    prepare = Preparation.of(model)
    batches, classes = evaluation_batches(data, prepare, cfg, batch_size=batch_size, workers=workers)
    prepare.check(classes)
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    autocast = torch.autocast(place.type, types[precision]) if precision in types else None
    return measure(model.to(place), batches, classes, place, autocast)


def _model(what: nn.Module | str | Path, architecture: str | None) -> tuple[Any, Recipe | None]:
    """The model, and the recipe that it was trained by, if known."""
    if isinstance(what, nn.Module):
        return what, None
    path = Path(what)
    if str(what) in MODELS and not path.exists():
        return create_model(str(what), pretrained=True), None
    if path.is_dir():
        finished, found = path / WEIGHTS, checkpoint.checkpoints(path)
        if not finished.is_file() and not found:
            raise ValueError(f"{path} has neither {WEIGHTS} nor a checkpoint: is it the folder of a training?")
        path = finished if finished.is_file() else found[-1]
    if not path.is_file():
        near = difflib.get_close_matches(str(what), MODELS, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{what} is no model, and there is no such file or folder.{hint}")
    if architecture is not None:
        return load_weights(create_model(architecture, **shape_of(read_state_dict(path))), path), None
    told, state = _own(path)
    if "num_classes" not in told:
        raise ValueError(f"{path} does not say what model it belongs to: name its architecture, such as mambaout_tiny")
    try:
        recipe = from_json(told["recipe"])
        shape = {"num_classes": int(told["num_classes"]), "in_chans": int(told["in_chans"])}
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say as it should what model it belongs to: {error}") from error
    model = load_weights(create_model(recipe.model.name, **recipe.model.options() | shape), state)
    return model, None if told.get("data") == "given" else recipe


def _own(path: Path) -> tuple[dict[str, str], Any]:
    """What a file of ours says about its model, nothing if it is another's; and where its weights are."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                told = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as weights: {error}") from error
        return told, path
    state = checkpoint.load(path)
    if "recipe" not in state:
        return {}, path
    return state["about"] | {"recipe": state["recipe"]}, tensors_in(state, path)
