"""Typical wrong answers get the hint that fits."""

import math

import pytest

from mambaout.analysis.complexity import ssm
from mambaout.exercises import check


def scan(dim):
    return ssm(1, dim).total


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("block_flops", lambda L, D, m: (4 + 2 * m) * D**2 * L + 2 * D * L**2, "That is half"),
        ("block_flops", lambda L, D, m: (8 + 4 * m) * D**2 * L + 2 * D * L**2, "two products of L x L"),
        ("block_flops", lambda L, D, m: (8 + 4 * m) * D**2 * L, "part that grows with L^2 is missing"),
        ("block_flops", lambda L, D, m: 24 * D**2 * L + 4 * D * L**2, "right for a ratio of 4 only"),
        ("block_flops", lambda L, D, m: (6 + 4 * m) * D**2 * L + 4 * D * L**2, "the last is missing"),
        ("block_flops", lambda L, D, m: (8 + 2 * m) * D**2 * L + 4 * D * L**2, "two linear layers"),
        ("block_flops", lambda L, D, m: (8 + 16 * m) * D**2 * L + 4 * D * L**2, "2 L D m D"),
        ("block_flops", lambda L, D, m: 0, "expected 18,560, got 0."),
        ("block_flops", lambda L, D, m: "24 D^2 L", "Return one number; for 10 tokens"),
        ("largest_square", lambda D, p: math.isqrt(6 * D), "the side in patches; it is asked in pixels"),
        ("largest_square", lambda D, p: 6 * D * p, "n^2 tokens, not n"),
        ("largest_square", lambda D, p: p * math.isqrt(6 * D) + p, "that is long already"),
        ("largest_square", lambda D, p: p * math.isqrt(6 * D - 1), "that is not the largest"),
        ("largest_square", lambda D, p: p * math.sqrt(6 * D), "no multiple of the patch"),
        ("crossing_in_time", lambda D, a, s: max(0, (scan(D) * s / a - 8 * D**2) / 4 / D), "rates are exchanged"),
        ("crossing_in_time", lambda D, a, s: scan(D) * a / s / 4 / D, "linear layers too, 8 D^2"),
        ("crossing_in_time", lambda D, a, s: (scan(D) * a / s - 8 * D**2) / 4 / D, "fewer than no tokens"),
        ("crossing_in_time", lambda D, a, s: 0, "no effect yet"),
        ("crossing_in_time", lambda D, a, s: max(0, (scan(D) - 8 * D**2) / 4 / D), "no effect yet"),
        ("crossing_in_time", lambda D, a, s: 6 * D, "no effect yet"),
        ("crossing_in_time", lambda D, a, s: a / s, "expected 0.0 tokens, got 1.0"),
        ("crossing_in_time", lambda D, a, s: None, "Return one number"),
    ],
)
def test_a_wrong_answer_gets_its_hint(name, answer, hint):
    verdict = check(f"long_sequences.{name}", answer)
    assert not verdict.passed
    assert hint in verdict.message
