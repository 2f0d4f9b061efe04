"""Does recognition lose when attention becomes causal? A small ViT on Fashion-MNIST (the paper's Figure 3b).

The same ViT, recipe, images and order of images, with attention that is

- ``visible``: fully-visible;
- ``causal``: causal in raster order;
- ``random``: causal, the tokens in one fixed random order;
- ``bidirectional``: causal, every second block reading backwards.

A variant's name is the size, a slash, and one of these: ``p4_d64/causal`` has patches of 4 pixels (49 tokens) and width
64, ``p2_d32`` patches of 2 pixels (196 tokens), width 32 and two blocks where the others have four. Training takes a
random part of the 60,000 images (the part depends on the seed, not on the variant), the test all 10,000. Rows:
``accuracy`` (a fraction), ``train_loss`` (mean of the last 50 steps), ``params``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mambaout.analysis.cost import count_parameters
from mambaout.datasets import fashion_mnist
from mambaout.models import create_model
from mambaout.studies.images import Batch, ShortTraining, accuracy, initialise, mirrored, normalise, train_classifier
from mambaout.studies.runner import Study
from mambaout.training import optim


@dataclass(frozen=True, kw_only=True)
class CausalViTConfig(ShortTraining):
    """One run of the study. It takes a random part of the 60,000 images; half of it is mirrored.

    Attributes:
        token_mixer, token_order, patch_size, dim, depth, num_heads: see :class:`~mambaout.models.ViTConfig`.
    """

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
    train, test = fashion_mnist("train"), fashion_mnist("test")
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for every variant
    part = torch.randperm(len(train.images), generator=draw)[: config.images]
    images, labels = normalise(train.images[part]).to(device), train.labels[part].to(device)
    torch.manual_seed(seed)
    shape = {name: getattr(config, name) for name in ("token_mixer", "token_order", "patch_size", "dim", "depth")}
    model = create_model(
        "vit_ti", **shape, num_heads=config.num_heads, image_size=28, num_classes=len(train.classes), in_chans=1
    ).to(device)
    initialise(model)

    def batches() -> Iterator[Batch]:
        for batch in optim.shuffled(config.images, config.batch_size, config.epochs, draw):
            yield mirrored(images[batch], draw), labels[batch]

    train_loss = train_classifier(model, batches(), config)
    return {
        "accuracy": accuracy(model, normalise(test.images).to(device), test.labels.to(device)),
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
    }


MODES = {
    "visible": {},
    "causal": {"token_mixer": "causal_attention"},
    "random": {"token_mixer": "causal_attention", "token_order": "random"},
    "bidirectional": {"token_mixer": "causal_attention", "token_order": "bidirectional"},
}


def _variants(**sizes: dict[str, int]) -> dict[str, CausalViTConfig]:
    return {
        f"{size}/{mode}": CausalViTConfig(**fields, **settings)  # type: ignore[arg-type]
        for size, fields in sizes.items()
        for mode, settings in MODES.items()
    }


STUDY = Study(
    "causal_vit",
    _variants(p4_d32={"dim": 32}, p4_d64={"dim": 64}, p2_d32={"dim": 32, "depth": 2, "patch_size": 2}),
    run,
    large=_variants(
        p4_d192={"dim": 192, "num_heads": 3, "depth": 12, "images": 60_000, "epochs": 30, "batch_size": 512},
        p2_d192={
            "dim": 192, "num_heads": 3, "depth": 12, "patch_size": 2, "images": 60_000, "epochs": 30, "batch_size": 512
        },
    ),
)
