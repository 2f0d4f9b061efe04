"""Figures of seeds show every seed, the mean and its interval."""

from collections.abc import Iterator

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mambaout.analysis.statistics import mean_interval
from mambaout.figures import seed_curves, seed_dots


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_dots_show_each_seed_the_mean_and_its_interval() -> None:
    groups = {"visible": [0.80, 0.82, 0.81], "causal": [0.78, 0.79, 0.80]}
    ax = seed_dots(groups, xlabel="accuracy", reference=0.5)
    drawn = [np.asarray(line.get_xdata()) for line in ax.lines]
    assert drawn[0].tolist() == [0.5, 0.5]
    for values, (mean, bar, dots) in zip(groups.values(), (drawn[1:4], drawn[4:7]), strict=True):
        interval = mean_interval(values)
        assert mean.tolist() == [pytest.approx(interval.mean)]
        assert bar.tolist() == pytest.approx([interval.low, interval.high])
        assert dots.tolist() == values
    assert [label.get_text() for label in ax.get_yticklabels()] == ["visible", "causal"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first group stands on top"


def test_curves_show_each_seed_the_mean_and_its_interval() -> None:
    table = np.array([[1.0, 0.8, 0.6], [1.0, 0.6, 0.4]])
    ax = seed_curves([2, 4, 8], {"ssm": table, "attention": np.ones((2, 3))}, xlabel="pairs", ylabel="accuracy")
    ssm, attention = (container[0] for container in ax.containers)
    np.testing.assert_allclose(ssm.get_ydata(), table.mean(0))
    bars = ax.containers[0][2][0].get_segments()
    spans = [(mean_interval(column).low, mean_interval(column).high) for column in table.T]
    np.testing.assert_allclose([bar[:, 1] for bar in bars], spans)
    dots = [line for line in ax.lines if line.get_marker() == "."]
    np.testing.assert_allclose([np.asarray(line.get_ydata()) for line in dots[:2]], table)
    assert (np.asarray(ssm.get_xdata()) < np.asarray(attention.get_xdata())).all(), "side by side"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "4", "8"]
    assert ax.get_legend_handles_labels()[1] == ["ssm", "attention"]


def test_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="at least one group"):
        seed_dots({}, xlabel="x")
    with pytest.raises(ValueError, match="at least one group"):
        seed_curves([1, 2], {}, xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="two runs"):
        seed_dots({"one": [1.0]}, xlabel="x")
    with pytest.raises(ValueError, match=r"ssm: expected values of shape \(seeds, 3\), got \(2, 2\)"):
        seed_curves([1, 2, 3], {"ssm": [[1, 2], [3, 4]]}, xlabel="x", ylabel="y")
