"""A slow painter, pixel by pixel in Python's own whole numbers and fractions, that the fast one must equal."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from mambaout.datasets.paint import COSINES, OPAQUE, SPRITE, UNIT, Picture, Sprite, _photographs


def slow_mask(pixels: list[list[int]]) -> list[list[int]]:
    """One sprite's mask, from the rule."""

    def at(y: int, x: int) -> int:
        return pixels[y][x] if 0 <= y < SPRITE and 0 <= x < SPRITE else 0

    def opacity(y: int, x: int) -> int:
        around = [at(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if at(y, x) < 6:
            return 0
        return OPAQUE if min(around) >= 6 else math.ceil(Fraction(OPAQUE * at(y, x), max(64, *around)))

    return [[opacity(y, x) for x in range(SPRITE)] for y in range(SPRITE)]


def look_up(sprite: Sprite, size: int, y: int, x: int) -> tuple[Fraction, Fraction]:
    """Grey value (premultiplied) and opacity, 0 to 1, that a sprite has at the centre of a canvas pixel."""
    cosine, sine = COSINES[sprite.turn % 3600], COSINES[(sprite.turn - 900) % 3600]
    # As in the fast one, the step from pixel to pixel is a whole number of 2^-16 pixels of the sprite.
    across, down = (SPRITE * UNIT * part // (sprite.side * size) for part in (cosine, sine))
    right, below = (  # from the centre, in 2^-17 pixels of the canvas
        (2 * pixel + 1) * UNIT - 2 * size * centre for pixel, centre in ((x, sprite.x), (y, sprite.y))
    )
    u, v = (Fraction(a * right + b * below, 2 * UNIT * UNIT) for a, b in ((across, down), (-down, across)))
    # To the sprite's grid, whose pixel (0, 0) has its centre at 0, in steps of 1/16.
    u, v = (Fraction(math.floor(16 * (place + Fraction(SPRITE - 1, 2))), 16) for place in (u, v))
    grey = opacity = Fraction(0)
    for i in (0, 1):
        for j in (0, 1):
            row, column = math.floor(v) + i, math.floor(u) + j
            if 0 <= row < SPRITE and 0 <= column < SPRITE and sprite.mask[row, column]:
                weight = (1 - abs(v - row)) * (1 - abs(u - column))
                grey += weight * int(sprite.pixels[row, column])
                opacity += weight * Fraction(int(sprite.mask[row, column]), OPAQUE)
    return grey, opacity


def slow_paint(picture: Picture, size: int) -> tuple[Tensor, Tensor]:
    """Image (3, S, S) and instances (S, S), both uint8."""
    window = picture.window
    whole = _photographs(size)[window.photograph][window.share]
    top, left = window.y * (whole.shape[1] - size) // UNIT, window.x * (whole.shape[2] - size) // UNIT
    image, instances = torch.empty(3, size, size, dtype=torch.uint8), torch.zeros(size, size, dtype=torch.uint8)
    for y in range(size):
        for x in range(size):
            column = left + (size - 1 - x if window.mirror else x)
            colour = [int(whole[channel, top + y, column]) for channel in range(3)]
            number = 0
            for sprite in picture.sprites:
                number += sprite.counts
                grey, opacity = look_up(sprite, size, y, x)
                colour = [
                    math.floor(Fraction(tint, 256) * grey + (1 - opacity) * old + Fraction(1, 2))
                    for tint, old in zip(sprite.tint, colour, strict=True)
                ]
                if opacity >= Fraction(1, 2):
                    instances[y, x] = number if sprite.counts else 0
            image[:, y, x] = torch.tensor(colour)
    return image, instances
