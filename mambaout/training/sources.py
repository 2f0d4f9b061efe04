"""Training data that fit into memory: the sets that the book carries, and tensors of your own."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch

from mambaout.training.classes import match
from mambaout.training.recipe import Data


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A random generator of its own for each purpose, such as ("order", epoch)."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


class Source(Protocol):
    """A set of small images that fits into memory."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the labels' order."""

    @property
    def fresh(self) -> bool:
        """Whether :meth:`train` gives other images in another epoch."""

    def train(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, H, W) uint8 and (N,) int64; N is the same in every epoch."""

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for the test images, which never change."""


@dataclass(frozen=True)
class Tensors:
    """A :class:`Source` of fixed images, for data of your own: ``train(recipe, data=Tensors(...))``.

    Attributes:
        train_images, test_images: (N, C, H, W) or (N, H, W) uint8.
        train_labels, test_labels: (N,) int64.
        classes: names, in the labels' order.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: Sequence[str]
    fresh: bool = False

    def __post_init__(self) -> None:
        for split, images, labels in (("train", *self.train(0, 0)), ("test", *self.test())):
            if images.ndim != 4 or images.dtype != torch.uint8 or len(images) != len(labels):
                raise ValueError(
                    f"{split} needs images (N, C, H, W) or (N, H, W) uint8 and as many labels; "
                    f"got {tuple(images.shape)} {images.dtype} and {tuple(labels.shape)}"
                )

    def train(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        return _with_channels(self.train_images), self.train_labels

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        return _with_channels(self.test_images), self.test_labels


def _with_channels(images: torch.Tensor) -> torch.Tensor:
    return images[:, None] if images.ndim == 3 else images


@dataclass(frozen=True)
class StampSource:
    """Cut-outs composed over textures and photographs, anew in each epoch; a :class:`Source`.

    Attributes:
        size: height and width.
        division: which cut-outs are held back for the test.
        count, test_count: images of an epoch, and of the test.
    """

    size: int = 64
    division: int = 0
    count: int = 10_000
    test_count: int = 2_000
    fresh: bool = True

    @property
    def classes(self) -> Sequence[str]:
        """Ten names."""
        from mambaout.datasets.stamps import CLASSES

        return CLASSES

    def train(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        drawn = generator(seed, "stamps", epoch).initial_seed() % 2**31
        return _stamps("train", self.count, self.size, self.division, drawn)

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        return _stamps("test", self.test_count, self.size, self.division, 0)


@lru_cache(maxsize=2)
def _stamps(
    split: Literal["train", "test"], count: int, size: int, division: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    from mambaout.datasets.stamps import stamps

    made = stamps(split, count, size=size, division=division, seed=seed)
    return made.images, made.labels


@dataclass(frozen=True)
class ClutterSource:
    """Fashion-MNIST's items over photographs, shown anew in each epoch; a :class:`Source`.

    Attributes:
        size: height and width.
        level: how hard, see `mambaout.datasets.clutter.LEVELS`.
        count, test_count: images of an epoch, and of the test, the first of each split.
    """

    size: int = 64
    level: str = "easy"
    count: int = 50_000
    test_count: int = 10_000
    fresh: bool = True

    @property
    def classes(self) -> Sequence[str]:
        """Ten names."""
        from mambaout.datasets.fashion_mnist import CLASSES

        return CLASSES

    def train(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        return _clutter("train", self.count, self.size, self.level, generator(seed, "clutter", epoch).initial_seed())

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        return _clutter("test", self.test_count, self.size, self.level, 0)


@lru_cache(maxsize=2)  # an epoch's and the test's
def _clutter(
    split: Literal["train", "test"], count: int, size: int, level: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    from mambaout.datasets import clutter

    made = clutter(split, range(count), level=level, size=size, seed=seed)
    return made.images, made.labels


def _fashion_mnist(data: Data) -> Source:
    from mambaout.datasets import fashion_mnist

    train, test = fashion_mnist("train"), fashion_mnist("test")
    return Tensors(train.images, train.labels, test.images, test.labels, train.classes)


SOURCES: dict[str, Callable[[Data], Source]] = {
    "clutter": lambda data: ClutterSource(data.image_size or 64, data.level),
    "fashion_mnist": _fashion_mnist,
    "stamps": lambda data: StampSource(data.image_size or 64, data.division),
}


def source(data: Data) -> Source:
    """One of the sets that the book carries.

    Raises:
        ValueError: there is none of that name.
        mambaout.datasets.DataError: its files are missing or altered.
    """
    if data.name not in SOURCES:
        near = difflib.get_close_matches(data.name, SOURCES, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise ValueError(f"there are no data {data.name!r}{hint} (there are {', '.join(SOURCES)}, and folder)")
    return SOURCES[data.name](data)


class Held:
    """A source reduced to what :class:`~mambaout.training.recipe.Data` asks for: a subset, a holdout.

    With a holdout, :meth:`test` gives those training images, and the real test images stay unseen.
    """

    def __init__(self, whole: Source, data: Data) -> None:
        images, labels = whole.train(0, 0)
        count = len(labels)
        for split, given in (("train", labels), ("test", whole.test()[1])):
            check_labels(given, whole.classes, split)
        order = torch.randperm(count, generator=generator(0, "subset"))  # the same for every seed
        end = min(count, data.holdout + (count if data.subset is None else data.subset))
        if not 0 <= data.holdout < count or end == data.holdout:
            raise ValueError(
                f"subset and holdout must leave some of the {count} training images, got {data.subset}, {data.holdout}"
            )
        self.whole, self.classes, self.fresh = whole, list(whole.classes), whole.fresh
        self.places: torch.Tensor | None = None  # of the classes, where a run knows them in another order
        self.chosen = order[data.holdout : end].sort().values if end - data.holdout < count else None
        held = order[: data.holdout]
        self.held = (images[held], labels[held]) if data.holdout else None

    def train(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        images, labels = self.whole.train(seed, epoch)
        labels = labels if self.places is None else self.places[labels]
        return (images, labels) if self.chosen is None else (images[self.chosen], labels[self.chosen])

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Source`."""
        images, labels = self.held or self.whole.test()
        return images, labels if self.places is None else self.places[labels]

    def reorder(self, classes: Sequence[str]) -> None:
        """From now on the labels count the same classes in this order.

        Raises:
            ValueError: they are not the same.
        """
        self.places = torch.tensor(match(self.whole.classes, classes))
        self.classes = list(classes)


def check_labels(labels: torch.Tensor, classes: Sequence[str], split: str) -> None:
    """Is every label the place of a class?

    Raises:
        ValueError: one is not; found now, not in a loss on the GPU.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(
            f"labels must lie between 0 and {len(classes) - 1}, as there are {len(classes)} classes; those of {split} "
            f"lie between {int(labels.min())} and {int(labels.max())}"
        )
