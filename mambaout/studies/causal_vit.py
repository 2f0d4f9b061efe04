"""Does recognition lose when attention becomes causal? A small ViT on Fashion-MNIST (the paper's Figure 3b).

The same ViT, recipe, images and order of images, with attention that is

- ``visible``: fully-visible;
- ``causal``: causal in raster order;
- ``random``: causal, the tokens in one fixed random order;
- ``bidirectional``: causal, every second block reading backwards.

A variant's name is the size, a slash, and one of these: ``p4_d64/causal`` has patches of 4 pixels (49 tokens) and width
64, ``p2_d32`` patches of 2 pixels (196 tokens), width 32 and two blocks where the others have four. Training takes a
random part of the 50,000 images that are not for validation (the part depends on the seed, not on the variant), the
test all 10,000. Each variant's learning rate is tuned first. Rows: ``accuracy`` (a fraction), ``train_loss`` (mean of
the last 50 steps), ``params``. ``data/results/causal_vit_untuned.csv`` has the rows of an earlier study, of the same
variants at a common rate of 4e-3.
"""

from dataclasses import dataclass
from typing import Any

import torch

from mambaout.analysis.cost import count_parameters
from mambaout.models import create_model
from mambaout.studies.images import ShortTraining, accuracy, initialise, normalise, shuffled_batches, train_classifier
from mambaout.studies.runner import Study
from mambaout.studies.sequential import Pair
from mambaout.studies.sets import SETS, Part, load
from mambaout.studies.tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class CausalViTConfig(ShortTraining):
    """One run of the study.

    Attributes:
        data: one of :data:`mambaout.studies.sets.SETS`.
        token_mixer, token_order, patch_size, dim, depth, num_heads: see :class:`~mambaout.models.ViTConfig`.
    """

    data: str = "fashion_mnist"
    token_mixer: str = "attention"
    token_order: str = "raster"
    patch_size: int = 4
    dim: int = 64
    depth: int = 4
    num_heads: int = 2
    images: int = 8_000
    epochs: int = 5
    batch_size: int = 64
    lr: float = 4e-3


def run(config: CausalViTConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one ViT and test it on all test images."""
    return _train(config, seed, device, "test")


def validate(config: CausalViTConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one ViT and score it on the validation part."""
    return {"validation_accuracy": _train(config, seed, device, "validation")["accuracy"]}


def _train(config: CausalViTConfig, seed: int, device: torch.device, part: Part) -> dict[str, float]:
    made = SETS[config.data]
    train, (images, labels) = load(config.data, config.images, config.epochs, seed, part)
    torch.manual_seed(seed)
    shape = {name: getattr(config, name) for name in ("token_mixer", "token_order", "patch_size", "dim", "depth")}
    model = create_model(
        "vit_ti", **shape, num_heads=config.num_heads, image_size=made.side, num_classes=made.classes,
        in_chans=made.channels,
    ).to(device)  # fmt: skip
    initialise(model)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for every variant
    batches = shuffled_batches(train, config, draw, device, mirror=made.mirrored)
    train_loss = train_classifier(model, batches, config)
    return {
        "accuracy": accuracy(model, normalise(images).to(device), labels.to(device)),
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
    }


MODES: dict[str, dict[str, Any]] = {
    "visible": {},
    "causal": {"token_mixer": "causal_attention"},
    "random": {"token_mixer": "causal_attention", "token_order": "random"},
    "bidirectional": {"token_mixer": "causal_attention", "token_order": "bidirectional"},
}


def _variants(**sizes: dict[str, Any]) -> dict[str, CausalViTConfig]:
    return {
        f"{size}/{mode}": CausalViTConfig(**fields, **settings)
        for size, fields in sizes.items()
        for mode, settings in MODES.items()
    }


SIZES: dict[str, dict[str, Any]] = {
    "p4_d32": {"dim": 32},
    "p4_d64": {"dim": 64},
    "p2_d32": {"dim": 32, "depth": 2, "patch_size": 2},
}
MOST = {"causal": 20, "random": 10, "bidirectional": 10}  # seeds; the mask itself is the question

STUDY = Study(
    "causal_vit",
    _variants(**SIZES),
    run,
    large=_variants(
        p4_d192={"dim": 192, "num_heads": 3, "depth": 12, "images": 50_000, "epochs": 30, "batch_size": 512},
        p2_d192={
            "dim": 192, "num_heads": 3, "depth": 12, "patch_size": 2, "images": 50_000, "epochs": 30, "batch_size": 512
        },
    ),
    tuning=Tuning(validate),
    pairs=tuple(Pair(f"{size}/{mode}", f"{size}/visible", most=most) for size in SIZES for mode, most in MOST.items()),
)
