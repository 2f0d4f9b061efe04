"""Put cut-outs over backgrounds, many at a time: scale, place, rotation and colour are drawn for each image.

Everything is a tensor over the batch. Colours are premultiplied by alpha, so that interpolation mixes no colour from
outside the mask, and are sampled from a pyramid, so that a small copy of a large cut-out does not alias.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

SCALE = (0.45, 0.9)  # longest side of the cut-out as a share of the image
ROTATION = math.radians(30)
WINDOW = (0.35, 1.0)  # side of the piece of a photograph as a share of its height
PROCEDURAL = 1 / 3  # share of backgrounds that are drawn, not photographed
LEVELS = 4
CHUNK = 256  # images composed together; part of what a seed means


def square(cut_out: Tensor, side: int) -> Tensor:
    """A cut-out, (4, H, W) uint8, premultiplied, scaled to fill a transparent square: (4, side, side) uint8."""
    colours, alpha = cut_out[:3].float(), cut_out[3:].float()
    premultiplied = torch.cat([colours * alpha / 255, alpha])
    height, width = (max(1, round(length * side / max(cut_out.shape[1:]))) for length in cut_out.shape[1:])
    scaled = interpolate(premultiplied[None], (height, width), mode="bilinear", antialias=True)[0]
    canvas = torch.zeros(4, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[:, top : top + height, left : left + width] = scaled
    return canvas.round().byte()


def pyramid(images: Tensor) -> list[Tensor]:
    """(K, C, H, W) uint8 and its halves: level i has sides of H / 2^i and W / 2^i pixels."""
    levels = [images]
    for _ in range(LEVELS - 1):
        levels.append(avg_pool2d(levels[-1].float(), 2).round().byte())
    return levels


def compose(
    cut_outs: Sequence[Tensor],
    photographs: Sequence[Tensor],
    shown: Tensor,
    behind: Tensor,
    *,
    extents: Tensor,
    size: int,
    generator: torch.Generator,
) -> Tensor:
    """One image for each entry of `shown`.

    Args:
        cut_outs: pyramid of (K, 4, P, P) uint8, premultiplied.
        photographs: pyramid of (M, 3, H, W) uint8.
        shown: (N,) which cut-out.
        behind: (N,) which photograph, where it is one.
        extents: (N, 2) width and height of the cut-out shown, as shares of its square.
        size: S.
        generator: of everything that is drawn.

    Returns:
        (N, 3, S, S) uint8.
    """
    count = len(shown)
    theta, side = placement(extents, size, generator)
    windows, window_side = window(count, photographs[0].shape[-2:], size, generator)
    tints = tint(count, generator)
    drawn = torch.rand(count, generator=generator) < PROCEDURAL
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        under = torch.empty(part.stop - start, 3, size, size)
        under[drawn[part]] = texture(int(drawn[part].sum()), size, generator)
        taken = ~drawn[part]
        photographed = crop(photographs, behind[part][taken], windows[part][taken], window_side[part][taken], size)
        under[taken] = recolour(photographed, generator)
        over = coloured(sample(cut_outs, shown[part], theta[part], side[part], size), tints[part])
        images[part] = over_background(over, under)
    return images


def over_background(over: Tensor, under: Tensor) -> Tensor:
    """Premultiplied (N, 4, S, S) over (N, 3, S, S), both from 0 to 1: (N, 3, S, S) uint8."""
    return ((over[:, :3] + (1 - over[:, 3:]) * under) * 255).round().clamp(0, 255).byte()


def placement(extents: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw scale, rotation, mirror image and place, so that the cut-out's rectangle stays in the image if it can.

    Args:
        extents: (N, 2) width and height as shares of the cut-out's square.
        size: S, in pixels.
        generator: of the random numbers.

    Returns:
        theta: (N, 2, 3) from the image to the square, both from -1 to 1, as `affine_grid` wants it.
        side: (N,) pixels that the square's side takes in the image.
    """
    count = len(extents)
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * torch.rand(count, generator=generator)
    angle = ROTATION * (2 * torch.rand(count, generator=generator) - 1)
    mirror = 1 - 2 * torch.randint(2, (count,), generator=generator).float()
    cosine, sine = angle.cos(), angle.sin()
    turned = torch.stack([cosine, sine.abs(), sine.abs(), cosine], dim=1).view(count, 2, 2)
    room = (1 - scale[:, None] * (turned @ extents[:, :, None])[..., 0]).clamp_min(0)  # (N, 2)
    centre = room * (2 * torch.rand(count, 2, generator=generator) - 1)
    linear = torch.stack([mirror * cosine, mirror * sine, -sine, cosine], dim=1).view(count, 2, 2)
    linear = linear / scale[:, None, None]
    return torch.cat([linear, -linear @ centre[:, :, None]], dim=2), scale * size


def window(count: int, shape: Sequence[int], size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a square piece of a photograph of `shape` (H, W), mirrored or not.

    Returns:
        theta: (N, 2, 3) from the image to the photograph, both from -1 to 1.
        side: (N,) pixels that the photograph's height takes in the image.
    """
    height, width = shape
    share = WINDOW[0] + (WINDOW[1] - WINDOW[0]) * torch.rand(count, generator=generator)
    reach = torch.stack([share * height / width, share], dim=1)  # (N, 2): half the piece's width and height
    centre = (1 - reach) * (2 * torch.rand(count, 2, generator=generator) - 1)
    mirror = 1 - 2 * torch.randint(2, (count,), generator=generator).float()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = mirror * reach[:, 0], reach[:, 1]
    theta[:, :, 2] = centre
    return theta, size / share


def sample(levels: Sequence[Tensor], index: Tensor, theta: Tensor, side: Tensor, size: int) -> Tensor:
    """Look cut-outs up where `theta` says, in the level of the pyramid next above the wanted size.

    Args:
        levels: pyramid of (K, 4, P, P) uint8, premultiplied.
        index, theta, side: (N,), (N, 2, 3) and (N,), see :func:`placement`.
        size: S.

    Returns:
        (N, 4, S, S) from 0 to 1, transparent outside the square.
    """
    found = torch.empty(len(index), 4, size, size)
    chosen = _level(levels, side)
    for number in chosen.unique().tolist():
        here = torch.nonzero(chosen == number).flatten()
        grid = affine_grid(theta[here], [len(here), 4, size, size], align_corners=False)
        pixels = levels[number][index[here]].float()
        found[here] = grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found / 255


def crop(levels: Sequence[Tensor], index: Tensor, theta: Tensor, side: Tensor, size: int) -> Tensor:
    """The same for pieces of photographs, a pyramid of (M, 3, H, W) uint8: (N, 3, S, S) from 0 to 1.

    The photographs of a level are one tall picture here, because copying a whole photograph for each image would
    take longer than all the rest.
    """
    found = torch.empty(len(index), 3, size, size)
    chosen = _level(levels, side)
    for number in chosen.unique().tolist():
        here = torch.nonzero(chosen == number).flatten()
        photographs, _, height, width = levels[number].shape
        tall = levels[number].float().transpose(0, 1).reshape(1, 3, photographs * height, width)
        grid = affine_grid(theta[here], [len(here), 3, size, size], align_corners=False)  # (n, S, S, 2)
        # Half a pixel from the edge, interpolation would begin to mix in the neighbour.
        x = grid[..., 0].clamp(1 / width - 1, 1 - 1 / width)
        y = grid[..., 1].clamp(1 / height - 1, 1 - 1 / height)
        y = (2 * index[here, None, None] + 1 + y) / photographs - 1
        grid = torch.stack([x, y], dim=-1).view(1, len(here) * size, size, 2)
        pieces = grid_sample(tall, grid, mode="bilinear", padding_mode="border", align_corners=False)
        found[here] = pieces.view(3, len(here), size, size).transpose(0, 1)
    return found / 255


def _level(levels: Sequence[Tensor], side: Tensor) -> Tensor:
    """(N,) the smallest level that is at least as high as `side` pixels; the largest where none is."""
    return (levels[0].shape[2] / side).log2().floor().clamp(0, len(levels) - 1).long()


def tint(count: int, generator: torch.Generator) -> Tensor:
    """Draw (N, 3, 3) colour matrices: hue by up to 12 degrees, saturation and brightness by up to 30 %."""
    draws = 2 * torch.rand(count, 3, generator=generator) - 1
    hue, saturation, brightness = math.radians(12) * draws[:, 0], 1 + 0.3 * draws[:, 1], 1 + 0.3 * draws[:, 2]
    grey = torch.full((3, 3), 1 / 3)
    saturated = grey + saturation[:, None, None] * (torch.eye(3) - grey)
    return brightness[:, None, None] * (saturated @ hue_rotation(hue))


def hue_rotation(angle: Tensor) -> Tensor:
    """(N, 3, 3): turn colours about the axis of greys by (N,) radians (Rodrigues' formula)."""
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return torch.eye(3) + sine * axis + (1 - cosine) * (axis @ axis)


def coloured(premultiplied: Tensor, matrices: Tensor) -> Tensor:
    """Apply (N, 3, 3) colour matrices to premultiplied (N, 4, S, S); no colour exceeds its alpha."""
    alpha = premultiplied[:, 3:]
    colours = torch.einsum("nij,njhw->nihw", matrices, premultiplied[:, :3])
    return torch.cat([torch.minimum(colours.clamp_min(0), alpha), alpha], dim=1)


def recolour(photographs: Tensor, generator: torch.Generator) -> Tensor:
    """Turn the hue of (N, 3, S, S) by any angle, and give a third of them, and all grey ones, two colours instead.

    Without this, colour alone would part object and background, and green would mean a meadow.
    """
    count = len(photographs)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    turned = torch.einsum("nij,njhw->nihw", hue_rotation(angle), photographs)
    light = photographs.mean(dim=1, keepdim=True)  # (N, 1, S, S)
    colours = torch.rand(2, count, 3, 1, 1, generator=generator)
    mixed = colours[0] + (colours[1] - colours[0]) * light
    grey = (photographs - light).abs().mean(dim=(1, 2, 3)) < 0.01
    two = grey | (torch.rand(count, generator=generator) < 1 / 3)
    return torch.where(two[:, None, None, None], mixed, turned).clamp(0, 1)


def texture(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw (N, 3, S, S) textures: stripes warped by noise, and noise of several grains, in three random colours."""
    noise = torch.zeros(count, 2, size, size)
    for octave in (4, 8, 16, 32):
        strength = 0.4 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator)
        grain = torch.randn(count, 2, octave, octave, generator=generator)
        noise += strength * interpolate(grain, (size, size), mode="bilinear") * (4 / octave) ** 0.4
    steps = torch.linspace(-1, 1, size)
    angle = math.pi * torch.rand(count, 1, 1, generator=generator)
    waves = 2 + 14 * torch.rand(count, 1, 1, generator=generator)
    warp = 3 * torch.rand(count, 1, 1, generator=generator)
    along = angle.cos() * steps + angle.sin() * steps[:, None]  # (N, S, S)
    stripes = 0.5 + 0.5 * (math.pi * waves * along + warp * noise[:, 0]).sin()
    blotches = noise.sigmoid()
    first, second, third = torch.rand(3, count, 3, 1, 1, generator=generator)
    share = torch.rand(count, 1, 1, generator=generator)  # 0: noise alone, 1: stripes alone
    pattern = (share * stripes + (1 - share) * blotches[:, 0])[:, None]
    mixed = first + (second - first) * pattern
    return mixed + (third - mixed) * blotches[:, 1:]
