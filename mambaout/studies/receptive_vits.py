"""Two small ViTs, one fully-visible and one causal, whose receptive fields the book shows beside those of MambaOut.

They are here to be looked at, not to be compared in accuracy: they are trained on the stamps for a few minutes, with
the same seed, images and recipe, and differ in the mask of their attention alone. Patches of 8 pixels make 64 tokens.

Run ``mambaout study receptive_vits --seeds 1``: it writes ``data/results/receptive_vits.csv``, and the weights of seed
0, as float16, to ``data/weights/receptive_vits.safetensors``. Rows: ``accuracy`` (a fraction of the test images),
``train_loss`` (mean of the last 50 steps), ``params``.
"""

from dataclasses import dataclass
from typing import cast

import torch

from mambaout.analysis.cost import count_parameters
from mambaout.models import ViT, create_model
from mambaout.studies.images import ShortTraining, accuracy, initialise, normalise, shuffled_batches, train_classifier
from mambaout.studies.kept import keep, restore, variant_of
from mambaout.studies.runner import Study
from mambaout.studies.sets import SETS, Part, load
from mambaout.studies.tuning import Tuning

WEIGHTS = "weights/receptive_vits.safetensors"


@dataclass(frozen=True, kw_only=True)
class ReceptiveViTConfig(ShortTraining):
    """One run of the study.

    Attributes:
        data: one of :data:`mambaout.studies.sets.SETS`.
        token_mixer, patch_size, dim, depth, num_heads: see :class:`~mambaout.models.ViTConfig`.
    """

    data: str = "stamps"
    token_mixer: str
    patch_size: int = 8
    dim: int = 64
    depth: int = 4
    num_heads: int = 2
    images: int = 8_000
    epochs: int = 6
    batch_size: int = 32
    lr: float = 2e-3


def fresh(config: ReceptiveViTConfig, seed: int = 0) -> ViT:
    """The model before training."""
    torch.manual_seed(seed)
    made = SETS[config.data]
    shape = {name: getattr(config, name) for name in ("token_mixer", "patch_size", "dim", "depth", "num_heads")}
    model = create_model(
        "vit_ti", **shape, image_size=made.side, num_classes=made.classes, in_chans=made.channels
    )
    initialise(model)
    return cast(ViT, model)


def trained(variant: str) -> ViT:
    """The model that the study trained with seed 0, in evaluation mode.

    Takes images (B, 3, 64, 64) as :func:`mambaout.studies.images.normalise` makes them.

    Args:
        variant: "visible" or "causal".

    Raises:
        ValueError: another variant.
    """
    if variant not in STUDY.variants:
        raise ValueError(f"unknown variant {variant!r}; the study has {', '.join(STUDY.variants)}")
    return restore(fresh(STUDY.variants[variant]), WEIGHTS, variant).eval()


def run(config: ReceptiveViTConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one ViT and test it."""
    model, values = _train(config, seed, device, "test")
    if seed == 0 and (name := variant_of(config, STUDY.variants)):
        keep(model, WEIGHTS, name)
    return values


def validate(config: ReceptiveViTConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one ViT and score it on the validation part."""
    return {"validation_accuracy": _train(config, seed, device, "validation")[1]["accuracy"]}


def _train(
    config: ReceptiveViTConfig, seed: int, device: torch.device, part: Part
) -> tuple[ViT, dict[str, float]]:
    train, (images, labels) = load(config.data, config.images, config.epochs, seed, part)
    model = fresh(config, seed).to(device)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for both variants
    batches = shuffled_batches(train, config, draw, device, mirror=SETS[config.data].mirrored)
    train_loss = train_classifier(model, batches, config)
    return model, {
        "accuracy": accuracy(model, normalise(images).to(device), labels.to(device)),
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
    }


STUDY = Study(
    "receptive_vits",
    {
        "visible": ReceptiveViTConfig(token_mixer="attention"),
        "causal": ReceptiveViTConfig(token_mixer="causal_attention"),
    },
    run,
    tuning=Tuning(validate),
)
