import pytest

from mambaout.analysis.statistics import Interval
from mambaout.analysis.verdict import margin, verdict


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.021, 0.03, "disagrees"),
        (-0.01, 0.019, "agrees"),
        (-0.05, -0.03, "agrees"),  # worse with the SSM: still no gain
        (0.01, 0.03, "undecided"),
        (0.02, 0.03, "undecided"),  # it touches
        (0.0, 0.02, "undecided"),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, outcome: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 12), 0.02).outcome == outcome


def test_prints_the_number_the_interval_and_the_margin() -> None:
    text = str(verdict(Interval(0.004, -0.001, 0.009, 12), 0.021))
    assert text == "agrees: +0.40 points [-0.10, +0.90] (n = 12), below the margin of 2.10"
    assert "above the margin of 2.10" in str(verdict(Interval(0.04, 0.03, 0.05, 12), 0.021))
    assert "on both sides of the margin" in str(verdict(Interval(0.02, 0.01, 0.03, 12), 0.021))


def test_the_margin_is_a_share_of_what_mixing_is_worth() -> None:
    assert margin([0.80, 0.82], [0.60, 0.62]) == pytest.approx(0.03)
    with pytest.raises(ValueError, match="mixing is worth nothing here"):
        margin([0.5, 0.5], [0.5, 0.6])
    with pytest.raises(ValueError, match="the margin must be positive"):
        verdict(Interval(0.0, -1.0, 1.0, 5), 0.0)
