"""Clutter: Fashion-MNIST's items, tinted, turned, scaled and pasted over photographs, one or many in an image.

The items and photographs are files; the images are made when they are asked for. Image ``index`` of a split shows item
``index`` of that split, and how it is shown depends on the split, the seed and the index alone: neither on the images
that were made before nor on their number, and at another size it is the same picture. All arithmetic is in whole
numbers (:mod:`mambaout.datasets.paint`), and the random numbers are those of ``random.Random(...).random()``, whose
stream for a given seed Python promises to keep, so that every machine gets the same bytes.

One composer serves three tasks: :func:`clutter` for classification, :func:`dense` for a class at each pixel,
:func:`scene` for boxes and masks.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mambaout.datasets.fashion_mnist import CLASSES, fashion_mnist
from mambaout.datasets.paint import SPRITE, UNIT, WINDOWS, Picture, Sprite, Window, list_photographs, paint, soft_masks

Split = Literal["train", "val", "test"]
HELD = 6  # of so many official training images of a class, the last is for "val"
SIZES = range(16, 257)
_FRAGMENT = 14  # side of a fragment, in pixels of the item it comes from


@dataclass(frozen=True)
class Level:
    """How hard the images are. Angles and shares are drawn evenly between their limits.

    Attributes:
        items: fewest and most items in an image.
        side: smallest and largest side of an item's square, in 64ths of the image's.
        turn: largest turn to either side, in degrees.
        tint: smallest share of its light that each of an item's three colours keeps, in per cent.
        fragments: pieces of other items that lie under the items and belong to no class.
        apart: whether a third of the photographs is kept for "val" and "test", instead of all for all.
    """

    items: tuple[int, int] = (1, 1)
    side: tuple[int, int] = (28, 48)
    turn: int = 15
    tint: int = 80
    fragments: int = 0
    apart: bool = False

    def __post_init__(self) -> None:
        low, high = self.side
        if not (1 <= self.items[0] <= self.items[1] <= 255 and 8 <= low <= high <= 64):
            raise ValueError(f"a level has 1 to 255 items, and sides from 8 to 64, the smaller first; got {self}.")
        if not (0 <= self.turn <= 180 and 0 <= self.tint <= 100 and self.fragments >= 0):
            raise ValueError(f"a level turns by 0 to 180 degrees, tints to 0 to 100 per cent; got {self}.")


LEVELS = {
    "easy": Level(side=(40, 56)),
    "mild": Level(),
    "turned": Level(turn=45),
    "fragments": Level(fragments=4),
    "hard": Level(turn=45, tint=30, fragments=4, apart=True),
    "scene": Level(items=(3, 8), side=(16, 28)),
    "crowd": Level(items=(8, 16), side=(16, 28), turn=45, fragments=4),
}


@dataclass(frozen=True)
class Clutter:
    """Images for classification.

    Attributes:
        images: (N, 3, S, S) uint8, RGB.
        labels: (N,) int64, indices into `classes`: of the one item in an image, at levels that have one.
        classes: the ten names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dense:
    """Images with a class at each pixel.

    Attributes:
        images: (N, 3, S, S) uint8, RGB.
        labels: (N, S, S) int64: 0 is the background, 1 + index into `classes` an item, by who is on top.
        classes: the ten names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image, and where its items are.

    Attributes:
        image: (3, S, S) uint8, RGB.
        instances: (S, S) uint8: 0 is the background, k the k-th of the items that can be seen, from 1.
        labels: (K,) int64: their classes, indices into ``CLASSES``.
        items: (K,) int64: which items they are, indices into the images of the official split they come from.
    """

    image: Tensor
    instances: Tensor
    labels: Tensor
    items: Tensor

    @property
    def masks(self) -> Tensor:
        """(K, S, S) bool: what can be seen of each item."""
        return self.instances == torch.arange(1, len(self.labels) + 1)[:, None, None]

    @property
    def boxes(self) -> Tensor:
        """(K, 4) float32: left, top, right, bottom of what can be seen, in pixels; the right edge lies behind the
        last pixel, so that right - left is the width.
        """
        from torchvision.ops import masks_to_boxes

        return masks_to_boxes(self.masks) + torch.tensor([0.0, 0, 1, 1])

    @property
    def classes(self) -> Tensor:
        """(S, S) int64: 0 is the background, 1 + index into ``CLASSES`` an item."""
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + self.labels])[self.instances.long()]

    def target(self) -> dict[str, Tensor]:
        """What torchvision's detectors learn from: boxes, labels from 1, masks (K, S, S) uint8."""
        return {"boxes": self.boxes, "labels": 1 + self.labels, "masks": self.masks.byte()}


def clutter(
    split: Split,
    indices: Sequence[int] | Tensor | None = None,
    *,
    level: str | Level = "easy",
    size: int = 64,
    seed: int = 0,
) -> Clutter:
    """Images to classify.

    Args:
        split: "train", 50,000 items; "val", 10,000 others of the official training images, to choose settings with;
            "test", the official 10,000. Each has its classes in equal parts.
        indices: which images, by default all in order.
        level: how hard, a name in ``LEVELS`` or one of your own.
        size: height and width in pixels, from 16; made for 64 to 256.
        seed: another seed shows the same items otherwise (one for each epoch, for example). The fixed lists of
            validation and test images are those of seed 0.

    Raises:
        ValueError: another split, level or size, a negative seed, or more than one item in an image.
        IndexError: there is no such image.
        DataError: a file is missing, truncated, altered or no image.
    """
    level = _level(level)
    if level.items != (1, 1):
        low, high = level.items
        raise ValueError(f"an image of {low} to {high} items has no label: use dense or scene, or items=(1, 1).")
    indices = _indices(split, indices)
    images = np.empty((len(indices), 3, _size(size), size), np.uint8)
    for place, index in enumerate(indices):
        picture, _ = compose(split, index, level, seed)
        paint(picture, images[place])
    return Clutter(torch.from_numpy(images), torch.from_numpy(_items(split).labels[indices]))


def dense(
    split: Split,
    indices: Sequence[int] | Tensor | None = None,
    *,
    level: str | Level = "scene",
    size: int = 64,
    seed: int = 0,
) -> Dense:
    """Images to label pixel by pixel; the arguments and errors are those of :func:`clutter`."""
    scenes = [scene(split, index, level=level, size=size, seed=seed) for index in _indices(split, indices)]
    if not scenes:
        return Dense(torch.empty(0, 3, size, size, dtype=torch.uint8), torch.empty(0, size, size, dtype=torch.int64))
    return Dense(torch.stack([each.image for each in scenes]), torch.stack([each.classes for each in scenes]))


def scene(split: Split, index: int, *, level: str | Level = "scene", size: int = 64, seed: int = 0) -> Scene:
    """One image with boxes and masks; the arguments and errors are those of :func:`clutter`."""
    (index,) = _indices(split, [index])
    picture, shown = compose(split, index, _level(level), seed)
    image = np.empty((3, _size(size), size), np.uint8)
    instances = np.empty((size, size), np.uint8)
    paint(picture, image, instances)
    numbers = np.flatnonzero(np.bincount(instances.ravel(), minlength=len(shown) + 1)[1:])  # who can be seen
    renumbered = np.zeros(len(shown) + 1, np.uint8)
    renumbered[1 + numbers] = np.arange(1, len(numbers) + 1)
    chosen, items = shown[numbers], _items(split)
    return Scene(
        torch.from_numpy(image),
        torch.from_numpy(renumbered[instances]),
        torch.from_numpy(items.labels[chosen]),
        torch.from_numpy(items.official[chosen]),
    )


def compose(split: Split, index: int, level: Level, seed: int) -> tuple[Picture, NDArray[np.int64]]:
    """Draw what image `index` shows: the picture, and the items in it, indices into the split, the hindmost first."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must lie in [0, 2^64), got {seed}.")
    uniform = random.Random(index << 72 | seed << 8 | get_args(Split).index(split)).random

    def draw(low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(uniform() * (high - low + 1))

    def place(pixels: NDArray[np.uint8], mask: NDArray[np.uint8], counts: bool) -> Sprite:
        side = draw(level.side[0] * UNIT // 64, level.side[1] * UNIT // 64)
        x, y = (side // 2 + draw(0, UNIT - side) for _ in "xy")
        turn = draw(-10 * level.turn, 10 * level.turn)
        red, green, blue = (draw(256 * level.tint // 100, 256) for _ in "rgb")
        return Sprite(pixels, mask, x, y, side, turn, (red, green, blue), counts)

    behind = _behind(split, level.apart)
    photograph = behind[draw(0, len(behind) - 1)]
    window = Window(photograph, draw(0, len(WINDOWS) - 1), draw(0, UNIT), draw(0, UNIT), mirror=draw(0, 1) == 1)
    items = _items(split)
    sprites = []
    for _ in range(level.fragments):
        item, top, left = draw(0, len(items.labels) - 1), draw(0, _FRAGMENT), draw(0, _FRAGMENT)
        pixels, mask = (_fragment(whole[item], top, left) for whole in (items.pixels, items.masks))
        sprites.append(place(pixels, mask, False))
    others = draw(*level.items) - 1
    shown = np.array([index, *(draw(0, len(items.labels) - 1) for _ in range(others))])
    sprites += [place(items.pixels[item], items.masks[item], True) for item in shown]
    return Picture(window, tuple(sprites)), shown


@dataclass(frozen=True, eq=False)
class _Items:
    """Pixels and masks (N, 28, 28) uint8, labels (N,), and indices (N,) into the official split."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    labels: NDArray[np.int64]
    official: NDArray[np.int64]


@cache
def _items(split: Split) -> _Items:
    """The items of a split, in the order of the official file."""
    if split not in get_args(Split):
        raise ValueError(f'split must be "train", "val" or "test", got {split!r}.')
    whole = fashion_mnist("test" if split == "test" else "train")
    labels = whole.labels.numpy()
    official = np.arange(len(labels))
    if split != "test":  # one in six is the validation's, throughout the file
        held = np.zeros(len(labels), bool)
        for label in range(len(CLASSES)):
            held[np.flatnonzero(labels == label)[HELD - 1 :: HELD]] = True
        official = np.flatnonzero(held == (split == "val"))
    pixels = whole.images.numpy()[official]
    return _Items(pixels, soft_masks(pixels), labels[official], official)


@cache
def _behind(split: Split, apart: bool) -> list[int]:
    """The photographs that images of a split may have, indices into ``list_photographs()``."""
    every = range(len(list_photographs()))
    return [index for index in every if not apart or (index % 3 == 2) == (split != "train")]


def _fragment(pixels: NDArray[np.uint8], top: int, left: int) -> NDArray[np.uint8]:
    """A piece of an item, in the middle of an empty sprite."""
    piece, edge = np.zeros_like(pixels), (SPRITE - _FRAGMENT) // 2
    piece[edge : edge + _FRAGMENT, edge : edge + _FRAGMENT] = pixels[top : top + _FRAGMENT, left : left + _FRAGMENT]
    return piece


def _level(level: str | Level) -> Level:
    if isinstance(level, Level):
        return level
    if level not in LEVELS:
        raise ValueError(f"there is no level {level!r}; there are {', '.join(LEVELS)}.")
    return LEVELS[level]


def _size(size: int) -> int:
    if size not in SIZES:
        raise ValueError(f"size must lie between {SIZES[0]} and {SIZES[-1]} pixels, got {size}.")
    return size


def _indices(split: Split, indices: Sequence[int] | Tensor | None) -> list[int]:
    count = len(_items(split).labels)
    if indices is None:
        return list(range(count))
    chosen = torch.as_tensor(indices, dtype=torch.int64).tolist()
    if chosen and not 0 <= min(chosen) <= max(chosen) < count:
        raise IndexError(f'"{split}" has images 0 to {count - 1}, got {min(chosen)} to {max(chosen)}.')
    return chosen
