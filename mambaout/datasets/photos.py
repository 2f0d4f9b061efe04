"""A few photographs whose licences are recorded in `data/photos/LICENSES.csv`, for looking at models."""

from difflib import get_close_matches
from functools import cache

import torch
from torch import Tensor

from mambaout.files import read
from mambaout.files.data import find


def list_photos() -> list[str]:
    """The names that `photo` knows."""
    return sorted(_records())


def photo(name: str) -> Tensor:
    """A photograph as (3, H, W) uint8, RGB, at most 512 pixels long.

    Raises:
        ValueError: unknown name.
        DataError: the file is missing, truncated or altered.
    """
    pixels = read.image(find(f"photos/{_record(name)['file']}"), "RGB")  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def photo_credit(name: str) -> str:
    """The line that belongs under the photograph: title, author, licence, source and what was changed.

    Raises:
        ValueError: unknown name.
    """
    return "{title}. {author}, {licence}, {source} ({changes}).".format_map(_record(name))


@cache
def _records() -> dict[str, dict[str, str]]:
    rows = read.table(find("photos/LICENSES.csv"), ("file", "title", "author", "licence", "source", "changes"))
    return {row["file"].partition(".")[0]: row for row in rows}


def _record(name: str) -> dict[str, str]:
    records = _records()
    if name not in records:
        near = get_close_matches(name, records, n=3) or sorted(records)
        raise ValueError(f'There is no photo "{name}". The nearest names: {", ".join(near)}.')
    return records[name]
