"""One look for all static figures: legible on a phone, safe for colour-blind readers.

Figures bring their own white card: text in a mid-tone on a transparent ground has little contrast on light
and on dark pages alike, and which of them it is can change after a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

# A page on a phone is about 360 CSS pixels wide: 10.5 points on 5.2 inches are then 10 pixels.
WIDTH = 5.2  # inches
FONT_SIZE = 10.5  # points
MARKERS = "osD^vPX*"  # of curves, so that not colour alone parts them

_RC: dict[Any, Any] = {
    "figure.dpi": 130,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "savefig.facecolor": "white",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
}


@contextmanager
def theme() -> Iterator[None]:
    """The look, for whatever is drawn inside the `with` block."""
    with sns.axes_style("whitegrid"), sns.color_palette("colorblind"), plt.rc_context(_RC):
        yield
        interactive = plt.isinteractive()
    # A notebook's first figure switches interactive mode on, and rc_context would switch it off again:
    # later figures would then not be shown.
    matplotlib.interactive(interactive)


def axes(ax: Axes | None, height: float = 3.2) -> Axes:
    """`ax` itself, or new axes of the common width and `height` inches."""
    return ax if ax is not None else plt.subplots(figsize=(WIDTH, height))[1]


def series(name: str, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two equally long rows of finite numbers, at least one; a ValueError says what else came."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if xs.ndim != 1 or xs.shape != ys.shape or xs.size == 0:
        raise ValueError(f"steps and {name} must be equally long rows of numbers, got {xs.shape} and {ys.shape}.")
    finite = np.isfinite(xs) & np.isfinite(ys)
    if not finite.all():
        raise ValueError(f"steps and {name} must be finite, got {ys[finite.argmin()]} at index {finite.argmin()}.")
    return xs, ys
