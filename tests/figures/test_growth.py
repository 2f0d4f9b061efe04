"""Curves on logarithmic axes: medians, dots, marks, and what is refused."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest

from mambaout import figures


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_medians_dots_and_marks():
    groups = {"attention": {256: [3.0, 1.0, 2.0], 64: [0.5]}, "ssm": {64: [1.0], 256: [2.0]}}
    ax = figures.growth(groups, xlabel="tokens", ylabel="ms", marks={"6D": 128})
    curve, dots = ax.lines[:2]
    assert list(curve.get_xdata()) == [64, 256] and list(curve.get_ydata()) == [0.5, 2.0]
    assert list(dots.get_xdata()) == [256] * 3  # a single repeat is the median itself
    assert list(ax.lines[3].get_xdata()) == []
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["attention", "ssm"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "log", "tokens", "ms")
    assert [text.get_text() for text in ax.texts] == ["6D"] and ax.lines[-1].get_xdata()[0] == 128


def test_curves_differ_in_more_than_colour():
    ax = figures.growth({name: {1: [1.0]} for name in "abcd"}, xlabel="x", ylabel="y")
    assert len({line.get_marker() for line in ax.lines[::2]}) == 4


@pytest.mark.parametrize("points", [{}, {64: []}, {64: [0.0]}, {64: [float("nan")]}, {0: [1.0]}])
def test_what_has_no_logarithm_is_refused(points):
    with pytest.raises(ValueError, match="ssm: expected positive, finite numbers"):
        figures.growth({"ssm": points}, xlabel="x", ylabel="y")


def test_no_group():
    with pytest.raises(ValueError, match="at least one group"):
        figures.growth({}, xlabel="x", ylabel="y")
