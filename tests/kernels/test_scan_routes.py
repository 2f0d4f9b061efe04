"""Several routes in one call against the loop over routes and tokens."""

import pytest
import torch
from scan_cases import relative_error

from mambaout.kernels.scan_routes import scan_routes, scan_routes_plain


def make(routes: int, batch: int, length: int, dim: int, state: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [
        normal(batch, length, dim),
        normal(routes, batch, length, dim).sigmoid(),
        -4 * normal(routes, dim, state).sigmoid(),
        normal(routes, batch, length, state),
        normal(routes, batch, length, state),
        normal(routes, dim),
    ]
    return [t.to(dtype).requires_grad_() for t in inputs]


def orders_of(routes: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(length, generator=generator) for _ in range(routes)])


@pytest.mark.parametrize(
    ("routes", "batch", "length", "dim", "state"), [(1, 2, 5, 3, 2), (4, 3, 37, 16, 5), (2, 1, 70, 40, 16)]
)
def test_equals_the_plain_form(form: str, routes: int, batch: int, length: int, dim: int, state: int):
    orders = orders_of(routes, length)
    exact_inputs = make(routes, batch, length, dim, state, torch.float64)
    inputs = make(routes, batch, length, dim, state, torch.float32)
    exact, _ = scan_routes_plain(orders, *exact_inputs)
    y = scan_routes(orders, *inputs)
    weights = torch.randn(exact.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert y.dtype == torch.float32 and relative_error(y, exact) < 1e-5
    gradients = torch.autograd.grad(y, inputs, weights.float())
    exact_gradients = torch.autograd.grad(exact, exact_inputs, weights)
    for name, value, true in zip(("u", "delta", "A", "B", "C", "D"), gradients, exact_gradients, strict=True):
        assert relative_error(value, true) < 1e-5, name
    with torch.no_grad():
        assert torch.equal(scan_routes(orders, *inputs), y)


def test_without_a_skip_and_without_images(form: str):
    inputs = make(2, 1, 6, 4, 3, torch.float32)
    orders = orders_of(2, 6)
    assert relative_error(scan_routes(orders, *inputs[:5]), scan_routes_plain(orders, *inputs[:5])[0]) < 1e-6
    assert scan_routes(orders, *make(2, 0, 6, 4, 3, torch.float32)).shape == (0, 6, 4)


def test_second_derivatives_are_right(form: str):
    found = []
    for function, dtype in ((scan_routes, torch.float32), (lambda *i: scan_routes_plain(*i)[0], torch.float64)):
        inputs = make(2, 2, 9, 5, 3, dtype)
        gradients = torch.autograd.grad(function(orders_of(2, 9), *inputs).sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs))
    for ours, exact in zip(*found, strict=True):
        assert relative_error(ours, exact) < 1e-4
