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
from mambaout.datasets.stamps import CLASSES
from mambaout.models import ViT, create_model
from mambaout.studies.hypothesis_1 import load_data
from mambaout.studies.images import ShortTraining, accuracy, initialise, normalise, shuffled_batches, train_classifier
from mambaout.studies.kept import keep, restore
from mambaout.studies.runner import Study

WEIGHTS = "weights/receptive_vits.safetensors"


@dataclass(frozen=True, kw_only=True)
class ReceptiveViTConfig(ShortTraining):
    """One run of the study. The images are composed anew for each epoch.

    Attributes:
        token_mixer, patch_size, dim, depth, num_heads: see :class:`~mambaout.models.ViTConfig`.
        image_size: height and width of the images in pixels.
    """

    token_mixer: str
    patch_size: int = 8
    dim: int = 64
    depth: int = 4
    num_heads: int = 2
    image_size: int = 64
    images: int = 8_000
    epochs: int = 6
    batch_size: int = 32
    lr: float = 2e-3


def fresh(config: ReceptiveViTConfig, seed: int = 0) -> ViT:
    """The model before training."""
    torch.manual_seed(seed)
    shape = ("token_mixer", "patch_size", "dim", "depth", "num_heads", "image_size")
    model = create_model("vit_ti", num_classes=len(CLASSES), **{name: getattr(config, name) for name in shape})
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
    train, (test_images, test_labels) = load_data("stamps", config.images, config.epochs, seed)
    model = fresh(config, seed).to(device)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for both variants

    train_loss = train_classifier(model, shuffled_batches(train, config, draw, device, mirror=False), config)
    if config in KEPT and seed == 0:
        keep(model, WEIGHTS, KEPT[config])
    return {
        "accuracy": accuracy(model, normalise(test_images).to(device), test_labels.to(device)),
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
)
KEPT = {config: name for name, config in STUDY.variants.items()}  # whose weights of seed 0 are kept
