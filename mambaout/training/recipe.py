"""Recipes: everything that decides what a training does, as frozen dataclasses.

`Recipe` says what is trained and how; two runs of one recipe and one seed on one machine are the same run. `Machine`
says where. It changes the result by rounding, and by which paths are dropped: each device and each micro-batch draws
its own.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from mambaout.models.common import parse_settings

# Table 5 of the paper; Kobe's comes from the authors' scripts.
DROP_PATH = {
    "mambaout_femto": 0.025,
    "mambaout_kobe": 0.025,
    "mambaout_tiny": 0.2,
    "mambaout_small": 0.4,
    "mambaout_base": 0.6,
}


def _bounds(part: Any, **intervals: str) -> None:
    """Refuse a number outside its interval, such as crop="(0, 1]". NaN lies in none; None, where allowed, is no number.

    Raises:
        ValueError: names the field, the interval and the value.
    """
    for name, interval in intervals.items():
        low, high = (float(end) for end in interval[1:-1].split(","))
        value = getattr(part, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None:
                continue
            above = number > low if interval[0] == "(" else number >= low
            below = number < high if interval[-1] == ")" else number <= high
            if not (above and below):
                raise ValueError(f"{name} must lie in {interval}, got {value}")


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        name: one of `mambaout.list_models()`.
        drop_path_rate: stochastic depth of the last block. By default the paper's value for that model, else 0.
        settings: any other settings of the model, such as "dims=(48,96)" "kernel_size=5".
        pretrained: start from the released ImageNet weights, or from those of the book.
        checkpoint: start from these weights instead: a file, or the folder of a training. With other classes than
            theirs the last layer is fresh.
    """

    name: str = "mambaout_femto"
    drop_path_rate: float | None = None
    settings: tuple[str, ...] = ()
    pretrained: bool = False
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        _bounds(self, drop_path_rate="[0, 1)")

    def options(self) -> dict[str, Any]:
        """The keyword arguments for :func:`mambaout.create_model`."""
        rate = DROP_PATH.get(self.name, 0.0) if self.drop_path_rate is None else self.drop_path_rate
        return {"drop_path_rate": rate} | parse_settings(self.settings)


@dataclass(frozen=True)
class Data:
    """What it learns from.

    Attributes:
        name: fashion_mnist, clutter or stamps, which the book carries, or folder.
        folder: for "folder": where train/CLASS/ and val/CLASS/ lie with the images in them, as in ImageNet; or CLASS/
            alone, of which a fifth is held back for evaluation.
        image_size: height and width, of a folder's crops in training and evaluation (224 by default) or of clutter and
            stamps (64 by default).
        level: for "clutter": how hard; see `mambaout.datasets.clutter.LEVELS`.
        division: for "stamps": which cut-outs are held back for the test, see `mambaout.datasets.stamps.divide`; for a
            folder without val/: which fifth.
        subset: learn from that many images only, a fixed random choice. All by default.
        holdout: keep that many training images out of the training, and evaluate on them instead of the test images.
        skip_damaged: image folder: read every image before the training begins, and leave out those that cannot be.
    """

    name: str = "folder"
    folder: Path | None = None
    image_size: int | None = None
    level: str = "easy"
    division: int = 0
    subset: int | None = None
    holdout: int = 0
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        _bounds(self, image_size="[8, 8192]", division="[0, inf)", subset="[1, inf)", holdout="[0, inf)")


@dataclass(frozen=True)
class Augment:
    """How the training images are varied; 0 switches one off. Every image draws its own.

    Attributes:
        flip: probability of a horizontal flip.
        erase: probability of random erasing: a rectangle becomes pixels of normal noise.
        color_jitter: brightness, contrast and saturation vary by a factor within 1 ± this. With an image folder only
            where rand_augment is 0: timm, which the paper used, leaves it out beside RandAugment.
        crop: image folder: smallest share of the area that a random resized crop takes.
        rand_augment: image folder: magnitude of RandAugment's two operations, 0 to 10.
        rand_augment_std: image folder: standard deviation of that magnitude.
        shift: embedded data: largest shift in pixels, along each axis.
        zoom: embedded data: the scale varies by a factor within 1 ± this.
        rotate: embedded data: largest rotation in degrees.
        mixup: alpha of Mixup's Beta distribution.
        cutmix: alpha of CutMix's Beta distribution.
        switch: where both are on, the share of the batches that CutMix gets.
    """

    flip: float = 0.5
    erase: float = 0.25
    color_jitter: float = 0.0
    crop: float = 0.08
    rand_augment: float = 0.0
    rand_augment_std: float = 0.5
    shift: int = 0
    zoom: float = 0.0
    rotate: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        _bounds(self, flip="[0, 1]", erase="[0, 1]", color_jitter="[0, 1]", crop="(0, 1]", switch="[0, 1]")
        _bounds(self, rand_augment="[0, 10]", rand_augment_std="[0, inf)", mixup="[0, inf)", cutmix="[0, inf)")
        _bounds(self, shift="[0, 8192]", zoom="[0, 1)", rotate="[0, 180]")


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        model: what is trained.
        data: what it learns from.
        augment: how the images are varied.
        epochs: passes over the training images.
        batch_size: images of one optimiser step, over all processes and micro-batches together.
        lr: peak learning rate for a batch of lr_batch images.
        lr_batch: the learning rate is scaled by batch_size / lr_batch (Goyal et al., 2017).
        warmup_epochs: the learning rate rises linearly over that many epochs, which count among `epochs`.
        cooldown_epochs: further epochs at min_lr, after `epochs`.
        warmup_lr: learning rate of the first step.
        min_lr: learning rate of the last step.
        layer_decay: the learning rate of each block is that of the next one times this, so that the first layers of
            trained weights change least. None by default.
        weight_decay: AdamW's, for weights of linear layers and convolutions; none on norms and biases.
        betas: AdamW's.
        label_smoothing: probability that the target spreads over all classes.
        clip_norm: largest norm of the gradient. No clipping by default.
        ema: decay of an exponential moving average of the weights, which is then evaluated and exported. None by
            default.
        seed: of the first weights, the order, the augmentation and the dropped paths.
    """

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    epochs: int = 300
    batch_size: int = 4096
    lr: float = 4e-3
    lr_batch: int = 4096
    warmup_epochs: float = 20
    cooldown_epochs: int = 0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    layer_decay: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = 0.1
    clip_norm: float | None = None
    ema: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _bounds(self, epochs="[1, inf)", batch_size="[1, inf)", cooldown_epochs="[0, inf)")
        _bounds(self, lr="(0, inf)", lr_batch="[1, inf)", warmup_lr="[0, inf)", min_lr="[0, inf)")
        _bounds(self, weight_decay="[0, inf)", betas="[0, 1)", label_smoothing="[0, 1)", clip_norm="(0, inf)")
        _bounds(self, ema="(0, 1)", seed=f"[0, {2**63})", warmup_epochs=f"[0, {self.epochs})", layer_decay="(0, 1]")

    @property
    def peak_lr(self) -> float:
        """The learning rate after the warm-up, scaled to the batch."""
        return self.lr * self.batch_size / self.lr_batch


@dataclass(frozen=True)
class Machine:
    """Where it is trained.

    Attributes:
        device: auto takes the GPU if there is one. Under torchrun every process takes one GPU, or shares the CPU.
        precision: of the forward and backward pass (autocast). The weights stay in float32.
        micro_batch: images that one device takes at once; gradients accumulate to batch_size. Undivided by default.
        compile: torch.compile the model: slow first steps, faster later ones.
        channels_last: store convolution weights channels-last. MambaOut's blocks work so inside in any case.
        workers: processes that decode the images of a folder, for each device.
        checkpoint_steps: optimiser steps between checkpoints; there is one after each epoch in any case.
        threads: of the CPU, for each process. PyTorch's choice by default, which is all cores.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    micro_batch: int | None = None
    compile: bool = False
    channels_last: bool = False
    workers: int = 8
    checkpoint_steps: int = 500
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("device", "precision"):
            value, known = getattr(self, name), get_args(get_type_hints(Machine)[name])
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        cores = os.cpu_count() or 1
        _bounds(self, micro_batch="[1, inf)", workers="[0, 1024]", checkpoint_steps="[1, inf)", threads=f"[1, {cores}]")


RECIPES: dict[str, Recipe] = {
    # Table 5 of the paper and the defaults of the authors' train.py (data/paper/recipe.csv).
    "imagenet": Recipe(
        augment=Augment(rand_augment=9, color_jitter=0.4, mixup=0.8, cutmix=1.0), cooldown_epochs=10
    ),
    "fashion_mnist": Recipe(
        model=Model("mambaout_atto", drop_path_rate=0.1),
        data=Data("fashion_mnist"),
        augment=Augment(shift=2, erase=0.25),
        epochs=40,
        batch_size=128,
        lr=2e-3,
        lr_batch=128,
        warmup_epochs=2,
        ema=0.999,
        clip_norm=1.0,
    ),
    "clutter": Recipe(
        model=Model("mambaout_atto64", drop_path_rate=0.1),
        data=Data("clutter"),
        augment=Augment(flip=0, erase=0),
        epochs=10,
        batch_size=128,
        lr=2e-3,
        lr_batch=128,
        warmup_epochs=1,
        clip_norm=1.0,
    ),
    "stamps": Recipe(
        model=Model("mambaout_atto64", drop_path_rate=0.1),
        data=Data("stamps"),
        augment=Augment(color_jitter=0.2, erase=0.1, cutmix=1.0, mixup=0.2),
        epochs=60,
        batch_size=128,
        lr=2e-3,
        lr_batch=128,
        warmup_epochs=3,
        ema=0.999,
        clip_norm=1.0,
    ),
    # Mild, as is usual for trained weights (ConvNeXt's and timm's fine-tuning), and fit for a few hundred images too.
    "finetune": Recipe(
        model=Model("mambaout_femto", pretrained=True),
        augment=Augment(crop=0.35, color_jitter=0.2, erase=0.1),
        epochs=20,
        batch_size=32,
        lr=2e-3,
        lr_batch=128,
        warmup_epochs=1,
        warmup_lr=1e-6,
        min_lr=1e-6,
        layer_decay=0.8,
        clip_norm=1.0,
    ),
}

DESCRIPTIONS = {
    "imagenet": "The paper's: 300 epochs of ImageNet at batch 4096, AdamW 4e-3 (Table 5).",
    "fashion_mnist": "28 x 28 grey clothes, 40 epochs, for the CPU (--precision bf16 where it is fast).",
    "clutter": "64 x 64 items of Fashion-MNIST over photographs, shown anew each epoch.",
    "finetune": "Released weights, or your own, go on learning on a folder of images.",
    "stamps": "64 x 64 coloured cut-outs over photographs, composed anew each epoch.",
}


def to_json(recipe: Recipe) -> str:
    """The recipe as text, for checkpoints."""
    return json.dumps(dataclasses.asdict(recipe), default=str, indent=1)


def from_json(text: str) -> Recipe:
    """The recipe that :func:`to_json` wrote.

    Raises:
        ValueError: it is none, or one of another version of this library.
    """
    parts: dict[str, Callable[..., Any]] = {"model": Model, "data": Data, "augment": Augment}
    try:
        fields: dict[str, Any] = json.loads(text)
        for name, part in parts.items():
            fields[name] = part(**fields[name])
        return _assembled(fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no recipe of this version of the library: {error}") from error


def _assembled(fields: dict[str, Any]) -> Recipe:
    """A recipe from its fields, those that JSON has no types for restored."""
    data, model = fields["data"], fields["model"]
    fields["data"] = dataclasses.replace(data, folder=_path(data.folder))
    fields["model"] = dataclasses.replace(model, settings=tuple(model.settings), checkpoint=_path(model.checkpoint))
    return Recipe(**fields | {"betas": tuple(fields["betas"])})


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What differs, as "lr: 0.1 -> 0.2". Files that have moved make no difference, nor do more epochs."""
    before, after = (_flat(dataclasses.asdict(recipe)) for recipe in (old, new))
    if new.epochs > old.epochs:
        del before["epochs"]
    changed = [key for key in before if before[key] != after[key] and key not in ("data.folder", "model.checkpoint")]
    return [f"{key}: {before[key]} -> {after[key]}" for key in changed]


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
