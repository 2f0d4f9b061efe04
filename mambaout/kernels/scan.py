"""`selective_scan`: the state space model of Mamba over a whole sequence (Equations 2 and 3).

Four forms give the same numbers: `scan_reference` (sequential, for reading and testing), `scan_chunked` (pure
PyTorch, every device), `scan_triton` (CUDA) and `scan_parallel` (for graphs that leave PyTorch). This module checks
the arguments and takes the fastest.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, overload

import torch
from torch import Tensor

from .scan_chunked import selective_scan_chunked
from .scan_parallel import selective_scan_parallel
from .scan_reference import selective_scan_step

__all__ = ["parallel_scan", "selective_scan", "selective_scan_step"]

_in_parallel = False


@contextmanager
def parallel_scan() -> Iterator[None]:
    """Inside this `with` block every selective scan is the parallel form, which a tracer records as a small graph."""
    global _in_parallel
    before, _in_parallel = _in_parallel, True
    try:
        yield
    finally:
        _in_parallel = before


@cache
def _cuda_scan() -> Callable[..., tuple[Tensor, Tensor]]:
    """The form for CUDA: Triton's where Triton is installed. It is imported on first use only."""
    if importlib.util.find_spec("triton") is None:
        return selective_scan_chunked
    from .scan_triton import selective_scan_triton

    return selective_scan_triton


def _check(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, initial_state: Tensor | None
) -> None:
    """Raise an error that names the first argument that does not fit."""
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "initial_state": initial_state}
    for name, value in given.items():
        if value is None and name in ("D", "initial_state"):
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"selective_scan expects {name} to be a tensor, but got {type(value).__name__}.")
        if not value.is_floating_point():
            raise TypeError(
                f"selective_scan expects {name} to be real floating point, but got {value.dtype}; convert it first."
            )
        if value.device != u.device:
            raise ValueError(
                f"selective_scan expects all tensors on one device, but u is on {u.device} and {name} on "
                f"{value.device}."
            )
    if u.ndim != 3:
        raise ValueError(f"selective_scan expects u of shape (batch, length, dim), but got {tuple(u.shape)}.")
    if A.ndim != 2:
        raise ValueError(f"selective_scan expects A of shape (dim, state), but got {tuple(A.shape)}.")
    (batch, length, dim), state = u.shape, A.shape[1]
    if length == 0:
        raise ValueError(f"selective_scan expects at least one token, but u has length 0: {tuple(u.shape)}.")
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "delta": ("(batch, length, dim)", (batch, length, dim)),
        "A": ("(dim, state)", (dim, state)),
        "B": ("(batch, length, state)", (batch, length, state)),
        "C": ("(batch, length, state)", (batch, length, state)),
        "D": ("(dim,)", (dim,)),
        "initial_state": ("(batch, dim, state)", (batch, dim, state)),
    }
    for name, (letters, shape) in expected.items():
        value = given[name]
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(
                f"selective_scan expects {name} of shape {letters} = {shape}, as u is {tuple(u.shape)} "
                f"and A {tuple(A.shape)}, but got {tuple(value.shape)}."
            )


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    return_last_state: Literal[False] = False,
) -> Tensor: ...
@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    return_last_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective state space model over a sequence.

        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t          (Equation 2)
        y_t = C_t h_t + D u_t                                   (Equation 3, with Mamba's skip connection D)

    The computation runs in the widest dtype of the inputs and at least in float32. It is differentiable once, in
    every argument and through both results.

    Args:
        u: input tokens (B, L, D), L at least 1.
        delta: step sizes (B, L, D), normally positive.
        A: state matrix (D, N), normally negative so that the memory fades.
        B: input projections (B, L, N).
        C: output projections (B, L, N).
        D: skip connection (D,), or None for no skip.
        initial_state: h_0 (B, D, N), or None for zeros.
        return_last_state: also return h_L, with which a next call can go on.

    Returns:
        y (B, L, D) in u's dtype; with `return_last_state` the pair of y and h_L (B, D, N), the latter in the dtype of
        the computation.

    Raises:
        TypeError: an argument is not a real floating-point tensor.
        ValueError: shapes or devices do not fit, or the sequence is empty.

    Source: MambaOut, Section 3.1; Mamba (Gu & Dao, 2023), Section 3. B_bar = delta B as in Mamba's released code;
    `scan_reference.zero_order_hold` is Equation 1's exact form.
    """
    _check(u, delta, A, B, C, D, initial_state)
    if _in_parallel:
        y, last_state = selective_scan_parallel(u, delta, A, B, C, D, initial_state)
        return (y, last_state) if return_last_state else y
    # An empty batch has no program to launch.
    scan = _cuda_scan() if u.is_cuda and u.numel() else selective_scan_chunked
    if torch.compiler.is_compiling():
        # One graph break: tracing into the scan would unroll the graph over all tokens.
        scan = torch.compiler.disable(scan)
    y, last_state = scan(u, delta, A, B, C, D, initial_state)
    return (y, last_state) if return_last_state else y
