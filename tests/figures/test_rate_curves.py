"""The figure of a tuning shows every seed at every rate, the mean, and the choice."""

from collections.abc import Iterator

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mambaout.figures import rate_curves

ARMS = {
    "convolution": {1e-3: [0.5, 0.6], 2e-3: [0.7, 0.8], 4e-3: [0.6, 0.6], 8e-3: [0.4, np.nan]},
    "SSM": {2e-3: [0.6], 1e-3: [0.5], 4e-3: [0.4]},
    "attention": {1e-3: [0.1], 2e-3: [0.3], 4e-3: [0.2]},
}
CHOSEN = dict.fromkeys(ARMS, 2e-3)


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_seed_is_a_dot_the_mean_a_line_and_the_choice_marked() -> None:
    panels = rate_curves(ARMS, CHOSEN, ylabel="accuracy")
    assert [ax.get_title(loc="left") for ax in panels] == [f"{label}: 0.002" for label in ARMS]
    for (label, rates), ax in zip(ARMS.items(), panels, strict=True):
        dots = [(x, y) for line in ax.lines if line.get_marker() == "o" for x, y in np.asarray(line.get_xydata())]
        assert sorted(dots) == sorted((r, v) for r, values in rates.items() for v in values if np.isfinite(v)), label
        (choice,) = [line for line in ax.lines if line.get_marker() == "D"]
        assert np.asarray(choice.get_xydata()).tolist() == [[2e-3, pytest.approx(np.mean(rates[2e-3]))]]
        crosses = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "x"]
        assert crosses == ([8e-3] if label == "convolution" else [])
        curves = [np.asarray(line.get_xydata()) for line in ax.lines if line.get_linewidth() == 1.6]
        assert curves[0][:, 0].tolist() == sorted(r for r, v in rates.items() if np.isfinite(v).all())
        others = [line for line in ax.lines if line.get_color() == "0.8"]
        assert len(others) == 2, "the other arms stand behind"
    assert len({ax.get_ylim() for ax in panels}) == 1


def test_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        rate_curves({}, {}, ylabel="accuracy")
    with pytest.raises(ValueError, match=r"SSM: the chosen rate, 0\.5, is none of \[0\.001"):
        rate_curves(ARMS, {**CHOSEN, "SSM": 0.5}, ylabel="accuracy")
