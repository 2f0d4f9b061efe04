"""The images that studies of classification learn from, are tuned on and tested on: three parts that share nothing.

A tuning run trains like a comparison and is scored on the validation part; a comparison trains on the same kind of
images and is scored on the test part. Neither ever trains on the validation part, and a tuning run never loads a test
image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, overload

import torch

from mambaout.datasets import clutter, fashion_mnist
from mambaout.datasets.stamps import stamps

Part = Literal["test", "validation"]
Images = tuple[torch.Tensor, torch.Tensor]  # (N, C, H, W) or (N, H, W) uint8, and labels (N,)

VALIDATION = 10_000  # of Fashion-MNIST's 60,000 training images
CLUTTER = 50_000  # items to train on, in clutter
SCORED = 2_000  # composed images of a validation or test part


@dataclass(frozen=True)
class ImageSet:
    """A set of labelled images.

    Attributes:
        channels, side: of its images.
        classes: how many.
        mirrored: whether half of the training images are mirrored; composed images are new in every epoch anyway.
        draw: (images an epoch, epochs, seed, part) -> the training images of each epoch, and those of the part.
    """

    channels: int
    side: int
    classes: int
    mirrored: bool
    draw: Callable[[int, int, int, Part], tuple[Sequence[Images], Images]]


def _fashion_mnist(images: int, epochs: int, seed: int, part: Part) -> tuple[Sequence[Images], Images]:
    """A random part of the 50,000 training images, the same in every epoch; the seed decides which."""
    everything = fashion_mnist("train")
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
    held, rest = order[:VALIDATION], order[VALIDATION:]  # the same for all seeds
    if images > len(rest):
        raise ValueError(f"an epoch has at most {len(rest):,} images, the others are for validation; got {images:,}")
    chosen = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:images]]
    train = (everything.images[chosen], everything.labels[chosen])
    if part == "validation":
        return [train] * epochs, (everything.images[held], everything.labels[held])
    test = fashion_mnist("test")
    return [train] * epochs, (test.images, test.labels)


def _stamps(images: int, epochs: int, seed: int, part: Part) -> tuple[Sequence[Images], Images]:
    """Composed anew for every epoch; the seed also decides which cut-outs are held back for the test."""
    train = [stamps("train", images, division=seed, seed=1 + epoch, reserve=True) for epoch in range(epochs)]
    scored = stamps(part, SCORED, division=seed, reserve=True)
    return [(made.images, made.labels) for made in train], (scored.images, scored.labels)


@dataclass(frozen=True)
class ClutterEpochs(Sequence[Images]):
    """Images composed when their epoch begins, since all epochs together would fill the memory.

    Attributes:
        images, epochs: how many; each epoch goes on with the next items, until all have been shown.
        seed: of the order of the items, and, with the epoch, of how they are shown.
        level: see :data:`mambaout.datasets.clutter.LEVELS`.
    """

    images: int
    epochs: int
    seed: int
    level: str = "easy"

    def __len__(self) -> int:
        return self.epochs

    @overload
    def __getitem__(self, index: int) -> Images: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Images]: ...

    def __getitem__(self, index: int | slice) -> Images | Sequence[Images]:
        if isinstance(index, slice):
            return [self[epoch] for epoch in range(*index.indices(self.epochs))]
        epoch = range(self.epochs)[index]
        order = torch.randperm(CLUTTER, generator=torch.Generator().manual_seed(self.seed))
        chosen = order[torch.arange(epoch * self.images, (epoch + 1) * self.images) % CLUTTER]
        made = clutter("train", chosen, level=self.level, seed=(self.seed << 20) + epoch)
        return made.images, made.labels


def _clutter(images: int, epochs: int, seed: int, part: Part) -> tuple[Sequence[Images], Images]:
    """Composed anew for every epoch; the parts to score are the same for all seeds."""
    scored = clutter("val" if part == "validation" else "test")
    return ClutterEpochs(images, epochs, seed), (scored.images, scored.labels)


SETS: Mapping[str, ImageSet] = {
    "fashion_mnist": ImageSet(1, 28, 10, mirrored=True, draw=_fashion_mnist),
    "stamps": ImageSet(3, 64, 10, mirrored=False, draw=_stamps),
    "clutter": ImageSet(3, 64, 10, mirrored=False, draw=_clutter),
}


@lru_cache(maxsize=1)
def load(name: str, images: int, epochs: int, seed: int, part: Part) -> tuple[Sequence[Images], Images]:
    """The training images of each epoch, and those to score. One draw is kept for the variants that follow.

    Args:
        name: one of :data:`SETS`.
        images, epochs: training images of an epoch, and passes over them.
        seed: decides the training images.
        part: "validation" to choose settings, "test" to compare.
    """
    return SETS[name].draw(images, epochs, seed, part)
