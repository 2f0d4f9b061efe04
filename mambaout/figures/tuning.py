"""How the learning rates were chosen: each arm of a study at every rate that was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from mambaout.figures import style


def rate_curves(
    arms: Mapping[str, Mapping[float, ArrayLike]],
    chosen: Mapping[str, float],
    *,
    ylabel: str,
    columns: int = 2,
) -> list[Axes]:
    """One small panel for each arm: every seed at every learning rate as a dot, the means as a line, the choice marked.

    All panels have the same axes, and each shows the means of the other arms in grey.

    Args:
        arms: label -> learning rate -> values of the seeds; what is not finite, a run that diverged, is a cross at
            the lower edge.
        chosen: label -> the rate that was chosen.
        ylabel: what the values are.
        columns: panels in a row.

    Returns:
        The axes of the panels, in the order of the arms.

    Raises:
        ValueError: no arm, or one whose chosen rate was not tried.
    """
    if not arms:
        raise ValueError("rate_curves needs at least one arm")
    for label, rates in arms.items():
        if chosen.get(label) not in rates:
            raise ValueError(f"{label}: the chosen rate, {chosen.get(label)}, is none of {sorted(rates)}")
    rows = math.ceil(len(arms) / columns)
    with style.theme():
        figure, grid = plt.subplots(
            rows, columns, sharex=True, sharey=True, squeeze=False, figsize=(style.WIDTH, 0.6 + 1.5 * rows)
        )
        panels = list(grid.flat)
        means = {label: _means(rates) for label, rates in arms.items()}
        for label, ax in zip(arms, panels, strict=False):
            for other in means.keys() - {label}:
                ax.plot(*means[other], color="0.8", linewidth=1, zorder=1)
        for (label, rates), ax in zip(arms.items(), panels, strict=False):
            _panel(ax, label, rates, means[label], chosen[label])
        for ax in panels[len(arms) :]:
            ax.set_axis_off()
        panels[0].set_xscale("log")
        panels[0].xaxis.set_major_locator(LogLocator(10, numticks=4))
        panels[0].xaxis.set_major_formatter("{x:g}")
        panels[0].xaxis.set_minor_formatter(NullFormatter())
        panels[0].margins(y=0.12)
        for ax in panels[max(0, len(arms) - columns) : len(arms)]:
            ax.tick_params(labelbottom=True)
        figure.supxlabel("learning rate", fontsize=style.FONT_SIZE)
        figure.supylabel(ylabel, fontsize=style.FONT_SIZE)
    return panels[: len(arms)]


def _panel(
    ax: Axes, label: str, rates: Mapping[float, ArrayLike], means: tuple[np.ndarray, np.ndarray], chosen: float
) -> None:
    colour, mark = sns.color_palette()[0], sns.color_palette()[1]
    ax.axvline(chosen, color=mark, linewidth=1.4, linestyle="--", zorder=2)
    ax.plot(*means, color=colour, linewidth=1.6, zorder=3)
    for rate, seeds in rates.items():
        values = np.atleast_1d(np.asarray(seeds, dtype=float))
        fine = values[np.isfinite(values)]
        ax.plot(np.full(len(fine), rate), fine, "o", color=colour, alpha=0.55, markersize=4.5, zorder=4)
        if len(fine) < len(values):
            ax.plot(rate, 0.04, "x", color="0.35", markersize=6, transform=ax.get_xaxis_transform(), zorder=4)
    best = means[1][means[0] == chosen]
    ax.plot(np.full(len(best), chosen), best, "D", color=mark, markersize=6.5, zorder=5)
    ax.set_title(f"{label}: {chosen:g}", loc="left")


def _means(rates: Mapping[float, ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """The rates at which no seed diverged, ascending, and the means there."""
    means = {rate: float(np.mean(np.asarray(rates[rate], dtype=float))) for rate in sorted(rates)}
    fine = {rate: mean for rate, mean in means.items() if math.isfinite(mean)}
    return np.array(list(fine)), np.array(list(fine.values()))
