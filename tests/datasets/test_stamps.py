"""The cut-outs, how they are divided, and the images composed of them."""

import csv
import importlib
from pathlib import Path

import pytest
import torch

from mambaout.datasets import DataError, Stamps, stamps
from mambaout.datasets.stamps import (
    CLASSES,
    TEST_SHARE,
    Split,
    background,
    divide,
    list_backgrounds,
    list_stamps,
    stamp,
)
from mambaout.files import data as files

module = importlib.import_module("mambaout.datasets.stamps")  # the package's attribute is the function
DATA = Path(__file__).parents[2] / "data/stamps"
DIVISIONS = range(5)


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The files


def test_tables_tell_every_file_and_its_origin() -> None:
    told = [row["file"] for row in rows("stamps.csv") + rows("backgrounds.csv")]
    assert len(set(told)) == len(told)
    assert set(told) == {path.relative_to(DATA).as_posix() for path in DATA.glob("*/*.webp")}
    for row in rows("stamps.csv"):
        assert row["class"] in CLASSES and row["file"].startswith(row["class"].replace(" ", "-") + "/")
        assert row["name"] and row["source"].endswith(".png") and len(row["source_sha256"]) == 64
    for row in rows("backgrounds.csv"):
        assert row["licence"] in {"GPL-2.0-or-later", "CC0 1.0", "public domain"}
        assert row["title"] and row["author"] and row["package"] and len(row["source_sha256"]) == 64


def test_no_source_is_taken_twice() -> None:
    digests = [row["source_sha256"] for row in rows("stamps.csv")]
    assert len(set(digests)) == len(digests)


def test_licence_stands_beside_the_files() -> None:
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2, June 1991" in (DATA / "COPYING").read_text()
    assert "any later version" in (DATA / "tuxpaint-stamps-default.copyright.txt").read_text()


def test_card_tells_the_counts() -> None:
    card = (DATA / "README.md").read_text()
    for label, name in enumerate(CLASSES):
        count = sum(stamp.label == label for stamp in list_stamps())
        held = sum(list_stamps()[index].label == label for index in divide().test)
        assert f"| {name} | {count} | {held} |" in card


def test_cut_outs_have_masks() -> None:
    for index in range(len(list_stamps())):
        pixels = stamp(index)
        assert pixels.dtype == torch.uint8 and pixels.shape[0] == 4
        assert 60 <= max(pixels.shape[1:]) <= 160
        seen = pixels[3] > 127
        assert 0.05 < seen.float().mean() < 0.95, list_stamps()[index].file
        assert pixels[:3, seen].float().std() > 5, list_stamps()[index].file  # a picture, no silhouette


def test_backgrounds() -> None:
    for index in range(len(list_backgrounds())):
        pixels = background(index)
        assert pixels.shape == (3, 240, 320) and pixels.dtype == torch.uint8


# The divisions


@pytest.mark.parametrize("number", DIVISIONS)
def test_division_holds_whole_cut_outs_back(number: int) -> None:
    division = divide(number)
    assert not set(division.train) & set(division.test)
    assert sorted(division.train + division.test) == list(range(len(list_stamps())))
    assert not set(division.train_backgrounds) & set(division.test_backgrounds)
    together = sorted(division.train_backgrounds + division.test_backgrounds)
    assert together == list(range(len(list_backgrounds())))
    for label in range(len(CLASSES)):
        held, all_of_them = (
            sum(list_stamps()[index].label == label for index in indices)
            for indices in (division.test, range(len(list_stamps())))
        )
        assert held == max(2, round(TEST_SHARE * all_of_them))


def test_divisions_differ_and_stay() -> None:
    assert len({divide(number).test for number in DIVISIONS}) == len(DIVISIONS)
    assert len({divide(number).test_backgrounds for number in DIVISIONS}) == len(DIVISIONS)
    assert divide(3) == divide(3)


# The images


@pytest.mark.parametrize("split", ["train", "test"])
def test_images(split: Split) -> None:
    data = stamps(split, 203, size=32, division=1)
    assert data.images.shape == (203, 3, 32, 32) and data.images.dtype == torch.uint8
    assert data.labels.shape == (203,) and data.labels.dtype == torch.int64
    assert data.stamps.shape == (203,) and data.stamps.dtype == torch.int64
    assert data.classes == CLASSES and len(data) == 203
    assert [list_stamps()[index].label for index in data.stamps] == data.labels.tolist()
    assert set(data.stamps.tolist()) <= set(getattr(divide(1), split))
    assert sorted(set(data.labels.bincount().tolist())) == [20, 21]
    assert data.labels[:50].unique().numel() > 5  # shuffled


def test_cut_outs_of_a_class_appear_equally_often() -> None:
    shown = stamps("train", 1300, size=8).stamps.bincount(minlength=len(list_stamps()))
    for label in range(len(CLASSES)):
        counts = [int(shown[index]) for index in divide().train if list_stamps()[index].label == label]
        assert max(counts) - min(counts) <= 1 and min(counts) >= 1


def test_same_seed_same_images() -> None:
    def differ(left: Stamps, right: Stamps) -> bool:
        return not torch.equal(left.images, right.images)

    first = stamps("train", 300, size=16, seed=5)
    again = stamps("train", 300, size=16, seed=5)
    assert torch.equal(first.images, again.images) and torch.equal(first.stamps, again.stamps)
    assert differ(first, stamps("train", 300, size=16, seed=6))
    assert differ(first, stamps("train", 300, size=16, seed=5, division=1))
    assert differ(first, stamps("test", 300, size=16, seed=5))


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    stamps("test", 3, size=16)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_image() -> None:
    for seed in range(6):  # the only background is a photograph, or none is
        assert stamps("train", 1, size=16, seed=seed).images.shape == (1, 3, 16, 16)


def test_backgrounds_are_those_of_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, set[int]] = {}
    original = module.compose.compose
    for split in ("train", "test"):

        def spy(*arguments: torch.Tensor, split: str = split, **options: object) -> torch.Tensor:
            taken[split] = set(arguments[3].tolist())
            return original(*arguments, **options)

        monkeypatch.setattr(module.compose, "compose", spy)
        stamps(split, 200, size=8)
    assert taken == {"train": set(divide().train_backgrounds), "test": set(divide().test_backgrounds)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"split": "valid", "count": 1}, r"train, test, validation; got 'valid'"),
        ({"split": "train", "count": 0}, "count=0"),
        ({"split": "train", "count": 1, "size": 4}, "size=4"),
        ({"split": "train", "count": 1, "seed": -1}, "not be negative, got -1"),
        ({"split": "train", "count": 1, "division": -2}, "not be negative, got -2"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        stamps(**arguments)  # type: ignore[arg-type]


# Broken files


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "is missing"), (100, "is truncated"), (b"x", "was altered"), (b"RIFF", "cannot be decoded")],
)
def test_broken_cut_out_is_named(
    content: int | bytes | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = list_stamps()[0].file  # reads the table, while it is still there
    whole = (DATA / name).read_bytes()
    target = tmp_path / "data/stamps" / name
    target.parent.mkdir(parents=True)
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    if isinstance(content, int):
        target.write_bytes(whole[:content])
    elif content is not None:
        target.write_bytes(whole[: -len(content)] + content)
    if content == b"RIFF":  # as the manifest says, but no picture
        target.write_bytes(content)
        monkeypatch.setattr(files, "check", lambda entry: None)
    with pytest.raises(DataError, match=expected) as error:
        stamp(0)
    assert str(target) in str(error.value)


def test_missing_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    list_stamps.cache_clear()
    with pytest.raises(DataError, match=r"stamps\.csv is missing: run `mambaout fetch stamps/stamps\.csv`"):
        list_stamps()
