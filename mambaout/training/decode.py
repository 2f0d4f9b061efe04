"""From a file to an RGB image, whatever the file is; and which files of many are damaged."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mambaout.files.read import FORMATS

if TYPE_CHECKING:  # trainings on embedded data need no Pillow
    from PIL.Image import Image

SCANNED_AT_ONCE = 4096  # files that wait in memory for a thread


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names it and says why."""


def decode(path: str | Path) -> "Image":
    """The image in a file as RGB, upright (EXIF), 16-bit grey scaled to 8 bits; an alpha channel is left out.

    Raises:
        ImageError: it is damaged, no image, over Pillow's limit of pixels, or of numbers whose range is unknown.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            image: Image.Image = file
            with contextlib.suppress(Exception):  # unreadable EXIF costs the orientation, not the image
                image = ImageOps.exif_transpose(file)
            return _eight_bits(image).convert("RGB")
    except Exception as error:  # a damaged file raises one of many types, from every decoder its own
        raise ImageError(f"{path} cannot be read as an image: {_reason(Path(path), error)}") from error


def _eight_bits(image: "Image") -> "Image":
    """Integers of 16 bits and fractions of one as 8 bits; Pillow's own conversion would cut all above 255 to white."""
    from PIL.Image import fromarray

    if image.mode == "F":
        largest, what = 1.0, "fractions from 0 to 1"
    elif image.mode == "I" or image.mode.startswith("I;16"):
        largest, what = 65535.0, "integers of 16 bits"
    elif "transparency" in image.info:
        return image.convert("RGBA")
    else:
        return image
    values = np.asarray(image, dtype=np.float64)  # (H, W)
    if not (values.min() >= 0 and values.max() <= largest):
        raise ValueError(f"expected {what}, found values from {values.min():g} to {values.max():g}")
    return fromarray((values * 255 / largest).round().astype(np.uint8))


def _reason(path: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"it is over the limit of pixels, make it smaller ({error})"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(512).lstrip()
        if not start:
            return "it is empty"
        if start[:1] == b"<":
            return "it is a web page or other text, not an image"
        return f"it begins with {start[:4].hex(' ')}, like no image that is known here"
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(told.split()) or type(error).__name__


def plain(error: ImageError) -> str:
    """The message alone, where a DataLoader's worker has put its traceback before it."""
    return str(error).rpartition(f"{ImageError.__name__}: ")[2].strip()


def find_damaged(
    root: Path, names: Sequence[str], threads: int = 8, *, progress: bool = True
) -> Iterator[tuple[str, str]]:
    """Decode every file below ``root``: the name of each one that cannot be read, and what is wrong with it."""
    from tqdm.auto import tqdm

    def problem(name: str) -> str | None:
        try:
            decode(root / name)
        except ImageError as error:
            return str(error)
        return None

    with (
        tqdm(total=len(names), unit="image", desc="reading every image", disable=None if progress else True) as bar,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
        for start in range(0, len(names), SCANNED_AT_ONCE):
            some = names[start : start + SCANNED_AT_ONCE]
            for name, found in zip(some, pool.map(problem, some), strict=True):
                bar.update()
                if found is not None:
                    yield name, found
