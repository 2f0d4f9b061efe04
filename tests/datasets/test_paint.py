"""Painting in whole numbers: the fast painter equals the slow one, and what covers what."""

import hashlib
import math

import numpy as np
import pytest
import torch
from painter import slow_mask, slow_paint

from mambaout.datasets.clutter import LEVELS, _items, compose
from mambaout.datasets.paint import (
    COSINES,
    OPAQUE,
    UNIT,
    WINDOWS,
    Picture,
    Sprite,
    Window,
    _photographs,
    list_photographs,
    paint,
    soft_masks,
)

FULL = np.full((28, 28), 255, np.uint8)
WHITE = (256, 256, 256)


def painted(picture: Picture, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, instances = np.empty((3, size, size), np.uint8), np.empty((size, size), np.uint8)
    paint(picture, image, instances)
    return torch.from_numpy(image), torch.from_numpy(instances)


def square(x: float, y: float, side: float, tint: tuple[int, int, int] = WHITE, counts: bool = True) -> Sprite:
    """A full square, measured in shares of the canvas."""
    return Sprite(FULL, FULL // 255 * OPAQUE, round(x * UNIT), round(y * UNIT), round(side * UNIT), 0, tint, counts)


def over_grass(*sprites: Sprite) -> Picture:
    return Picture(Window(list_photographs().index("backgrounds/grass.webp"), 0, 0, 0, False), sprites)


@pytest.mark.parametrize(("level", "size"), [("mild", 64), ("hard", 33), ("crowd", 40), ("mild", 16)])
def test_equals_the_slow_painter(level: str, size: int) -> None:
    for index in (3, 8):
        picture, _ = compose("val", index, LEVELS[level], seed=5)
        for fast, slow in zip(painted(picture, size), slow_paint(picture, size), strict=True):
            assert torch.equal(fast, slow)


def test_equals_the_slow_painter_at_any_turn_and_side() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (9, 28, 28), dtype=np.uint8)
    for noise, mask in zip(pixels, soft_masks(pixels), strict=True):
        x, y = random.integers(0, UNIT, 2).tolist()  # near an edge too
        sprite = Sprite(noise, mask, x, y, int(random.integers(UNIT // 8, UNIT)), int(random.integers(3600)), WHITE)
        picture = over_grass(sprite)
        for fast, slow in zip(painted(picture, 20), slow_paint(picture, 20), strict=True):
            assert torch.equal(fast, slow)


def test_masks_follow_their_rule() -> None:
    items = _items("test")
    for index in (0, 1234, 9999):
        assert items.masks[index].tolist() == slow_mask(items.pixels[index].tolist())
    assert (items.masks.astype(int) * 255 >= items.pixels.astype(int) * OPAQUE * (items.masks > 0)).all()


def test_white_on_white_does_not_wrap_around() -> None:
    image, _ = painted(over_grass(square(0.5, 0.5, 1), square(0.5, 0.5, 0.7)), 64)
    assert image[:, 20:44, 20:44].min() == 255


def test_the_last_sprite_is_on_top() -> None:
    below, above = square(0.25, 0.5, 0.5, (256, 0, 0)), square(0.5, 0.5, 0.5, (0, 256, 0))
    image, instances = painted(over_grass(below, above), 64)
    assert image[:, 32, 8].tolist() == [255, 0, 0] and image[:, 32, 24].tolist() == [0, 255, 0]
    assert instances[32].tolist() == [1] * 16 + [2] * 32 + [0] * 16
    assert instances[:, 32].tolist() == [0] * 16 + [2] * 32 + [0] * 16


def test_what_only_disturbs_hides_and_is_no_instance() -> None:
    _, instances = painted(over_grass(square(0.5, 0.5, 0.5), square(0.75, 0.5, 0.5, counts=False)), 64)
    assert instances[32].tolist() == [0] * 16 + [1] * 16 + [0] * 32


def test_turns_clockwise() -> None:
    top = np.zeros((28, 28), np.uint8)
    top[:14] = 255  # turned by 90 degrees, the upper half becomes the right one
    sprite = Sprite(top, soft_masks(top[None])[0], UNIT // 2, UNIT // 2, UNIT // 2, 900, WHITE)
    _, instances = painted(over_grass(sprite), 64)
    assert instances[32, 40] == 1 and instances[32, 24] == 0


@pytest.mark.parametrize("size", [64, 200])
def test_windows_fit_and_mirror(size: int) -> None:
    for photograph in range(len(list_photographs())):
        for share in range(len(WINDOWS)):
            for x, y in ((0, 0), (UNIT, UNIT)):
                picture = Picture(Window(photograph, share, x, y, mirror=False), ())
                there = painted(picture, size)[0]
                mirrored = painted(Picture(Window(photograph, share, x, y, mirror=True), ()), size)[0]
                assert torch.equal(there, mirrored.flip(-1))


def test_no_cosine_lies_near_a_rounding_edge() -> None:
    """Where another machine's cosine, a few units in the last place away, could be rounded to another number."""
    for degree, cosine in enumerate(COSINES):
        assert abs(abs(UNIT * math.cos(math.radians(degree / 10)) - cosine) - 0.5) > 1e-6


def test_photographs_are_decoded_and_scaled_to_the_same_bytes() -> None:
    """What the painter cannot promise itself: it is Pillow's. If this fails, so must the digests of `test_clutter`."""
    digest = hashlib.sha256()
    for scaled in _photographs(64):
        for pixels in scaled:
            digest.update(pixels.tobytes())
    assert digest.hexdigest() == "e204e5dccdf1ce7cc3d199a2fd73ffce6915bb18159a79fd5bb3d52c58611110"
