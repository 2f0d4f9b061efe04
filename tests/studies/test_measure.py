"""Measured time and memory against what is known beforehand."""

import time

import pytest
import torch

from mambaout.studies import measure

peaks = pytest.mark.skipif(not measure.can_measure_peaks(), reason="resident peaks need Linux with glibc")


def test_seconds_of_a_known_wait():
    assert 0.02 <= measure.seconds(lambda: time.sleep(0.02), "cpu") < 0.2


def test_medians_run_in_turn_and_drop_the_first_round():
    calls = []
    works = [lambda: calls.append("a"), lambda: calls.append("b")]
    assert len(measure.medians(works, "cpu", repeats=3)) == 2
    assert "".join(calls) == "ab" * 4


@pytest.mark.parametrize(("wait", "budget", "calls"), [(0.05, 0.004, 1), (0.02, 0.01, 2), (0.01, 0.025, 4)])
def test_a_long_call_is_timed_once_and_a_short_one_often(wait, budget, calls):
    seen = []
    median = measure.steady_seconds(lambda: (seen.append(1), time.sleep(wait)), "cpu", budget)
    assert len(seen) <= calls and len(seen) >= min(calls, 2)  # fewer where the machine is busy
    assert wait <= median < wait + 0.2


def test_a_slow_first_call_is_dropped():
    waits = iter([0.05] + [0.001] * 200)
    assert measure.steady_seconds(lambda: time.sleep(next(waits)), "cpu", budget=0.02) < 0.02


@peaks
def test_peak_of_a_known_allocation():
    """Memory that is filled counts, also when freed at once; each call starts anew."""
    mebibytes = 2**20

    def fill(size):
        return lambda: torch.ones(size * mebibytes // 4).sum()

    fill(1)()
    for size in (64, 16, 32):
        assert measure.peak_extra_bytes(fill(size), "cpu") / mebibytes == pytest.approx(size, abs=2)


@peaks
def test_a_block_freed_before_hides_nothing():
    kept = [torch.ones(2**20) for _ in range(8)]  # 4 MiB each
    del kept
    assert measure.peak_extra_bytes(lambda: torch.ones(2**22), "cpu") >= 15 * 2**20


@peaks
def test_resident_memory_is_at_most_its_peak():
    assert 0 < measure.resident_bytes() <= measure.peak_resident_bytes()
