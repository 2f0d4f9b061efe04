"""Stamps: photographic cut-outs in ten classes, each composed at random over a texture or a photograph.

The cut-outs and the photographs are files (`data/stamps/`, origin and licences in its README); the images are made
when they are asked for, as many as wanted, new ones for each seed. What tests a model is the cut-outs: a division
holds some of each class, and some of the photographs, back for the test, whole. Who chooses settings by such images
needs cut-outs that belong to no division: the reserve, the same for all.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mambaout.datasets import compose
from mambaout.files import read
from mambaout.files.data import DataError, find

CLASSES = (
    "mammal",
    "bird",
    "insect",
    "sea animal",
    "flower",
    "plant",
    "fruit or vegetable",
    "household item",
    "musical instrument",
    "vehicle",
)
Split = Literal["train", "test", "validation"]
TEST_SHARE = 0.3  # of the cut-outs of each class, and of the photographs
RESERVE_SHARE = 0.15  # likewise
SIDE = 160  # pixels of the square that holds a cut-out, the longest side of most files


@dataclass(frozen=True)
class Stamp:
    """One cut-out: its file below `data/stamps/`, its class as an index into `CLASSES`, and what it shows."""

    file: str
    label: int
    name: str


@dataclass(frozen=True)
class Division:
    """Who trains and who tests.

    Attributes:
        train, test: indices into `list_stamps()`, ascending; disjoint, together all of them.
        train_backgrounds, test_backgrounds: the same for `list_backgrounds()`.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    train_backgrounds: tuple[int, ...]
    test_backgrounds: tuple[int, ...]


@dataclass(frozen=True)
class Stamps:
    """Composed images.

    Attributes:
        images: (N, 3, S, S) uint8, RGB.
        labels: (N,) int64, indices into `classes`.
        stamps: (N,) int64, the cut-out in each image, indices into `list_stamps()`.
        classes: the ten names.
    """

    images: Tensor
    labels: Tensor
    stamps: Tensor
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


def stamps(
    split: Split, count: int, *, size: int = 64, division: int = 0, seed: int = 0, reserve: bool = False
) -> Stamps:
    """Compose `count` images, in random order; each class and, within a class, each cut-out as often as the others.

    The same arguments give the same images. Another `seed` gives new images of the same cut-outs (one for each
    epoch, for example); another `division` gives other cut-outs to "train" and "test".

    Args:
        split: which cut-outs and photographs are used: "train" or "test", those of the division; "validation", the
            reserve, in any division the same.
        count: how many images; counts of two classes differ by at most one.
        size: their height and width in pixels; 64 to 128 is what the cut-outs are good for.
        division: see :func:`divide`.
        seed: of scale, place, rotation, colours and background.
        reserve: keep what :func:`reserved` gives out of "train" and "test".

    Raises:
        ValueError: another split, a count below 1, a size below 8, or a negative seed or division.
        DataError: a file is missing, truncated, altered or no image.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}; got {split!r}.")
    if count < 1 or size < 8:
        raise ValueError(f"expected at least 1 image of at least 8 pixels, got count={count} and size={size}.")
    indices, backgrounds = _members(split, division, reserve)
    generator = _generator("compose", get_args(Split).index(split), division, seed)
    shown = _draw(indices, count, generator)
    images = compose.compose(
        _pyramid("stamps"),
        _pyramid("backgrounds"),
        shown,
        torch.tensor(backgrounds)[torch.randint(len(backgrounds), (count,), generator=generator)],
        extents=_extents()[shown],
        size=size,
        generator=generator,
    )
    return Stamps(images, _labels()[shown], shown)


def divide(division: int = 0) -> Division:
    """Hold 30 % of the cut-outs of each class (at least two) and of the photographs back for the test.

    Args:
        division: the number of the division; each deals the cut-outs and the photographs anew.

    Raises:
        ValueError: a negative number.
        DataError: a table is missing, truncated or altered.
    """
    generator = _generator("divide", division)
    labels = _labels()
    test: list[int] = []
    for label in range(len(CLASSES)):
        members = torch.nonzero(labels == label).flatten()
        held = max(2, round(TEST_SHARE * len(members)))
        test += members[torch.randperm(len(members), generator=generator)[:held]].tolist()
    photographs = len(list_backgrounds())
    dealt = torch.randperm(photographs, generator=generator).tolist()
    held = round(TEST_SHARE * photographs)
    train = set(range(len(labels))) - set(test)
    return Division(tuple(sorted(train)), tuple(sorted(test)), tuple(sorted(dealt[held:])), tuple(sorted(dealt[:held])))


@cache
def reserved() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The cut-outs (15 % of each class, at least one) and the photographs for choosing settings; ascending indices."""
    generator = _generator("reserve", 0)
    labels = _labels()
    kept: list[int] = []
    for label in range(len(CLASSES)):
        members = torch.nonzero(labels == label).flatten()
        share = max(1, round(RESERVE_SHARE * len(members)))
        kept += members[torch.randperm(len(members), generator=generator)[:share]].tolist()
    photographs = len(list_backgrounds())
    dealt = torch.randperm(photographs, generator=generator)[: round(RESERVE_SHARE * photographs)]
    return tuple(sorted(kept)), tuple(sorted(dealt.tolist()))


def _members(split: Split, division: int, reserve: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the cut-outs and of the photographs that a split is composed of."""
    if split == "validation":
        return reserved()
    chosen = divide(division)
    parts = (
        (chosen.train, chosen.train_backgrounds) if split == "train" else (chosen.test, chosen.test_backgrounds)
    )
    if not reserve:
        return parts
    cut_outs, photographs = (
        tuple(sorted(set(part) - set(kept))) for part, kept in zip(parts, reserved(), strict=True)
    )
    return cut_outs, photographs


@cache
def list_stamps() -> tuple[Stamp, ...]:
    """All cut-outs, in the order of `stamps.csv`."""
    path = find("stamps/stamps.csv")
    rows = read.table(path, ("file", "class", "name"))
    if unknown := [row["class"] for row in rows if row["class"] not in CLASSES]:
        raise DataError(f"{path} has a class {unknown[0]!r}; the classes are {', '.join(CLASSES)}.")
    return tuple(Stamp(row["file"], CLASSES.index(row["class"]), row["name"]) for row in rows)


@cache
def list_backgrounds() -> tuple[str, ...]:
    """The files of all photographs, in the order of `backgrounds.csv`, which has their licences."""
    return tuple(row["file"] for row in read.table(find("stamps/backgrounds.csv"), ("file",)))


def stamp(index: int) -> Tensor:
    """One cut-out as (4, H, W) uint8: red, green, blue, alpha; at most 160 pixels long.

    Raises:
        IndexError: there is no such cut-out.
        DataError: the file is missing, truncated, altered or no image.
    """
    return _read(list_stamps()[index].file, "RGBA")


def background(index: int) -> Tensor:
    """One photograph as (3, 240, 320) uint8.

    Raises:
        IndexError: there is no such photograph.
        DataError: the file is missing, truncated, altered or no image.
    """
    return _read(list_backgrounds()[index], "RGB")


def _read(file: str, mode: str) -> Tensor:
    pixels = read.image(find(f"stamps/{file}"), mode)  # (H, W, 3 or 4)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@cache
def _labels() -> Tensor:
    return torch.tensor([stamp.label for stamp in list_stamps()])


@cache
def _pyramid(kind: Literal["stamps", "backgrounds"]) -> list[Tensor]:
    """All images of a kind in full, half, quarter and eighth size, decoded once."""
    if kind == "backgrounds":
        return compose.pyramid(torch.stack([background(index) for index in range(len(list_backgrounds()))]))
    return compose.pyramid(torch.stack([compose.square(stamp(index), SIDE) for index in range(len(list_stamps()))]))


@cache
def _extents() -> Tensor:
    """(K, 2): width and height of each cut-out as shares of the square that holds it."""
    sizes = torch.tensor([stamp(index).shape[:0:-1] for index in range(len(list_stamps()))], dtype=torch.float32)
    return sizes / sizes.amax(dim=1, keepdim=True)


def _draw(indices: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """(count,) cut-outs in random order, the classes balanced, and the cut-outs of each class."""
    labels = _labels()[list(indices)]
    classes = torch.randperm(len(CLASSES), generator=generator)  # who gets one more
    drawn = []
    for place, label in enumerate(classes.tolist()):
        members = torch.tensor(indices)[labels == label]
        wanted = count // len(CLASSES) + (place < count % len(CLASSES))
        order = members[torch.randperm(len(members), generator=generator)]
        drawn.append(order.repeat(-(-wanted // len(order)))[:wanted])
    together = torch.cat(drawn)
    return together[torch.randperm(count, generator=generator)]


def _generator(purpose: str, *numbers: int) -> torch.Generator:
    """Independent random numbers for each purpose and each tuple of numbers."""
    if min(numbers) < 0:
        raise ValueError(f"seed and division must not be negative, got {min(numbers)}.")
    state = np.random.SeedSequence([*purpose.encode(), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
