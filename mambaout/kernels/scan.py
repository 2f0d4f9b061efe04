"""`selective_scan`: the state space model of Mamba over a whole sequence (Equations 2 and 3).

Five forms give the same numbers: `scan_reference` (sequential, for reading and testing), `scan_chunked` (pure
PyTorch, every device), `scan_numba` (fused, CPU), `scan_triton` (fused, CUDA) and `scan_parallel` (plain operations,
for graphs that leave PyTorch and for `torch.func`). This module checks the arguments and takes the fastest that may
run; `scan_routes` does the same for the routes of visual Mamba.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Literal, overload

import torch
from torch import Tensor

from .fused import fused
from .plain import is_recorded
from .scan_chunked import selective_scan_chunked
from .scan_parallel import selective_scan_parallel
from .scan_reference import compute_dtype, selective_scan_step

__all__ = ["fused_cpu_scan", "parallel_scan", "selective_scan", "selective_scan_step"]

Form = Callable[..., tuple[Tensor, Tensor]]

_in_parallel = False


@contextmanager
def parallel_scan() -> Iterator[None]:
    """Inside this `with` block every selective scan is the parallel form, which a tracer records as a small graph::

        with mambaout.layers.parallel_scan():
            graph = some_tracer(model, images)

    Tracers that make themselves known (`torch.jit.trace`, `torch.export`, both ONNX exporters, `make_fx`) and the
    transforms of `torch.func` get it without being told. It is for those that do not, and for who wants it by name.
    """
    global _in_parallel
    before, _in_parallel = _in_parallel, True
    try:
        yield
    finally:
        _in_parallel = before


def fused_cpu_scan(*tensors: Tensor | None) -> ModuleType | None:
    """`scan_numba` if it may run on these tensors, of which none is wider than float32."""
    return fused("scan_numba", *tensors) if compute_dtype(*tensors) == torch.float32 else None


@cache
def _cuda_scan() -> Form:
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

    The computation runs in the widest dtype of the inputs and at least in float32. It is differentiable in every
    argument and through both results; a second derivative is computed token by token, at the reference's cost.

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
    scan: Form
    if _in_parallel or is_recorded():
        scan = selective_scan_parallel
    elif torch.compiler.is_compiling():
        # One graph break: tracing into the scan would unroll the graph over all tokens.
        scan = torch.compiler.disable(_eager_scan)
    else:
        scan = _eager_scan
    y, last_state = scan(u, delta, A, B, C, D, initial_state)
    return (y, last_state) if return_last_state else y


def _eager_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The fastest form for tensors that are computed now."""
    arguments = (u, delta, A, B, C, D, initial_state)
    if u.numel() == 0:  # there is no program to launch
        return selective_scan_chunked(*arguments)
    if u.is_cuda:
        return _cuda_scan()(*arguments)
    kernels = fused_cpu_scan(*arguments)
    return selective_scan_chunked(*arguments) if kernels is None else kernels.selective_scan_numba(*arguments)
