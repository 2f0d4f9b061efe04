"""The photographs and their licences."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mambaout.datasets import DataError, list_photos, photo, photo_credit
from mambaout.files import data as files

PHOTOS = Path(__file__).parents[2] / "data/photos"
LICENCES = {"public domain", "CC0 1.0", "CC BY 1.0", "CC BY 2.0"}


def test_every_file_has_a_licence() -> None:
    with (PHOTOS / "LICENSES.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in PHOTOS.glob("*.webp"))
    for row in rows:
        assert row["licence"] in LICENCES
        assert row["title"] and row["author"] and row["source"].startswith("https://") and row["taken_from"]
        assert row["licence"] == "public domain" or row["licence_url"].startswith(
            "https://creativecommons.org/"
        )


def test_photographs_are_small() -> None:
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) < 1.5e6


@pytest.mark.parametrize("name", list_photos())
def test_photo(name: str) -> None:
    image = photo(name)
    assert image.dtype == torch.uint8 and image.is_contiguous()
    assert image.shape[0] == 3 and 256 <= max(image.shape[1:]) <= 512
    assert image.float().std() > 20  # a picture, not an even ground
    assert not torch.equal(image[0], image[2])  # in colour


def test_credit_names_author_and_licence() -> None:
    credit = photo_credit("china")
    assert "danielbuechele" in credit and "CC BY 2.0" in credit and "flickr.com" in credit


@pytest.mark.parametrize("function", [photo, photo_credit])
def test_unknown_photo_lists_the_near_ones(function: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="chelsea"):
        function("chelsie")


def test_broken_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("panda")  # reads the list of licences, while it is still there
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    (tmp_path / "data/photos").mkdir(parents=True)
    content = (PHOTOS / "panda.webp").read_bytes()
    (tmp_path / "data/photos/panda.webp").write_bytes(content[:1000])
    with pytest.raises(DataError, match=r"panda\.webp is truncated"):
        photo("panda")
