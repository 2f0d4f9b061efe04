"""A map of numbers laid over the image that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from numpy.typing import ArrayLike

from mambaout.figures import style


def map_over_image(
    image: ArrayLike,
    values: ArrayLike,
    *,
    levels: Mapping[str, float] | None = None,
    mark: tuple[float, float] | None = None,
    label: str = "",
    opacity: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """The image in grey, and over it the map in colours: an attribution, or a receptive field.

    Numbers that are nowhere negative run from dark to bright; others from blue through white to red. Near zero the
    map is transparent. The colours are safe for colour-blind readers, and those of one sign stay ordered in print.

    Args:
        image: (H, W) or (H, W, 3), uint8 or floats between 0 and 1.
        values: (H, W).
        levels: contours to draw around larger numbers, by their names: ``{"90 %": field.level(0.9)}``. A map of few
            images is rough, and contours need a smooth one (``field.smoothed(4)``).
        mark: row and column of a cross, such as the place of the output, in pixels.
        label: of the colour bar.
        opacity: of the map's largest numbers, 0 to 1.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or an image out of range.
    """
    pixels, numbers = np.asarray(image), np.asarray(values, dtype=float)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3) or not pixels.size:
        raise ValueError(f"expected an image of shape (H, W) or (H, W, 3), got {pixels.shape}.")
    if numbers.shape != pixels.shape[:2]:
        raise ValueError(f"the map must have the image's {pixels.shape[:2]} pixels, got {numbers.shape}.")
    if not np.isfinite(numbers).all():
        raise ValueError("the map holds numbers that are not finite.")
    largest = 255 if pixels.dtype == np.uint8 else 1
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"an image must be uint8, or between 0 and 1; got {pixels.min():g} to {pixels.max():g}.")
    grey = pixels if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])  # luma (ITU-R BT.601)
    signed = bool(numbers.min() < 0)
    limit = float(np.abs(numbers).max()) or 1.0
    with style.theme():
        ax = style.axes(ax, height=style.WIDTH * 0.8)
        ax.imshow(grey, cmap="gray", vmin=0, vmax=largest)
        drawn = ax.imshow(
            numbers,
            cmap="RdBu_r" if signed else "inferno",
            vmin=-limit if signed else 0,
            vmax=limit,
            alpha=opacity * np.sqrt(np.abs(numbers) / limit),
        )
        for i, (name, level) in enumerate(sorted((levels or {}).items(), key=lambda item: item[1])):
            colour, dashes = ("white", "black")[signed], ("solid", "dashed", "dotted")[i % 3]
            if not numbers.min() < level <= numbers.max():
                continue  # the contour lies beyond the image
            lines = ax.contour(numbers, levels=[level], colors=colour, linestyles=dashes, linewidths=1.5)
            ax.clabel(lines, fmt={level: name}, fontsize=style.FONT_SIZE)
        if mark is not None:
            ax.plot(mark[1], mark[0], marker="+", markersize=12, markeredgewidth=2, color="#009e73")
        ax.set_axis_off()
        opaque = ScalarMappable(drawn.norm, drawn.get_cmap())
        bar = ax.figure.colorbar(opaque, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label(label)
    return ax
