"""What a classifier gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from mambaout.figures import style


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """How often each true class (row) is taken for each class (column), in per cent of the row.

    Args:
        matrix: (C, C) counts, rows are the true classes, as in `sklearn.metrics.confusion_matrix`.
        classes: the C names.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: no square matrix of counts, or another number of names.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape != (len(classes), len(classes)) or not len(classes):
        raise ValueError(f"expected a matrix of {len(classes)} x {len(classes)} classes, got {counts.shape}.")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(f"the matrix must hold counts, which are not negative; its smallest entry is {counts.min()}.")
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with style.theme():
        ax = style.axes(ax, height=style.WIDTH * 0.95)
        # Zeros are left out, so that the mistakes stand out.
        numbers = np.where(percent < 0.5, "", np.char.mod("%.0f", percent))
        sns.heatmap(
            percent,
            vmin=0,
            vmax=100,
            cmap="Blues",
            annot=numbers,
            fmt="",
            annot_kws={"size": 10},
            square=True,
            cbar=False,
            linewidths=0.5,
            xticklabels=list(classes),
            yticklabels=list(classes),
            ax=ax,
        )
        for name in ax.get_xticklabels():
            name.set(rotation=45, ha="right", rotation_mode="anchor")
        ax.set(xlabel="predicted class", ylabel="true class", title="per cent of each true class")
    return ax


def image_grid(images: ArrayLike, titles: Sequence[str] | None = None, *, columns: int = 4) -> NDArray[np.object_]:
    """Images side by side, row by row, each with its title: mistakes, for example.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) RGB, as uint8 or as floats between 0 and 1.
        titles: N titles, which may have several lines.
        columns: images in a row.

    Returns:
        (rows, columns) array of axes; those without an image are empty.

    Raises:
        ValueError: another shape, floats outside 0 to 1, or another number of titles.
    """
    pixels = np.asarray(images)
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] != 3) or len(pixels) == 0:
        raise ValueError(f"expected images of shape (N, H, W) or (N, H, W, 3), got {pixels.shape}.")
    largest = 255 if pixels.dtype == np.uint8 else 1
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"images must be uint8, or floats between 0 and 1; got {pixels.min():g} to {pixels.max():g}.")
    if titles is not None and len(titles) != len(pixels):
        raise ValueError(f"expected a title for each of the {len(pixels)} images, got {len(titles)}.")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}.")
    rows = -(-len(pixels) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles is not None else 0
    side = style.WIDTH / columns
    height = rows * (side * pixels.shape[1] / pixels.shape[2] + lines * 1.3 * style.FONT_SIZE / 72)
    with style.theme():
        grid = plt.subplots(rows, columns, figsize=(style.WIDTH, height), squeeze=False)[1]
        for ax in grid.flat:
            ax.set_axis_off()
        for index, (ax, image) in enumerate(zip(grid.flat, pixels, strict=False)):
            ax.imshow(image, cmap="gray", vmin=0, vmax=largest)
            if titles is not None:
                ax.set_title(titles[index])
    return grid
