"""Typical wrong answers get the hint that fits."""

import pytest
import torch

from mambaout.exercises import check


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda t, d, h, n, b: t * d * n * b, "a key and a value of each token"),
        (lambda t, d, h, n, b: 2 * t * d * h * n * b, "the heads share its width"),
        (lambda t, d, h, n, b: 2 * t * d * b, "each layer has keys and values of its own"),
        (lambda t, d, h, n, b: 2 * t * d * n, "how many bytes is that?"),
        (lambda t, d, h, n, b: 2 * t * d // h * n * b, "one head's part"),
        (lambda t, d, h, n, b: t, "expected 64, got 1"),
        (lambda t, d, h, n, b: None, "Return one number; for 1 tokens"),
    ],
)
def test_kv_bytes(answer, hint):
    verdict = check("memory.kv_bytes", answer)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda dim, n: n // 2, "attention holds just as much after token 8"),
        (lambda dim, n: n, "a token adds a key and a value"),
        (lambda dim, n: n + 1, "a token adds a key and a value"),
        (lambda dim, n: dim * n, "expected token 9, got 1024"),
        (lambda dim, n: dim * n // 2 + 1, "a token adds 2 x 64 numbers to attention, not 2"),
    ],
)
def test_outgrown(answer, hint):
    verdict = check("memory.outgrown", answer)
    assert not verdict.passed and hint in verdict.message


def with_own_step(delta, A):
    elapsed = torch.cat((torch.zeros(1, delta.shape[1]), delta.cumsum(0)))
    return torch.exp((elapsed[1:, None] - elapsed[None, :-1])[..., None] * A).mean((2, 3)).tril()


def mean_first(delta, A):
    rates = (delta[..., None] * A).mean((1, 2)).cumsum(0)
    return torch.exp(rates[:, None] - rates[None]).tril()


def both_sides(delta, A):
    elapsed = delta.cumsum(0)
    return torch.exp((elapsed[:, None] - elapsed[None]).abs()[..., None] * A).mean((2, 3))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (with_own_step, "written after that decay"),
        (mean_first, "last, of the products"),
        (both_sides, "Above the diagonal all must be 0"),
        (lambda delta, A: 0.5 * both_sides(delta, A).tril(), "On the diagonal all must be 1"),
        (lambda delta, A: torch.eye(6), "Entry ["),
        (lambda delta, A: torch.ones(3), "shape (6, 6), got (3,)"),
        (lambda delta, A: 1.0, "Return a tensor of shape (6, 6)"),
    ],
)
def test_retention(answer, hint):
    verdict = check("memory.retention", answer)
    assert not verdict.passed and hint in verdict.message, verdict
