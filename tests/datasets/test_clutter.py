"""Clutter: who is in which split, the same image from wherever it is asked for, and labels, boxes and masks."""

import dataclasses
import hashlib
import importlib
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from mambaout.datasets import Level, clutter, dense, fashion_mnist, scene
from mambaout.datasets.paint import list_photographs

module = importlib.import_module("mambaout.datasets.clutter")  # the package's attribute is the function
LEVELS, CLASSES, Split = module.LEVELS, module.CLASSES, module.Split
SPLITS = get_args(Split)


# The splits


def test_no_item_is_in_two_splits() -> None:
    items = {split: module._items(split) for split in SPLITS}
    assert [len(items[split].labels) for split in SPLITS] == [50_000, 10_000, 10_000]
    assert sorted([*items["train"].official, *items["val"].official]) == list(range(60_000))
    for split in SPLITS:
        whole = fashion_mnist("test" if split == "test" else "train")
        assert np.array_equal(whole.images.numpy()[items[split].official], items[split].pixels)
        assert np.array_equal(whole.labels.numpy()[items[split].official], items[split].labels)
        assert len(set(np.bincount(items[split].labels, minlength=10))) == 1
        assert np.bincount(items[split].labels[:4000], minlength=10).min() > 350  # a part is like the whole
    seen = {split: {pixels.tobytes() for pixels in items[split].pixels} for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        assert not seen[first] & seen[second]  # not even as another item with the same pixels


@pytest.mark.parametrize("split", SPLITS)
def test_everything_pasted_is_of_the_split(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_fragment", lambda pixels, top, left: pixels)
    for index in (0, 5000, 9999):
        picture, shown = module.compose(split, index, LEVELS["crowd"], 0)
        assert shown[0] == index and len(picture.sprites) == 4 + len(shown)
        for sprite in picture.sprites:
            assert np.shares_memory(sprite.pixels, module._items(split).pixels)


def test_backgrounds_are_shared_or_apart() -> None:
    def behind(split: str, level: str) -> set[int]:
        return {module.compose(split, index, LEVELS[level], 0)[0].window.photograph for index in range(400)}

    everywhere = set(range(len(list_photographs())))
    assert behind("train", "mild") == behind("test", "mild") == everywhere
    assert not behind("train", "hard") & behind("test", "hard")
    assert behind("train", "hard") | behind("val", "hard") == everywhere


# The same image


DIGESTS = {
    ("mild", 64): "c54cc22459693fdf10ecd70b731170a81f079b8b982291a754168476b1ae8dfd",
    ("hard", 64): "824c7ffdcece3634c5665f8eed61a02073b9b0fa58215392bc5921e2940e7f43",
    ("crowd", 128): "d517ba335067366d6267ee625333c6f2fa1776beac2faeb128c537fc5a10b70d",
}


@pytest.mark.parametrize(("level", "size"), DIGESTS)
def test_images_are_the_recorded_ones(level: str, size: int) -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        for index in (0, 1, 4999, 9999):
            made = scene(split, index, level=level, size=size, seed=1)
            digest.update(made.image.numpy().tobytes() + made.instances.numpy().tobytes())
    assert digest.hexdigest() == DIGESTS[level, size]


def test_an_image_depends_on_split_seed_and_index_alone() -> None:
    batch = clutter("train", range(100, 164), level="hard", seed=3)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            again = [clutter("train", [index], level="hard", seed=3) for index in (163, 100, 131)]
            assert torch.equal(torch.cat([one.images for one in again]), batch.images[[63, 0, 31]])
            assert torch.equal(torch.cat([one.labels for one in again]), batch.labels[[63, 0, 31]])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(scene("train", 131, level="hard", seed=3).image, batch.images[31])
    assert torch.equal(clutter("train", torch.tensor([131, 100]), level="hard", seed=3).images, batch.images[[31, 0]])


def test_seeds_and_splits_give_other_images() -> None:
    images = [clutter(split, range(20), seed=seed).images for split, seed in (("val", 0), ("val", 1), ("test", 0))]
    for first, second in combinations(images, 2):
        assert not (first == second).flatten(1).all(dim=1).any()
    assert torch.equal(clutter("val", range(20), seed=1).labels, clutter("val", range(20), seed=0).labels)


def test_a_larger_image_is_the_same_picture() -> None:
    small, large = (clutter("val", range(30), size=size).images.float() for size in (64, 128))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - halved).abs().mean() < 8 < (small - halved.roll(1, dims=0)).abs().mean() / 4


def test_labels_are_those_of_the_items() -> None:
    made = clutter("test", size=16)
    assert made.images.shape == (10_000, 3, 16, 16) and made.images.dtype == torch.uint8 and len(made) == 10_000
    assert torch.equal(made.labels, fashion_mnist("test").labels) and made.classes == CLASSES


# Scenes


def test_boxes_are_tight_around_what_can_be_seen() -> None:
    hidden, official = 0, fashion_mnist("train").labels
    for index in range(20):
        made = scene("val", index, level="crowd", size=64)
        masks, boxes = made.masks, made.boxes
        count = len(made.labels)
        assert masks.shape == (count, 64, 64) and boxes.shape == (count, 4) and made.items.shape == (count,)
        assert masks.sum(dim=0).max() <= 1 and masks.flatten(1).any(dim=1).all()
        for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
            rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
            assert (left, top) == (columns.min(), rows.min())
            assert (right, bottom) == (columns.max() + 1, rows.max() + 1)
        assert torch.equal(official[made.items], made.labels)
        assert torch.equal(made.classes, sum(m * (1 + label) for m, label in zip(masks, made.labels, strict=True)))
        hidden += len(module.compose("val", index, LEVELS["crowd"], 0)[1]) - count
    assert hidden  # some are covered entirely, and left out


def test_dense_labels_are_the_scenes() -> None:
    made = dense("train", [7, 3], size=48, seed=2)
    assert made.images.shape == (2, 3, 48, 48) and made.labels.shape == (2, 48, 48) and len(made) == 2
    assert made.labels.dtype == torch.int64
    for place, index in enumerate((7, 3)):
        one = scene("train", index, size=48, seed=2)
        assert torch.equal(made.images[place], one.image) and torch.equal(made.labels[place], one.classes)
    assert len(dense("train", [])) == 0


def test_torchvision_takes_the_target() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.mask_rcnn import MaskRCNN

    class Backbone(torch.nn.Conv2d):
        out_channels = 8

    scenes = [scene("train", index) for index in (0, 1)]
    anchors = AnchorGenerator(((32,),), ((1.0,),))
    model = MaskRCNN(Backbone(3, 8, 8, 8), 1 + len(CLASSES), min_size=64, max_size=64, rpn_anchor_generator=anchors)
    losses = model([each.image / 255 for each in scenes], [each.target() for each in scenes])
    assert all(torch.isfinite(value) for value in losses.values()) and "loss_mask" in losses


# Levels and errors


def test_levels_change_what_they_name() -> None:
    def sprites(level: Level) -> list:
        return [sprite for index in range(100) for sprite in module.compose("val", index, level, 0)[0].sprites]

    mild = sprites(LEVELS["mild"])
    assert {sprite.counts for sprite in mild} == {True} and len(mild) == 100
    assert max(abs(sprite.turn) for sprite in mild) in range(100, 151)
    assert min(min(sprite.tint) for sprite in mild) in range(204, 215)
    sides = [sprite.side * 64 / 65536 for sprite in mild]
    assert 28 <= min(sides) < 30 and 46 < max(sides) <= 48
    for sprite in mild:  # the upright square lies in the image
        assert all(sprite.side // 2 <= place <= 65536 - sprite.side // 2 for place in (sprite.x, sprite.y))
    assert len(sprites(dataclasses.replace(LEVELS["mild"], fragments=2))) == 300


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "all"}, ValueError, '"train", "val" or "test", got \'all\''),
        ({"level": "dull"}, ValueError, "no level 'dull'; there are easy"),
        ({"level": "scene"}, ValueError, "3 to 8 items has no label: use dense or scene"),
        ({"size": 15}, ValueError, "between 16 and 256 pixels, got 15"),
        ({"size": 300}, ValueError, "got 300"),
        ({"seed": -1}, ValueError, "got -1"),
        ({"indices": [10_000]}, IndexError, '"test" has images 0 to 9999, got 10000'),
        ({"indices": [-1]}, IndexError, "got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        clutter(**{"split": "test", "indices": [0]} | arguments)


@pytest.mark.parametrize(
    "changes", [{"items": (2, 1)}, {"side": (4, 48)}, {"side": (28, 65)}, {"turn": 181}, {"tint": 101}]
)
def test_impossible_levels_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="a level"):
        Level(**changes)
