"""Batched augmentation against the same done image by image."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from mambaout.training import Augment
from mambaout.training import augment as aug

NONE = Augment(flip=0, erase=0)


def table(images=64, seed=0):
    return aug.random_table(images, torch.Generator().manual_seed(seed))


def test_nothing_asked_is_nothing_done():
    x = torch.rand(4, 3, 9, 7)
    assert torch.equal(aug.vary(x, NONE, table(4)), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_and_shifts_are_those_of_single_images(channels):
    x, u = torch.rand(64, channels, 9, 7), table()
    augment = Augment(flip=0.4, erase=0, shift=2)
    moved = aug.vary(x, augment, u)
    seen = set()
    for image, row, found in zip(x, u, moved, strict=True):
        right, down = (math.floor(v * 5) - 2 for v in row[1:3].tolist())
        flipped = row[0].item() < 0.4
        expected = shifted(image.flip(2) if flipped else image, right, down)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
        seen.add((right, down, flipped))
    assert len(seen) > 25 and {r for r, _, _ in seen} == {-2, -1, 0, 1, 2}


def shifted(image, right, down):
    moved = torch.zeros_like(image)
    height, width = image.shape[1:]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                moved[:, i, j] = image[:, i - down, j - right]
    return moved


def test_rotation_and_zoom_are_torchvisions():
    x = torch.rand(8, 1, 16, 20)
    x = TF.gaussian_blur(x, [5, 5])
    u = table(8)
    moved = aug.vary(x, Augment(flip=0, erase=0, rotate=30, zoom=0.2), u)
    for image, row, found in zip(x, u.tolist(), moved, strict=True):
        angle, zoom = -30 * (2 * row[4] - 1), 1 + 0.2 * (2 * row[3] - 1)
        expected = TF.affine(image, angle, [0, 0], zoom, [0.0, 0.0], TF.InterpolationMode.BILINEAR)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_jitter_is_torchvisions():
    x, u = torch.rand(8, 3, 6, 6), table(8)
    changed = aug.vary(x, Augment(flip=0, erase=0, color_jitter=0.4), u)
    for image, row, found in zip(x, u.tolist(), changed, strict=True):
        brightness, contrast, saturation = (1 + 0.4 * (2 * v - 1) for v in row[5:8])
        expected = TF.adjust_brightness(image, brightness)
        expected = TF.adjust_saturation(TF.adjust_contrast(expected, contrast), saturation)
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # its luma weights are rounded


def test_erasing():
    x, u = torch.zeros(4000, 2, 28, 20), table(4000)
    noise = torch.full((2, 28, 20), 7.0)
    inside = aug.erase(x, 0.25, u, noise)[:, 0] == 7
    area = inside.float().mean((1, 2))
    erased = area > 0
    assert 0.22 < erased.float().mean() < 0.28
    assert area[erased].min() > 0.01 and 0.3 < area.max() < 0.36
    assert 0.14 < area[erased].mean() < 0.18  # uniform between 0.02 and 1/3, a little cut off at the border
    assert (inside.any(0).float().mean()) == 1  # everywhere
    for mask in inside[erased][:50]:  # one full rectangle
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert rows.nonzero().flatten().diff().eq(1).all() and columns.nonzero().flatten().diff().eq(1).all()


def mixture(augment, seed=0, size=(12, 10)):
    x = torch.arange(6.0)[:, None, None, None].expand(6, 1, *size).contiguous()
    y = torch.eye(6)
    return aug.mix(x, y, augment, torch.Generator().manual_seed(seed))


def test_mixup_mixes_neighbours():
    x, y = mixture(Augment(mixup=0.8))
    share = y[0, 0].item()
    assert 0 < share < 1
    for i, j in ((0, 1), (1, 0), (4, 5), (5, 4)):
        assert y[i, i].item() == pytest.approx(share) and y[i, j].item() == pytest.approx(1 - share)
        torch.testing.assert_close(x[i], torch.full((1, 12, 10), share * i + (1 - share) * j))


def test_cutmix_shares_are_areas():
    shares = []
    for seed in range(200):
        x, y = mixture(Augment(cutmix=1.0), seed, (64, 60))
        for i, j in ((0, 1), (3, 2)):
            assert set(x[i].unique().tolist()) <= {float(i), float(j)}
            assert y[i, i].item() == pytest.approx((x[i] == i).float().mean().item(), abs=1e-6)
        shares.append(y[0, 0].item())
    # 1/2 in the mean, were no box cut off by the border: E[(s - s^2 / 4)^2] = 0.321 with s^2 uniform is what remains.
    assert sum(shares) / 200 == pytest.approx(1 - 0.321, abs=0.05)


def test_switch_chooses_between_the_two():
    cut = [mixture(Augment(mixup=0.8, cutmix=1.0, switch=0.3), seed)[0][0].unique().numel() > 1 for seed in range(400)]
    assert 0.2 < sum(cut) / 400 < 0.37  # a box of no pixels looks like neither


def test_odd_batches_are_refused():
    with pytest.raises(ValueError, match="must be even, got 3"):
        aug.mix(torch.zeros(3, 1, 2, 2), torch.eye(3), Augment(mixup=0.2), torch.Generator())
    x, y = torch.zeros(3, 1, 2, 2), torch.eye(3)
    assert aug.mix(x, y, NONE, torch.Generator()) == (x, y)
