"""How hard is clutter? A pilot that sets the difficulty of :mod:`mambaout.datasets.clutter`, on its validation part.

A level serves to compare token mixers if a small MambaOut, trained for some minutes, is far from chance and from
perfect, if mixing tokens matters to it, and if the same comparison comes out alike with another seed. A variant's name
is the level, a slash, the arm, an ``@`` and the learning rate. Arms:

- ``gated_cnn``: MambaOut with depths 1 and 2, widths 32 and 64, a token for each 4 x 4 pixels;
- ``identity``: the same without mixing in the blocks, the floor;
- ``kernel_5``: with convolutions of 5 x 5 instead of 7 x 7, an arm near to the first: the spread of their difference
  over seeds, which share images and their order, says what a comparison of so many seeds can see.

All have the same number of parameters. Rows: ``validation_accuracy`` of 4,000 validation images, ``train_loss``
(mean of the last 50 steps), and ``params``. Seeds run where the question needs them: one for rates and levels, four
for the two arms that are paired.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from mambaout.analysis.cost import count_parameters
from mambaout.datasets import clutter
from mambaout.datasets.fashion_mnist import CLASSES
from mambaout.models import MambaOut, MambaOutConfig
from mambaout.models.matching import count, match_parameters
from mambaout.studies.images import (
    ShortTraining,
    accuracy,
    initialise,
    normalise,
    shuffled_batches,
    train_classifier,
)
from mambaout.studies.runner import Study
from mambaout.studies.sets import ClutterEpochs
from mambaout.training.devices import keep_freed_memory

SCORED = 4_000  # validation images


@dataclass(frozen=True, kw_only=True)
class PilotConfig(ShortTraining):
    """One run of the pilot.

    Attributes:
        level: of the images, see :data:`mambaout.datasets.clutter.LEVELS`.
        token_mixer, kernel_size: see :class:`~mambaout.models.MambaOutConfig`.
    """

    level: str = "easy"
    token_mixer: str = "gated_cnn"
    kernel_size: int = 7
    images: int = 16_000
    epochs: int = 8
    batch_size: int = 64
    lr: float = 4e-3


def fresh(config: PilotConfig, seed: int) -> MambaOut:
    """The model before training, with as many parameters as MambaOut's, as nearly as possible."""
    plain = MambaOutConfig(depths=(1, 2), dims=(32, 64), num_classes=len(CLASSES))
    arm = dataclasses.replace(plain, token_mixer=config.token_mixer, kernel_size=config.kernel_size)
    torch.manual_seed(seed)
    model = MambaOut(match_parameters(arm, count(plain)))
    initialise(model)
    return model


def run(config: PilotConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and score it on the validation part."""
    if device.type == "cpu":
        keep_freed_memory()
    train = ClutterEpochs(config.images, config.epochs, seed, config.level)
    scored = clutter("val", range(SCORED), level=config.level)
    model = fresh(config, seed).to(device)
    draw = torch.Generator().manual_seed(seed)
    train_loss = train_classifier(model, shuffled_batches(train, config, draw, device, mirror=False), config)
    return {
        "validation_accuracy": accuracy(model, normalise(scored.images).to(device), scored.labels.to(device)),
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
    }


ARMS: dict[str, dict[str, Any]] = {
    "gated_cnn": {},
    "identity": {"token_mixer": "identity"},
    "kernel_5": {"kernel_size": 5},
}
RATES = (2e-3, 4e-3, 8e-3)
LEVELS = ("easy", "mild", "turned", "fragments", "hard")

STUDY = Study(
    "clutter_pilot",
    {
        f"{level}/{arm}@{rate:g}": PilotConfig(level=level, lr=rate, **settings)
        for level in LEVELS
        for arm, settings in ARMS.items()
        for rate in RATES
    },
    run,
)
