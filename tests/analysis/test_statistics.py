import numpy as np
import pytest
from scipy import stats

from mambaout.analysis.statistics import Interval, differences, mean_interval, smallest_detectable


def test_interval_is_scipys() -> None:
    values = [0.71, 0.74, 0.69, 0.73, 0.75]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.mean == pytest.approx(np.mean(values)) and interval.n == 5
    assert 0.72 in interval and 0.9 not in interval


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).normal(2.0, 1.0, (2000, 5))
    assert np.mean([2.0 in mean_interval(row) for row in samples]) == pytest.approx(0.95, abs=0.015)


def test_wider_with_more_confidence() -> None:
    narrow, wide = mean_interval([1, 2, 3], 0.5), mean_interval([1, 2, 3], 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_differences_are_paired_by_seed() -> None:
    assert differences({0: 5.0, 1: 7.0, 9: 1.0}, {1: 4.0, 0: 3.0, 2: 8.0}).tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"share no seed: \[0\] and \[1\]"):
        differences({0: 1.0}, {1: 1.0})


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    effect = np.mean([smallest_detectable(rng.normal(0, 1.0, 5)) for _ in range(2000)])
    found = [0 not in mean_interval(rng.normal(effect, 1.0, 5)) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)  # the approximation is a little off at five seeds


@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "at least two runs"), ([[1, 2]], "at least two"), ([1, np.nan], "finite")]
)
def test_refuses_what_has_no_spread(values: list[float], message: str) -> None:
    for function in (mean_interval, smallest_detectable):
        with pytest.raises(ValueError, match=message):
            function(values)


def test_prints_itself() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 5)) == "0.5 [0.25, 0.75] (n = 5)"
