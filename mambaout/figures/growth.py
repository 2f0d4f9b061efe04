"""How something grows: curves on logarithmic axes, with every repeat as a dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mambaout.figures import style


def growth(
    groups: Mapping[str, Mapping[float, Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One curve for each group on logarithmic axes: the median at each place, and every repeat as a dot.

    Args:
        groups: label -> {x: values of the repeats}; positive numbers.
        xlabel, ylabel: names of the axes.
        marks: label -> x, drawn as vertical lines.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: no group, or a group without values, or a number that is not positive and finite.
    """
    if not groups:
        raise ValueError("growth needs at least one group")
    with style.theme():
        ax = style.axes(ax, height=3.9)
        colours = sns.color_palette()
        for i, (label, points) in enumerate(groups.items()):
            places = sorted(points)
            values = [np.asarray(points[x], dtype=float) for x in places]
            numbers = np.concatenate([np.asarray(places, dtype=float), *values])
            if not places or any(len(v) == 0 for v in values) or not (np.isfinite(numbers) & (numbers > 0)).all():
                raise ValueError(f"{label}: expected positive, finite numbers at every place, got {dict(points)}")
            look = {"color": colours[i % len(colours)], "marker": style.MARKERS[i % len(style.MARKERS)]}
            ax.plot(places, [np.median(v) for v in values], label=label, markersize=5, **look)
            dots = [(x, v) for x, some in zip(places, values, strict=True) if len(some) > 1 for v in some]
            ax.plot(*np.array(dots).reshape(-1, 2).T, linestyle="", markersize=2.5, alpha=0.5, **look)
        for label, x in (marks or {}).items():
            ax.axvline(x, color="0.3", linewidth=1.2, linestyle=":")
            ax.annotate(label, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                        ha="center", va="bottom", color="0.3")  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        low, high = ax.get_ylim()
        ax.xaxis.set_major_locator(LogLocator(base=4))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 500 else (1,)))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return ax
