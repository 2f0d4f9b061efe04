"""Composing against slow, obvious programs."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mambaout.datasets import compose


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut_outs(count: int = 3, side: int = 32) -> torch.Tensor:
    """Premultiplied random colours with a soft mask, transparent towards the edge."""
    colours = torch.randint(256, (count, 3, side, side), generator=random(1)).float()
    distance = torch.linspace(-1, 1, side).square()
    alpha = (2 - 2.2 * (distance + distance[:, None]).sqrt()).clamp(0, 1).expand(count, 1, side, side)
    return torch.cat([colours * alpha, 255 * alpha], dim=1).round().byte()


def bilinear(image: NDArray[np.float64], y: float, x: float, *, edge: bool) -> NDArray[np.float64]:
    """(C,) of a (C, H, W) image at a place in pixels, centres at whole numbers; zero or the edge outside."""
    height, width = image.shape[1:]
    if edge:
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    value = np.zeros(len(image))
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < height and 0 <= j < width:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return value


def look_up(levels: list[torch.Tensor], index: int, theta: torch.Tensor, side: float, size: int) -> torch.Tensor:
    """What `sample` and `crop` do, pixel by pixel."""
    level = min(max(math.floor(math.log2(levels[0].shape[2] / side)), 0), len(levels) - 1)
    image = levels[level][index].double().numpy()
    height, width = image.shape[1:]
    found = torch.zeros(len(image), size, size)
    for row in range(size):
        for column in range(size):
            here = torch.tensor([(2 * column + 1) / size - 1, (2 * row + 1) / size - 1, 1.0])
            x, y = (theta @ here).tolist()
            place = ((y + 1) * height / 2 - 0.5, (x + 1) * width / 2 - 0.5)
            found[:, row, column] = torch.from_numpy(bilinear(image, *place, edge=len(image) == 3) / 255)
    return found


def test_sample_is_bilinear_in_the_nearest_level() -> None:
    levels = compose.pyramid(cut_outs())
    extents = torch.ones(12, 2)
    theta, side = compose.placement(extents, 20, random(2))
    side = torch.linspace(3, 40, 12)  # uses all levels
    index = torch.arange(12) % 3
    found = compose.sample(levels, index, theta, side, 20)
    for image in range(12):
        expected = look_up(levels, int(index[image]), theta[image], float(side[image]), 20)
        torch.testing.assert_close(found[image], expected, atol=2e-5, rtol=0)


def test_crop_never_shows_a_neighbour() -> None:
    photographs = torch.randint(256, (4, 3, 24, 32), generator=random(3)).byte()
    levels = compose.pyramid(photographs)
    theta, side = compose.window(16, (24, 32), 20, random(4))
    theta[0] = torch.tensor([[1.0, 0, 0], [0, 1, 0]])  # up to the very edge
    index = torch.arange(16) % 4
    found = compose.crop(levels, index, theta, side, 20)
    for image in range(16):
        expected = look_up(levels, int(index[image]), theta[image], float(side[image]), 20)
        torch.testing.assert_close(found[image], expected, atol=1e-4, rtol=0)


def test_windows_stay_inside() -> None:
    theta, side = compose.window(500, (240, 320), 64, random(5))
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (theta @ corners.T).abs().max() <= 1 + 1e-6
    assert 64 <= side.min() and side.max() <= 64 / 0.35 + 1e-3
    # Square in pixels, so that nothing is stretched.
    torch.testing.assert_close(theta[:, 0, 0].abs() * 320, theta[:, 1, 1] * 240)


def test_placement_keeps_the_cut_out_inside() -> None:
    extents = torch.rand(500, 2, generator=random(6)).clamp_min(0.2)
    extents = extents / extents.amax(dim=1, keepdim=True)
    theta, side = compose.placement(extents, 100, random(7))
    for image in range(500):
        linear, shift = theta[image, :, :2].double(), theta[image, :, 2].double()
        # Neither stretched nor sheared: the inverse is a scale times a rotation, perhaps mirrored.
        inverse = torch.linalg.inv(linear)
        scale = float(side[image]) / 100
        torch.testing.assert_close(inverse.T @ inverse, scale**2 * torch.eye(2).double(), atol=1e-5, rtol=0)
        corners = torch.tensor([[x, y] for x in (-1, 1) for y in (-1, 1)]).double() * extents[image].double()
        placed = (inverse @ (corners - shift).T).T
        reach = placed.amax(0) - placed.amin(0)
        fits = reach <= 2
        assert (placed[:, fits].abs() <= 1 + 1e-5).all()
        angle = math.atan2(float(inverse[0, 1]), float(inverse[1, 1]))
        assert abs(angle) <= math.radians(30) + 1e-5
    assert 45 <= side.min() and side.max() <= 90
    assert 0.3 < (torch.linalg.det(theta[:, :, :2]) < 0).float().mean() < 0.7  # half of them mirrored


def test_mask_decides_between_object_and_background() -> None:
    under = torch.rand(2, 3, 8, 8, generator=random(8))
    over = torch.zeros(2, 4, 8, 8)
    over[:, :, :, 4:] = torch.tensor([0.2, 0.4, 0.6, 1.0])[:, None, None]  # right half: opaque
    over[:, :, 6:, 4:] *= 0.5  # below, half transparent
    found = compose.over_background(over, under)
    assert torch.equal(found[..., :4], (under[..., :4] * 255).round().byte())
    assert (found[:, :, :6, 4:] == torch.tensor([51, 102, 153])[:, None, None]).all()
    mixed = 127.5 * torch.tensor([0.2, 0.4, 0.6])[:, None, None] + 127.5 * under[..., 6:, 4:]
    assert torch.equal(found[..., 6:, 4:], mixed.round().byte())


@pytest.mark.parametrize("opacity", [0, 255])
def test_image_shows_the_cut_out_only_where_its_mask_is(opacity: int) -> None:
    square = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    square[:, :, 4:28, 4:28] = torch.tensor([0, 0, opacity, opacity], dtype=torch.uint8)[:, None, None]
    white = torch.full((1, 3, 24, 32), 255, dtype=torch.uint8)
    nothing = torch.zeros_like(square)

    def make(cut_out: torch.Tensor) -> torch.Tensor:
        return compose.compose(
            compose.pyramid(cut_out),
            compose.pyramid(white),
            torch.zeros(40, dtype=torch.int64),
            torch.zeros(40, dtype=torch.int64),
            extents=torch.full((40, 2), 0.75),
            size=24,
            generator=random(9),
        ).float()

    changed = (make(square) - make(nothing)).abs().amax(dim=1) > 0  # (N, S, S)
    if opacity == 0:
        assert not changed.any()
    else:
        # The scaled square of 24 of 32 pixels covers at least (0.45 * 0.75)^2 and at most (0.9 * 0.75)^2 of the image.
        share = changed.float().mean(dim=(1, 2))
        assert 0.10 < share.min() and share.max() < 0.62


def test_square_weighs_colours_with_alpha() -> None:
    cut_out = torch.zeros(4, 10, 20, dtype=torch.uint8)
    cut_out[0] = 200  # red everywhere, also where nothing is to be seen
    cut_out[3, :, :10] = 255
    found = compose.square(cut_out, 16)
    assert found.shape == (4, 16, 16)
    assert not found[:, :4].any() and not found[:, 12:].any()  # 8 of 16 rows
    assert (found[:, 4:12, :6] == torch.tensor([200, 0, 0, 255])[:, None, None]).all()
    assert not found[:, 4:12, 10:].any()


def test_pyramid_halves() -> None:
    levels = compose.pyramid(cut_outs(side=32))
    assert [level.shape[-1] for level in levels] == [32, 16, 8, 4]
    expected = levels[0][:, :, :2, :2].float().mean(dim=(2, 3)).round().byte()
    assert torch.equal(levels[1][:, :, 0, 0], expected)


def test_tint_is_mild_and_keeps_greys_grey() -> None:
    matrices = compose.tint(1000, random(10))
    grey = matrices @ torch.full((3,), 0.5)
    torch.testing.assert_close(grey, grey[:, :1].expand(-1, 3), atol=1e-5, rtol=0)
    assert 0.34 < grey.min() and grey.max() < 0.66
    red = matrices @ torch.tensor([1.0, 0, 0])
    assert (red.argmax(dim=1) == 0).all()


def test_hue_rotation_by_a_third_moves_red_to_green() -> None:
    turned = compose.hue_rotation(torch.tensor([0, 2 * math.pi / 3])) @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(turned, torch.tensor([[1.0, 0, 0], [0, 1, 0]]), atol=1e-6, rtol=0)


def test_no_colour_exceeds_its_alpha() -> None:
    over = cut_outs().float() / 255
    found = compose.coloured(over, compose.tint(3, random(11)) * 2)
    assert torch.equal(found[:, 3], over[:, 3])
    assert (found[:, :3] <= found[:, 3:]).all() and (found[:, :3] >= 0).all()


def test_backgrounds_are_colourful() -> None:
    def colourfulness(images: torch.Tensor) -> torch.Tensor:
        return (images - images.mean(dim=1, keepdim=True)).abs().mean(dim=(1, 2, 3))

    grey = torch.rand(200, 1, 16, 16, generator=random(12)).expand(-1, 3, -1, -1)
    for found in (compose.recolour(grey, random(13)), compose.texture(200, 16, random(14))):
        assert found.shape == (200, 3, 16, 16) and found.min() >= 0 and found.max() <= 1
        assert colourfulness(found).median() > 0.08
