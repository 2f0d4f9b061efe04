"""What `predict`, `embed` and `export` share: a model from whatever names it, and pictures prepared for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset

from mambaout.models import create_model, is_model

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
Device = Literal["auto", "cpu", "cuda", "mps"]


def open_model(what: str) -> Any:
    """A model in evaluation mode: by its name, with its released weights, or what a training left.

    Args:
        what: a model's name, the folder of a training, or a file of weights.

    Raises:
        ValueError: it is none of these, or the weights cannot be had.
    """
    named = is_model(what) and not Path(what).exists()
    return create_model(what, pretrained=named).eval()


def class_names(model: Any) -> Sequence[str]:
    """The names of a model's outputs: its own, or those of the data that its released weights know, or numbers."""
    cfg = model.pretrained_cfg
    tag = cfg.get("tag") or ""
    if "label_names" in cfg:
        return cfg["label_names"]
    if tag == "fashion_mnist":
        from mambaout.datasets.fashion_mnist import CLASSES

        return CLASSES
    if tag.endswith("in1k"):
        from torchvision.models import ResNet18_Weights

        return ResNet18_Weights.DEFAULT.meta["categories"]
    return [str(number) for number in range(model.num_classes)]


def find_pictures(places: Sequence[Path]) -> list[Path]:
    """The files that are named, and those below the folders that are named, in order.

    Raises:
        ValueError: one does not exist, or there are none.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"there is no picture or folder {place}")
        inside = sorted(place.rglob("*")) if place.is_dir() else []
        found += [path for path in inside if path.suffix.lower() in SUFFIXES] if place.is_dir() else [place]
    if not found:
        raise ValueError(f"there are no pictures in {', '.join(map(str, places))}; they end in {', '.join(SUFFIXES)}")
    return found


@dataclass
class Pictures(Dataset):
    """Pictures as a model wants them; one that cannot be read is the sentence that says so."""

    paths: Sequence[Path]
    prepare: Callable[[Any], torch.Tensor]
    mode: str  # of Pillow: "L" or "RGB"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        from mambaout.training.decode import decode  # as training reads them: upright, 16 bits scaled to 8

        try:
            return self.prepare(decode(self.paths[index]).convert(self.mode))
        except Exception as error:
            return f"{self.paths[index]} cannot be read as a picture: {error.__cause__ or error}"


@dataclass(frozen=True)
class Lens:
    """How a model sees pictures: crop, size and normalisation of its ``pretrained_cfg``.

    Attributes:
        prepare: a picture of Pillow's -> (C, H, W).
        mode: of the pictures, "L" for grey or "RGB".
        mean, std: (C, 1, 1) of the normalisation.
    """

    prepare: Callable[[Any], torch.Tensor]
    mode: str
    mean: torch.Tensor
    std: torch.Tensor

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """Prepared pictures (B, C, H, W) -> (B, H, W) or (B, H, W, 3) from 0 to 1, for looking at."""
        return (x.cpu() * self.std + self.mean).clamp(0, 1).permute(0, 2, 3, 1).squeeze(-1)


def lens(model: Any) -> Lens:
    """How this model sees pictures.

    Raises:
        ValueError: it takes other channels than those of grey or coloured pictures.
    """
    from torchvision.transforms import v2

    from mambaout.training.photos import evaluation_transform

    cfg = model.pretrained_cfg
    channels, size, _ = cfg["input_size"]
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, but this model takes {channels}")
    mean, std = cfg["mean"], cfg["std"]
    if len(mean) != channels:  # a model for RGB that was made for grey images, or the reverse
        mean, std = ([sum(values) / len(values)] * channels for values in (mean, std))
    transform = evaluation_transform(size, mean, std, crop_pct=cfg["crop_pct"], interpolation=cfg["interpolation"])
    if cfg.get("crop_mode") == "squash":
        transform = v2.Compose([v2.Resize((size, size), v2.InterpolationMode(cfg["interpolation"])), transform])
    columns = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return Lens(transform, {1: "L", 3: "RGB"}[channels], *columns)


def batches(
    view: Lens, places: Sequence[Path], batch_size: int, workers: int, problems: list[str]
) -> Iterator[tuple[list[Path], torch.Tensor]]:
    """Prepared pictures (B, C, H, W) and where they lie, with a progress bar on a terminal.

    Args:
        view: how to prepare them.
        places: files and folders.
        batch_size: pictures at once.
        workers: processes that decode them.
        problems: takes a sentence for each picture that cannot be read.

    Raises:
        ValueError: none can be read.
    """
    from tqdm.auto import tqdm

    paths = find_pictures(places)
    pictures = Pictures(paths, view.prepare, view.mode)
    loader = DataLoader(
        pictures, batch_size, num_workers=workers if len(paths) > batch_size else 0, collate_fn=list
    )
    with tqdm(total=len(paths), unit="picture", disable=None) as bar:
        for start, batch in zip(range(0, len(paths), batch_size), loader, strict=True):
            good = [i for i, picture in enumerate(batch) if not isinstance(picture, str)]
            problems += [picture for picture in batch if isinstance(picture, str)]
            if good:
                yield [paths[start + i] for i in good], torch.stack([batch[i] for i in good])
            bar.update(len(batch))
    if len(problems) == len(paths):
        raise ValueError(f"none of the {len(paths)} pictures can be read; {problems[0]}")
