"""Paint sprites over photographs in whole numbers, so that every machine gets the same pixels.

A picture says everything in shares of the canvas, and can be painted at any size. Nothing here is random, and no
floating point decides a pixel: coordinates are whole numbers of 2^-16 sprite pixels, sprites are interpolated at 16
positions from one pixel to the next, colours are rounded once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mambaout.datasets.photos import list_photos, photo
from mambaout.datasets.stamps import background, list_backgrounds

UNIT = 1 << 16  # the canvas's side, in what places and sides are counted in
SPRITE = 28  # side of a sprite in pixels
FAINT = 6  # smaller grey values, up to 0.02, are no part of an object
WINDOWS = (100, 70, 50)  # side of the piece of a photograph that is seen, in per cent of its shorter side
COSINES = [round(UNIT * math.cos(math.radians(degree / 10))) for degree in range(3600)]  # of tenths of a degree

DIM = 64  # what counts as the brightest pixel around where all are darker, such as specks beside an object
OPAQUE = 128  # in a mask

# A sprite lies in the middle of a tile of zeros, which a square that encloses it at any turn does not leave.
_TILE, _MARGIN = 64, (64 - SPRITE) // 2


@dataclass(frozen=True)
class Window:
    """The piece of a photograph that fills the canvas.

    Attributes:
        photograph: index into :func:`list_photographs`.
        share: index into ``WINDOWS``.
        x, y: from 0 (left, top) to ``UNIT``.
        mirror: left and right are exchanged.
    """

    photograph: int
    share: int
    x: int
    y: int
    mirror: bool


@dataclass(frozen=True, eq=False)
class Sprite:
    """Something to paint, and where.

    Attributes:
        pixels: (28, 28) uint8, grey on black.
        mask: (28, 28) uint8, how opaque they are; see :func:`soft_masks`.
        x, y: the centre, in ``UNIT``.
        side: of the square of 28 x 28 pixels on the canvas, in ``UNIT``.
        turn: tenths of a degree, clockwise.
        tint: what a white pixel becomes, red, green and blue from 0 to 256.
        counts: False for what only disturbs: it hides others, but is no instance.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    x: int
    y: int
    side: int
    turn: int
    tint: tuple[int, int, int]
    counts: bool = True


@dataclass(frozen=True, eq=False)
class Picture:
    """A photograph and what lies over it, the last on top."""

    window: Window
    sprites: tuple[Sprite, ...]


def paint(picture: Picture, image: NDArray[np.uint8], instances: NDArray[np.uint8] | None = None) -> None:
    """Paint a picture.

    Args:
        picture: what.
        image: (3, S, S), written to.
        instances: (S, S), written to where given: 0, or k where the k-th sprite that counts covers at least half of
            the pixel, and no later one does.

    Raises:
        DataError: a photograph is missing, truncated, altered or no image.
    """
    size = image.shape[-1]
    image[...] = _piece(picture.window, size)
    if instances is not None:
        instances[...] = 0
    number = 0
    for sprite in picture.sprites:
        number += sprite.counts
        rows, columns, opacity = _paste(sprite, image, size)
        if instances is not None:
            np.copyto(instances[rows, columns], number if sprite.counts else 0, where=opacity >= 128 * OPAQUE)


def soft_masks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How opaque each pixel (N, 28, 28) of grey objects on black is, from 0 to ``OPAQUE``.

    Inside an object it is fully. At the edge, where a pixel shows some of the object and some of the black behind it,
    as much as it is as bright as the brightest pixel around it. Else the black would be pasted too, a dotted outline.
    """
    brightest, darkest = pixels, pixels  # of 3 x 3 pixels
    for axis in (1, 2):
        brightest, darkest = _three(np.maximum, brightest, axis), _three(np.minimum, darkest, axis)
    edge = -(-OPAQUE * pixels.astype(np.int16) // np.maximum(brightest, DIM))  # rounded up: no brighter than opaque
    return np.where(pixels < FAINT, 0, np.where(darkest >= FAINT, OPAQUE, edge)).astype(np.uint8)


def _three(function: np.ufunc, pixels: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """Apply a function to each pixel and its two neighbours along an axis, zero outside."""
    edge = [(0, 0)] * pixels.ndim
    edge[axis] = (1, 1)
    padded = np.moveaxis(np.pad(pixels, edge), axis, 0)
    return np.moveaxis(function(function(padded[:-2], padded[1:-1]), padded[2:]), 0, axis)


def _paste(sprite: Sprite, image: NDArray[np.uint8], size: int) -> tuple[slice, slice, NDArray[np.uint32]]:
    """Blend one sprite in; returns where it may be seen, and how opaque it is there, in 256ths of the mask's unit."""
    cosine, sine = COSINES[sprite.turn % 3600], COSINES[(sprite.turn - 900) % 3600]
    columns, rows = (_reach(centre, sprite.side, abs(cosine) + abs(sine), size) for centre in (sprite.x, sprite.y))

    # The position in the tile, in 2^-16 pixels: how it grows with each pixel of the canvas, and where it begins. The
    # centre of pixel x of the canvas lies at (x + 1/2) UNIT / size, that of the sprite at the middle of the tile.
    across, down = SPRITE * UNIT * cosine // (sprite.side * size), SPRITE * UNIT * sine // (sprite.side * size)
    right, below = (  # from the sprite's centre to the first pixel's, in 2^-16 pixels of the canvas
        ((2 * reach.start + 1) * UNIT - 2 * size * centre) // 2
        for reach, centre in ((columns, sprite.x), (rows, sprite.y))
    )
    middle = (_TILE - 1) * UNIT // 2
    xs = np.arange(columns.stop - columns.start, dtype=np.int32)
    ys = np.arange(rows.stop - rows.start, dtype=np.int32)[:, None]
    u = (across * xs + (middle + (across * right + down * below) // UNIT)) + down * ys  # (h, w)
    v = (-down * xs + (middle + (across * below - down * right) // UNIT)) + across * ys

    # Grey value and mask are interpolated together, as the lower and the upper half of one number.
    tile = np.zeros((_TILE, _TILE), np.uint32)
    inside = slice(_MARGIN, _MARGIN + SPRITE)
    tile[inside, inside] = sprite.mask.astype(np.uint32) << 16 | np.where(sprite.mask, sprite.pixels, 0)
    flat = tile.ravel()
    at = (v >> 16) * _TILE + (u >> 16)
    u, v = ((place >> 12 & 15).astype(np.uint32) for place in (u, v))
    first, second, third, fourth = (flat[shift:].take(at) for shift in (0, 1, _TILE, _TILE + 1))
    upper = 16 * first + (second - first) * u  # a negative difference wraps around, and the sum wraps back
    lower = 16 * third + (fourth - third) * u
    both = 16 * upper + (lower - upper) * v

    opacity, grey = both >> 16, both & 0xFFFF
    shown = image[:, rows, columns]
    tint = np.array(sprite.tint, np.uint32)[:, None, None]
    shown[...] = (tint * grey + shown * (2 * (256 * OPAQUE - opacity)) + (1 << 15)) >> 16
    return rows, columns, opacity


def _reach(centre: int, side: int, growth: int, size: int) -> slice:
    """The pixels along one axis whose centres a turned square may cover, its blurred edge of half a pixel included."""
    half = side * growth * (SPRITE + 1) // (2 * SPRITE * UNIT)  # in UNIT
    first = -((UNIT - 2 * (centre - half) * size) // (2 * UNIT))  # rounded up
    last = (2 * (centre + half) * size - UNIT) // (2 * UNIT)
    return slice(min(max(first, 0), size), min(max(last + 1, 0), size))


def list_photographs() -> list[str]:
    """All photographs: files below ``data/stamps/``, then the names that ``mambaout.datasets.photo`` knows."""
    return [*list_backgrounds(), *list_photos()]


@lru_cache(maxsize=2)
def _photographs(size: int) -> list[list[NDArray[np.uint8]]]:
    """Each photograph in the scale of each of ``WINDOWS``: (3, H, W), the shorter side ``size`` pixels or more."""
    from PIL import Image

    scaled: list[list[NDArray[np.uint8]]] = []
    behind = [background(index) for index in range(len(list_backgrounds()))]
    for pixels in behind + [photo(name) for name in list_photos()]:
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        scaled.append([])
        for share in WINDOWS:
            short = -(-100 * size // share)
            width, height = (length * short // min(image.size) for length in image.size)
            small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # whole numbers inside
            scaled[-1].append(np.ascontiguousarray(small.transpose(2, 0, 1)))
    return scaled


def _piece(window: Window, size: int) -> NDArray[np.uint8]:
    """(3, S, S), a view."""
    whole = _photographs(size)[window.photograph][window.share]
    top, left = (
        place * (length - size) // UNIT for place, length in zip((window.y, window.x), whole.shape[1:], strict=True)
    )
    piece = whole[:, top : top + size, left : left + size]
    return piece[:, :, ::-1] if window.mirror else piece
