"""Augmentation of whole batches of tensors, each image differently, and the mixing of images by Mixup and CutMix.

Every function is pure: the randomness comes in as a table of uniform numbers, one row an image. So a step's images
depend on the seed and the number of the step alone, however many processes share the batch and wherever a run
was continued.
"""

import math

import torch
from torch.nn import functional as F

from mambaout.training.recipe import Augment

COLUMNS = 13  # uniform numbers that one image takes


def random_table(images: int, generator: torch.Generator) -> torch.Tensor:
    """(images, COLUMNS) uniform numbers in [0, 1)."""
    return torch.rand(images, COLUMNS, generator=generator)


def vary(x: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    """Flip, move and recolour each image.

    Args:
        x: (B, C, H, W) floating point, 0 to 1. What comes in from outside an image is 0.
        augment: how strongly.
        u: (B, COLUMNS) uniform random numbers.
    """
    u = u.to(x.device)
    x = move(x, augment, u[:, 0:5])
    return jitter(x, augment.color_jitter, u[:, 5:8]) if augment.color_jitter else x


def move(x: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    """Flip, shift by whole pixels, zoom and rotate (B, C, H, W), all in one bilinear resampling; u is (B, 5)."""
    flipped = u[:, 0] < augment.flip
    if not (augment.shift or augment.zoom or augment.rotate):
        return torch.where(flipped[:, None, None, None], x.flip(3), x)
    height, width = x.shape[2:]
    shift = (u[:, 1:3] * (2 * augment.shift + 1)).floor() - augment.shift  # (B, 2) in pixels: right, down
    zoom = 1 + augment.zoom * (2 * u[:, 3] - 1)
    angle = math.radians(augment.rotate) * (2 * u[:, 4] - 1)
    sign = 1 - 2 * flipped.to(x.dtype)
    # From a place in the output to the place in the input it is taken from; both run from -1 to 1.
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    offset = -2 * shift / shift.new_tensor([width, height])
    rows = (
        torch.stack((sign * cos, sign * -sin * height / width, sign * offset[:, 0]), dim=1),
        torch.stack((sin * width / height, cos, offset[:, 1]), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1).to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def jitter(x: torch.Tensor, strength: float, u: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation of (B, C, H, W) by factors within 1 ± strength; u is (B, 3)."""
    brightness, contrast, saturation = (1 + strength * (2 * u - 1)).T[:, :, None, None, None]
    x = (x * brightness).clamp(0, 1)
    mean = grey(x).mean((2, 3), keepdim=True)
    x = (mean + (x - mean) * contrast).clamp(0, 1)
    return (grey(x) + (x - grey(x)) * saturation).clamp(0, 1) if x.shape[1] == 3 else x


def grey(x: torch.Tensor) -> torch.Tensor:
    """Luma (B, 1, H, W) of an RGB image, by the weights of ITU-R 601; a grey image is its own."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def erase(x: torch.Tensor, probability: float, u: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Random erasing (Zhong et al., 2020) of normalised images: a rectangle becomes noise.

    It covers 2 % to 33 % of the image, with a ratio of height to width between 0.3 and 3.3.

    Args:
        x: (B, C, H, W) normalised.
        probability: share of the images.
        u: (B, COLUMNS) uniform random numbers.
        noise: (C, H, W) that the rectangles show.
    """
    height, width = x.shape[2:]
    chosen, area, ratio, top, left = u[:, 8:13].to(x.device).T
    area = (0.02 + (1 / 3 - 0.02) * area) * height * width
    ratio = (math.log(0.3) * (1 - 2 * ratio)).exp()
    h = (area * ratio).sqrt().round().clamp(1, height)
    w = (area / ratio).sqrt().round().clamp(1, width)
    top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
    inside = _between(top, top + h, height)[:, :, None] & _between(left, left + w, width)[:, None]  # (B, H, W)
    inside &= (chosen < probability)[:, None, None]
    return torch.where(inside[:, None], noise.to(x), x)


def mix(
    x: torch.Tensor, y: torch.Tensor, augment: Augment, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019), one of them for the whole batch.

    Each image is mixed with its neighbour, 0 with 1, 2 with 3: the order is random already, and pairs stay together
    when a batch is shared by several processes. Both are off where neither alpha is positive.

    Args:
        x, y: images (B, C, H, W), B even, and targets (B, classes), probabilities.
        augment: the two alphas, and how often which.
        generator: the same on all processes.
    """
    if not augment.mixup and not augment.cutmix:
        return x, y
    if len(x) % 2:
        raise ValueError(f"Mixup and CutMix take images in pairs: a (micro-)batch must be even, got {len(x)}")
    cut = augment.cutmix > 0 and (
        augment.mixup == 0 or torch.rand((), generator=generator).item() < augment.switch
    )
    share = _beta(augment.cutmix if cut else augment.mixup, generator)  # of the image itself
    other_x, other_y = (t.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for t in (x, y))
    if not cut:
        return share * x + (1 - share) * other_x, share * y + (1 - share) * other_y
    height, width = x.shape[2:]
    side = math.sqrt(1 - share)
    middle = torch.rand(2, generator=generator).tolist()
    top, bottom = _span(middle[0], side, height)
    left, right = _span(middle[1], side, width)
    x = x.clone()
    x[:, :, top:bottom, left:right] = other_x[:, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)  # what is left, at the border too
    return x, share * y + (1 - share) * other_y


def _between(low: torch.Tensor, high: torch.Tensor, size: int) -> torch.Tensor:
    """(B,), (B,) -> (B, size): is low <= i < high?"""
    i = torch.arange(size, device=low.device)
    return (low[:, None] <= i) & (i < high[:, None])


def _span(middle: float, side: float, size: int) -> tuple[int, int]:
    """First and last + 1 pixel of a span around a place in [0, 1), cut at the border."""
    center, half = int(middle * size), int(side * size) // 2
    return max(0, center - half), min(size, center + half)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """One draw from Beta(alpha, alpha), as the share of one of two gamma variables (which take a generator)."""
    a, b = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return a / (a + b)
