"""How a training went."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mambaout.figures import style


def training_curve(
    steps: ArrayLike,
    losses: ArrayLike,
    *,
    window: int = 1,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Loss against training step; with `window` > 1 also its mean over that many records, in front.

    Args:
        steps: (N,) increasing.
        losses: (N,) one loss for each step.
        window: number of records in the running mean, which stands at the window's middle.
        label: name in the legend, for comparing runs on the same `ax`.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: the lengths differ, a number is not finite, or the window does not fit.
    """
    xs, ys = style.series("losses", steps, losses)
    if not 1 <= window <= len(ys):
        raise ValueError(f"window must lie between 1 and the number of losses ({len(ys)}), got {window}.")
    with style.theme():
        ax = style.axes(ax)
        (line,) = ax.plot(xs, ys, label=label if window == 1 else None)
        if window > 1:
            line.set(alpha=0.3, linewidth=1)
            mean = np.convolve(ys, np.full(window, 1 / window), mode="valid")
            first = (window - 1) // 2
            ax.plot(xs[first : first + len(mean)], mean, color=line.get_color(), label=label)
        ax.set(xlabel="step", ylabel="training loss")
        _finish(ax, label)
    return ax


def accuracy_curve(
    steps: ArrayLike, accuracies: ArrayLike, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against training step, a dot for each evaluation.

    Args:
        steps: (N,) increasing; steps or epochs.
        accuracies: (N,) fractions between 0 and 1, drawn as percentages.
        label: name in the legend, for comparing runs on the same `ax`.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: the lengths differ, or an accuracy is not between 0 and 1.
    """
    xs, ys = style.series("accuracies", steps, accuracies)
    if ys.min() < 0 or ys.max() > 1:
        raise ValueError(f"accuracies must be fractions between 0 and 1, got {ys.min():g} to {ys.max():g}.")
    with style.theme():
        ax = style.axes(ax)
        ax.plot(xs, ys, marker="o", markersize=4, label=label)
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        ax.set(xlabel="step", ylabel="accuracy")
        _finish(ax, label)
    return ax


def _finish(ax: Axes, label: str | None) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if label is not None:
        ax.legend()
