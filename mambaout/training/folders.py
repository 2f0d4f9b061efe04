"""A folder of images: its classes, its files, which of them are held back for evaluation."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from mambaout.training.decode import decode
from mambaout.training.recipe import Data

PHOTO_SIZE = 224  # height and width of the crops
HELD_BACK = 0.2  # share of a folder without train/ and val/ that is evaluated on

Sample = tuple[str, int]  # path below the folder, with / between its parts; place of its class


@dataclass(frozen=True)
class Folder:
    """What is in a folder.

    Attributes:
        root: where.
        classes: names of the class folders, sorted.
        train, val: the images to learn from, and those to evaluate on.
        note: how they were divided, and what was left out; for people.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    note: str = ""

    def __str__(self) -> str:
        counts = f"{len(self.val)} test images"
        counts = f"{len(self.train)} training and {counts}" if self.train else counts
        return f"{self.root}: {len(self.classes)} classes, {counts}{self.note}"

    def fingerprint(self) -> dict[str, int | str]:
        """The counts, and a digest of all names: what a continued run is compared with."""
        digest = hashlib.sha256(repr((self.train, self.val)).encode(errors="surrogateescape")).hexdigest()
        return {"train": len(self.train), "val": len(self.val), "names": digest}

    def without(self, damaged: Collection[str]) -> "Folder":
        """The same, less some files."""
        train, val = (tuple(s for s in part if s[0] not in damaged) for part in (self.train, self.val))
        note = f"{self.note}; {len(damaged)} damaged ones skipped" if damaged else self.note
        return replace(self, train=train, val=val, note=note)


class Photos(Dataset[Any]):
    """Some images of a folder, decoded when they are asked for: (tensor, label)."""

    def __init__(self, root: Path, samples: Sequence[Sample], transform: Callable[[Any], torch.Tensor]) -> None:
        self.root, self.samples, self.transform = root, samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        name, label = self.samples[index]
        return self.transform(decode(self.root / name)), label


def read_folder(data: Data) -> Folder:
    """The images of FOLDER/train and FOLDER/val; or, without these two, those of FOLDER, a fifth of them held back.

    A hash of ``data.division`` and an image's name says whether the image is held back: neither the machine nor the
    other images decide, so a folder that grows keeps what it held back.

    Raises:
        ValueError: no folder was named, it has fewer than two classes, a class without images, or train and val
            have not the same classes.
    """
    root = _root(data)
    has = {split: (root / split).is_dir() for split in ("train", "val")}
    if not any(has.values()):
        classes, samples, left_out = _list(root, "")
        _check_training(root, classes, samples)
        held = held_back(samples, data.division)
        train, val = (tuple(s for s in samples if (s in held) == wanted) for wanted in (False, True))
        note = f" (a fifth of the files, chosen by their names, as there is no {root / 'val'})"
        return Folder(root, classes, train, val, note + left_out)
    for split, there in has.items():
        if not there:
            inside = ", ".join(_subfolders(root))
            raise ValueError(
                f"there is no folder {root / split}: images are expected in train/CLASS/ and val/CLASS/ of {root}, "
                f"which has {inside}; or name a folder of CLASS/ alone, of which a fifth is held back for evaluation"
            )
    (classes, train, left_out), (other, val, left_out_too) = (_list(root, split) for split in ("train", "val"))
    if classes != other:
        only = ", ".join(sorted({*classes} ^ {*other}))
        raise ValueError(f"train and val must have the same class folders; only in one of them: {only}")
    _check_training(root / "train", classes, train)
    _check_filled(root / "val", classes, val)
    return Folder(root, classes, train, val, left_out or left_out_too)


def read_for_evaluation(data: Data, whole: bool = False) -> Folder:
    """The same with nothing but what is evaluated on: FOLDER/val; or the fifth held back, or the whole folder.

    Raises:
        ValueError: no folder was named, or it has no images in class folders.
    """
    root = _root(data)
    if (root / "val").is_dir():
        classes, val, left_out = _list(root, "val")
    elif (root / "train").is_dir():
        raise ValueError(f"there is no folder {root / 'val'}: images are expected in {root / 'val'}/CLASS/")
    else:
        classes, val, left_out = _list(root, "")
        if not whole:
            held = held_back(val, data.division)
            val = tuple(sample for sample in val if sample in held)
            left_out = f" (the fifth that is held back in training; --whole takes all of them){left_out}"
    return Folder(root, classes, (), val, left_out)


def held_back(samples: Iterable[Sample], division: int) -> set[Sample]:
    """About a fifth of each class, at least one of two."""
    by_class: dict[int, list[tuple[float, Sample]]] = {}
    for sample in samples:
        digest = hashlib.sha256(f"{division} {sample[0]}".encode(errors="surrogateescape")).digest()
        by_class.setdefault(sample[1], []).append((int.from_bytes(digest[:8], "big") / 2**64, sample))
    held = set()
    for ranked in by_class.values():
        ranked.sort()
        few = sum(place < HELD_BACK for place, _ in ranked)
        held |= {sample for _, sample in ranked[: min(max(1, few), len(ranked) - 1)]}
    return held


def check_unchanged(before: Mapping[str, int | str], folder: Folder, run: Path | None) -> None:
    """Has the folder the images that the run began with?

    Raises:
        ValueError: it has not; says both counts.
    """
    now = folder.fingerprint()
    if before == now:
        return
    counts = [f"{f['train']} training and {f['val']} test images" for f in (before, now)]
    counts[1] += " of other names" if counts[0] == counts[1] else ""
    raise ValueError(
        f"{folder.root} has changed since the run in {run} began: then {counts[0]}, now {counts[1]}. Bring the images "
        "back to what they were, or begin in another folder, from these weights if you like (--model.checkpoint)"
    )


def _root(data: Data) -> Path:
    if data.folder is None:
        raise ValueError("data.folder is missing: the folder with CLASS/*.jpg, or train/CLASS/*.jpg, val/CLASS/*.jpg")
    if not data.folder.is_dir():
        raise ValueError(f"there is no folder {data.folder}: data.folder is the one that holds a folder for each class")
    return data.folder


def _subfolders(path: Path) -> list[str]:
    return sorted(e.name for e in path.iterdir() if e.is_dir() and not e.name.startswith((".", "__MACOSX")))


def _list(root: Path, split: str) -> tuple[tuple[str, ...], tuple[Sample, ...], str]:
    """The classes, the images below them in sorted order, and a note on files that are none by their names."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    classes = _subfolders(root / split)
    if not classes:
        raise ValueError(f"{root / split} has no class folders: images are expected in {root / split}/CLASS/")
    samples: list[Sample] = []
    others: Counter[str] = Counter()
    for label, name in enumerate(classes):
        for parent, folders, files in os.walk(root / split / name, followlinks=True):
            folders.sort()
            for file in sorted(files):
                if file.startswith("."):
                    continue
                if file.lower().endswith(IMG_EXTENSIONS):
                    samples.append(((Path(parent) / file).relative_to(root).as_posix(), label))
                else:
                    others[Path(file).suffix.lower() or "no ending"] += 1
    told = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3))
    return tuple(classes), tuple(samples), f"; left out, as no images by their names: {told}" if told else ""


def _check_training(path: Path, classes: Sequence[str], samples: Sequence[Sample]) -> None:
    if len(classes) < 2:
        raise ValueError(f"{path} has one class folder, {classes[0]}: to tell classes apart takes at least two")
    _check_filled(path, classes, samples)


def _check_filled(path: Path, classes: Sequence[str], samples: Sequence[Sample]) -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    counts = Counter(label for _, label in samples)
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        known = ", ".join(IMG_EXTENSIONS)
        raise ValueError(f"{path} holds no images of the classes {', '.join(empty)}: add some ({known}) or remove them")
