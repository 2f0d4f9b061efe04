"""Results of several seeds: every seed as a dot, the mean with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mambaout.analysis.statistics import mean_interval
from mambaout.figures import style


def seed_dots(
    groups: Mapping[str, ArrayLike], *, xlabel: str, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """One row for each group: its seeds as dots, the mean and its 95 % interval.

    Args:
        groups: label -> values of the seeds, at least two; drawn from top to bottom.
        xlabel: what the values are.
        reference: a value to mark with a vertical line, such as 0 for differences.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: no group, or one with fewer than two values.
    """
    if not groups:
        raise ValueError("seed_dots needs at least one group")
    with style.theme():
        ax = style.axes(ax, height=0.9 + 0.42 * len(groups))
        colour = sns.color_palette()[0]  # the labels tell the groups apart
        if reference is not None:
            ax.axvline(reference, color="0.35", linewidth=1.2)
        for row, values in enumerate(groups.values()):
            interval = mean_interval(values)
            ax.plot(interval.mean, row, "D", color=colour, markersize=6, zorder=3)
            ax.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2.4)
            dots = np.asarray(values, dtype=float)
            ax.plot(dots, np.full(len(dots), row - 0.24), "o", color=colour, alpha=0.55, markersize=4.5)
        ax.set(xlabel=xlabel, yticks=range(len(groups)), yticklabels=list(groups))
        ax.set_ylim(len(groups) - 0.5, -0.6)
        ax.grid(axis="y", visible=False)
    return ax


def seed_curves(
    x: Sequence[float],
    groups: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """One curve for each group: the mean over its seeds with the 95 % interval as a bar, and every seed as a dot.

    The values of x stand at equal distances, and at each of them the groups stand side by side.

    Args:
        x: (K,) where the values were measured.
        groups: label -> (seeds, K) values.
        xlabel, ylabel: names of the axes.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: no group, or one whose shape does not fit x, or that has fewer than two seeds.
    """
    if not groups:
        raise ValueError("seed_curves needs at least one group")
    with style.theme():
        ax = style.axes(ax, height=4.0)
        for i, (label, values) in enumerate(groups.items()):
            table = np.asarray(values, dtype=float)
            if table.ndim != 2 or table.shape[1] != len(x):
                raise ValueError(f"{label}: expected values of shape (seeds, {len(x)}), got {table.shape}")
            place = np.arange(len(x)) + 0.12 * (i - (len(groups) - 1) / 2)
            intervals = [mean_interval(column) for column in table.T]
            mean, low, high = np.array([(it.mean, it.low, it.high) for it in intervals]).T
            (line, *_) = ax.errorbar(
                place, mean, (mean - low, high - mean), marker="osD^vPX*"[i % 8], markersize=5, linewidth=1.2,
                capsize=2.5, label=label,
            )  # fmt: skip
            for row in table:
                ax.plot(place, row, ".", color=line.get_color(), alpha=0.45, markersize=4)
        ax.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(x)), xticklabels=[f"{value:g}" for value in x])
        ax.grid(axis="x", visible=False)
        ax.legend()
    return ax
