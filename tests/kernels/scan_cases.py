"""Inputs and comparisons shared by the tests of the scan."""

import torch
from torch import Tensor

NAMES = ("u", "delta", "A", "B", "C", "D", "initial_state")


def make_inputs(
    batch: int,
    length: int,
    dim: int,
    state: int,
    *,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    decay: float = 1.0,
    seed: int = 0,
) -> list[Tensor]:
    """u, delta, A, B, C, D, initial_state; delta * A lies between 0 and -4 * decay."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    inputs = [
        normal(batch, length, dim),
        uniform(batch, length, dim),
        -4 * decay * uniform(dim, state),
        normal(batch, length, state),
        normal(batch, length, state),
        normal(dim),
        normal(batch, dim, state),
    ]
    return [t.to(device, dtype).requires_grad_() for t in inputs]


def run(scan, inputs: list[Tensor], seed: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs (y, last state) of a scan, and the gradients of all inputs for random output gradients."""
    *arguments, initial_state = inputs
    outputs = scan(*arguments, initial_state=initial_state, return_last_state=True)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    return list(outputs), list(torch.autograd.grad(outputs, inputs, weights))


def relative_error(value: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm of the exact tensor."""
    value, exact = value.detach().cpu().double(), exact.detach().cpu().double()
    difference = (value - exact).norm().item()
    return difference / exact.norm().item() if difference else 0.0
