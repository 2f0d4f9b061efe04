"""Batches: in which order the images come, and what each process takes of a step's.

All randomness is a function of the seed and of the number of the epoch, step or image. There is no state to keep:
a run that is continued at step 1000 takes the images and the variations that it would have taken, however many
processes and workers share the work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from mambaout.training import augment as aug
from mambaout.training.decode import ImageError, plain
from mambaout.training.optim import batches_per_epoch
from mambaout.training.recipe import Augment, Recipe
from mambaout.training.signals import leave_to_parent
from mambaout.training.sources import Source, generator

Batch = tuple[torch.Tensor, torch.Tensor]  # normalised images (B, C, H, W), probabilities of the classes (B, classes)


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process takes, and in how many pieces.

    Attributes:
        rank, processes: its number, and how many there are.
        pieces: micro-batches.
    """

    rank: int = 0
    processes: int = 1
    pieces: int = 1

    @staticmethod
    def of(batch_size: int, micro_batch: int | None, rank: int, processes: int) -> "Share":
        """The share that keeps pieces at ``micro_batch`` images.

        Raises:
            ValueError: the batch cannot be divided so.
        """
        micro = batch_size // processes if micro_batch is None else micro_batch
        if micro < 1 or batch_size % (processes * micro):
            raise ValueError(
                f"a batch of {batch_size} cannot be divided among {processes} processes into micro-batches of {micro}: "
                f"choose batch_size as a multiple of {processes * max(1, micro)}, or another micro_batch"
            )
        return Share(rank, processes, batch_size // (processes * micro))

    def split(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Rows of the whole batch -> this process's, in pieces."""
        return list(rows.chunk(self.processes)[self.rank].chunk(self.pieces))


@dataclass(frozen=True)
class Order:
    """Which images come in which step: each epoch in a new random order, a last batch that is not full left out."""

    images: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass."""
        return batches_per_epoch(self.images, self.batch_size)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that step (from 1) belongs to."""
        return (step - 1) // self.steps_per_epoch

    def indices(self, step: int) -> torch.Tensor:
        """The images (batch_size,) of a step, from 1."""
        place = (step - 1) % self.steps_per_epoch * self.batch_size
        return _permutation(self.images, self.seed, self.epoch(step))[place : place + self.batch_size]


@lru_cache(maxsize=2)
def _permutation(images: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(images, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class Preparation:
    """What turns pixels into what the model expects: its mean and std, and the number of classes."""

    mean: Sequence[float]
    std: Sequence[float]
    classes: int

    @staticmethod
    def of(model: Any) -> "Preparation":
        """The model's own, by timm's convention (``pretrained_cfg``); 0.5 where it says nothing.

        Raises:
            ValueError: the model has no ``num_classes``.
        """
        cfg = getattr(model, "pretrained_cfg", None) or {}
        if not isinstance(getattr(model, "num_classes", None), int):
            raise ValueError(f"set {type(model).__name__}'s attribute num_classes to the number of its outputs")
        return Preparation(cfg.get("mean", (0.5,)), cfg.get("std", (0.5,)), model.num_classes)

    def for_photos(self, model: Any) -> "Preparation":
        """The same with one mean and std a channel: a folder's images become RGB, or grey for a model of grey images.

        Raises:
            ValueError: the model takes images of neither kind.
        """
        channels = getattr(model, "in_chans", 3)
        if channels not in (1, 3):
            raise ValueError(f"a folder's images have 3 channels, or 1; the model takes {channels}")
        if len(self.mean) == channels:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return Preparation((mean,) * channels, (std,) * channels, self.classes)

    def check(self, classes: Sequence[str]) -> None:
        """Does the model know as many classes as the data have?

        Raises:
            ValueError: it does not.
        """
        if self.classes != len(classes):
            raise ValueError(f"the model knows {self.classes} classes, the data have {len(classes)}")

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in 0..1 -> normalised."""
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        if len(mean) != x.shape[1]:  # a model for RGB that was made for other images
            mean, std = mean.mean(), std.mean()
        return (x - mean) / std


class MemoryBatches:
    """Batches of a :class:`Source`, which lies on the device as uint8 and is augmented there."""

    def __init__(
        self, source: Source, recipe: Recipe, prepare: Preparation, share: Share, device: torch.device
    ) -> None:
        if recipe.augment.rand_augment:
            raise ValueError("rand_augment works on image folders only; embedded data have shift, zoom and rotate")
        self.source, self.recipe, self.prepare, self.share, self.device = source, recipe, prepare, share, device
        self.order = Order(len(source.train(recipe.seed, 0)[1]), recipe.batch_size, recipe.seed)

    def __call__(self, first: int, last: int) -> Iterator[list[Batch]]:
        """This process's micro-batches of each step from ``first`` to ``last``, both counted from 1 and included."""
        recipe, loaded = self.recipe, None
        for step in range(first, last + 1):
            epoch = self.order.epoch(step) if self.source.fresh else 0
            if loaded != epoch:
                images, labels = (t.to(self.device) for t in self.source.train(recipe.seed, epoch))
                loaded = epoch
            random = generator(recipe.seed, "step", step)
            table = aug.random_table(recipe.batch_size, random)
            noise = torch.randn(images.shape[1:], generator=random).to(self.device)
            mixing = random.get_state()
            pieces = []
            rows = zip(self.share.split(self.order.indices(step)), self.share.split(table), strict=True)
            for indices, u in rows:
                indices = indices.to(self.device)
                x = aug.vary(images[indices].float() / 255, recipe.augment, u)
                x = self.prepare.normalise(x)
                if recipe.augment.erase:
                    x = aug.erase(x, recipe.augment.erase, u, noise)
                random.set_state(mixing)  # every piece of the batch, on every process, is mixed alike
                pieces.append(mixed(x, labels[indices], recipe.augment, self.prepare.classes, random))
            yield pieces


def mixed(
    x: torch.Tensor, labels: torch.Tensor, augment: Augment, classes: int, random: torch.Generator
) -> Batch:
    """Labels (B,) become probabilities (B, classes), and the images are mixed where the recipe says so."""
    return aug.mix(x, F.one_hot(labels, classes).to(x.dtype), augment, random)


class FolderBatches:
    """Batches of an image folder, decoded and augmented by worker processes, mixed on the device."""

    def __init__(
        self,
        images: Dataset[Batch],
        recipe: Recipe,
        prepare: Preparation,
        share: Share,
        device: torch.device,
        workers: int,
    ) -> None:
        if recipe.augment.shift or recipe.augment.zoom or recipe.augment.rotate:
            raise ValueError("shift, zoom and rotate are for embedded data; an image folder has crop and rand_augment")
        self.images, self.recipe, self.prepare, self.share = images, recipe, prepare, share
        self.device, self.workers = device, workers
        self.order = Order(len(images), recipe.batch_size, recipe.seed)  # type: ignore[arg-type]

    def __call__(self, first: int, last: int) -> Iterator[list[Batch]]:
        """See :meth:`MemoryBatches.__call__`."""
        loader = DataLoader(
            Seeded(self.images),
            batch_sampler=Keys(self, first, last),
            num_workers=self.workers,
            generator=torch.Generator(),  # or the loader draws its workers' seed from the model's random numbers
            pin_memory=self.device.type == "cuda",
            worker_init_fn=leave_to_parent,
        )
        batches = plainly(loader)
        for step in range(first, last + 1):
            pieces = []
            for _ in range(self.share.pieces):
                x, labels = (t.to(self.device, non_blocking=True) for t in next(batches))
                random = generator(self.recipe.seed, "step", step)
                pieces.append(mixed(x, labels, self.recipe.augment, self.prepare.classes, random))
            yield pieces


def plainly(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches; an image that cannot be read is named in one line, wherever it was decoded.

    Raises:
        ImageError: there is one.
    """
    try:
        yield from loader
    except ImageError as error:
        raise ImageError(plain(error)) from None


@dataclass(frozen=True)
class Keys:
    """What the workers load, one micro-batch after the other: (image, seed, epoch) for :class:`Seeded`."""

    batches: FolderBatches
    first: int
    last: int

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        order, share = self.batches.order, self.batches.share
        for step in range(self.first, self.last + 1):
            for piece in share.split(order.indices(step)):
                yield [(index, order.seed, order.epoch(step)) for index in piece.tolist()]


class Seeded(Dataset[Any]):
    """A dataset whose random transforms depend on the image, the seed and the epoch, not on who loads it."""

    def __init__(self, images: Dataset[Batch]) -> None:
        self.images = images

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        index, seed, epoch = key
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: torch.manual_seed would also set the GPU's back, with which the model drops its paths.
            torch.default_generator.manual_seed(generator(seed, "image", epoch, index).initial_seed())
            return self.images[index]
