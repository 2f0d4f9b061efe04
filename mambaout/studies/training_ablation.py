"""What does each ingredient of the recipe do? One small MambaOut with the full recipe, and with each one left out.

Every run is a short training by the library's engine, on one fixed random part of Fashion-MNIST. A seed decides the
first weights, the order of the images, their augmentation and the dropped paths. Variants:

- ``full``: the recipe ``fashion_mnist``, shortened;
- ``no_X``: the same without X: ``warmup``, ``cosine`` (the rate stays at its peak after the warm-up),
  ``weight_decay``, ``label_smoothing``, ``shift_flip``, ``erasing``, ``drop_path``, ``ema``, ``clipping``;
- ``none``: without all of them, plain AdamW;
- ``plus_mix``: with Mixup and CutMix, which the paper's recipe has and ``fashion_mnist`` has not.

Rows: ``accuracy`` and ``loss`` on the 10,000 test images, ``train_accuracy`` and ``train_loss`` on the training images
as they are (no augmentation, plain cross entropy, so that variants can be compared), and ``holdout_E``, the accuracy
after epoch E on training images that were held out. By the last of these each variant's learning rate is tuned first.
``data/results/training_ablation_untuned.csv`` has the rows of an earlier study, all variants at the rate 4e-3 and 500
images held out.
"""

import dataclasses
from dataclasses import dataclass

import torch

from mambaout.studies.runner import Study
from mambaout.studies.tuning import Tuning
from mambaout.training import RECIPES, Augment, Data, Machine, Model, Recipe, Tensors, evaluate, train
from mambaout.training.sources import Held, source


@dataclass(frozen=True)
class AblationConfig:
    """One run of the study; the fields mean what they mean in :class:`~mambaout.training.Recipe` and its parts.

    Attributes:
        images, holdout: training images of the 60,000, and as many others for the curve and for the tuning.
        cosine: whether the rate falls along half a cosine after the warm-up; otherwise it stays at its peak.
        precision: of the forward and backward pass.
    """

    model: str = "mambaout_zepto"
    images: int = 2048
    holdout: int = 2000
    epochs: int = 5
    batch_size: int = 64
    lr: float = 4e-3
    warmup_epochs: float = 1.0
    cosine: bool = True
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    flip: float = 0.5
    shift: int = 2
    erase: float = 0.25
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path_rate: float = 0.1
    ema: float | None = 0.999
    clip_norm: float | None = 1.0
    precision: str = "bf16"

    def recipe(self, seed: int) -> Recipe:
        """The engine's recipe for one seed."""
        return Recipe(
            model=Model(self.model, self.drop_path_rate),
            data=Data("fashion_mnist", subset=self.images, holdout=self.holdout),
            augment=Augment(flip=self.flip, shift=self.shift, erase=self.erase, mixup=self.mixup, cutmix=self.cutmix),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            lr_batch=self.batch_size,
            warmup_epochs=self.warmup_epochs,
            min_lr=RECIPES["fashion_mnist"].min_lr if self.cosine else self.lr,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            ema=self.ema,
            clip_norm=self.clip_norm,
            seed=seed,
        )


def run(config: AblationConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and test it on all test images."""
    recipe = config.recipe(seed)
    machine = Machine(device=device.type, precision=config.precision)  # type: ignore[arg-type]
    whole = source(recipe.data)
    trained = train(recipe, machine, data=whole, progress=False)
    seen = Held(whole, recipe.data).train(seed, 0)
    known, new = (
        evaluate(trained.model, data, device=machine.device, precision=machine.precision)
        for data in (Tensors(*seen, *seen, whole.classes), whole)
    )
    values = {"accuracy": new.top1, "loss": new.loss, "train_accuracy": known.top1, "train_loss": known.loss}
    return values | {f"holdout_{row.epoch}": row.top1 for row in trained.history}


def validate(config: AblationConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model; its accuracy on the images held out, after the last epoch."""
    recipe = config.recipe(seed)
    machine = Machine(device=device.type, precision=config.precision)  # type: ignore[arg-type]
    trained = train(recipe, machine, data=source(recipe.data), progress=False)
    return {"validation_accuracy": trained.history[-1].top1}


FULL = AblationConfig()

LEFT_OUT: dict[str, dict[str, float | None]] = {
    "warmup": {"warmup_epochs": 0.0},
    "cosine": {"cosine": False},
    "weight_decay": {"weight_decay": 0.0},
    "label_smoothing": {"label_smoothing": 0.0},
    "shift_flip": {"flip": 0.0, "shift": 0},
    "erasing": {"erase": 0.0},
    "drop_path": {"drop_path_rate": 0.0},
    "ema": {"ema": None},
    "clipping": {"clip_norm": None},
}


def without(*ingredients: str) -> AblationConfig:
    """The full recipe without some of ``LEFT_OUT``."""
    changes: dict[str, float | None] = {}
    for name in ingredients:
        changes |= LEFT_OUT[name]
    return dataclasses.replace(FULL, **changes)  # type: ignore[arg-type]


STUDY = Study(
    "training_ablation",
    {
        "full": FULL,
        **{f"no_{name}": without(name) for name in LEFT_OUT},
        "none": without(*LEFT_OUT),
        "plus_mix": dataclasses.replace(FULL, mixup=0.8, cutmix=1.0),
    },
    run,
    tuning=Tuning(validate, grid=(1e-3, 2e-3, 4e-3, 8e-3)),
)
