"""The selective state space model, written as in the paper: the oracle for the fast forms.

| code            | paper                 | shape     | meaning                                   |
| --------------- | --------------------- | --------- | ----------------------------------------- |
| `u`             | x_t                   | (B, L, D) | input tokens                              |
| `delta`         | Delta_t               | (B, L, D) | step size of each token and channel       |
| `A`             | A                     | (D, N)    | diagonal of the state matrix per channel  |
| `B`, `C`        | B_t, C_t              | (B, L, N) | input and output projection of each token |
| `D`             | D                     | (D,)      | skip connection                           |
| `state`         | h_t                   | (B, D, N) | the memory, of constant size              |

Sources: MambaOut (Yu & Wang, CVPR 2025), Section 3.1, Equations 1-3; Mamba (Gu & Dao, 2023), Section 3.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype that the recurrence runs in: the widest of the inputs, and at least float32.

    A state that is multiplied L times must not be rounded to 8 or 11 bits each time.
    """
    return reduce(torch.promote_types, (t.dtype for t in tensors if t is not None), torch.float32)


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow, so that states must be saved for it."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def gradients_of(
    form: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor | None], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients of a plain form in its inputs, which can themselves be differentiated.

    The backward passes of the fast forms call it where a second derivative is asked for: theirs is computed in place.

    Args:
        form: a function of the inputs, differentiable twice.
        inputs: None, or tensors that may require gradients.
        grads: the gradient of each of its outputs, or None.
    """
    with torch.enable_grad():
        # Where one input was computed from another, gradients must not run on from the one into the other.
        inputs = [None if t is None else t.view_as(t) for t in inputs]
        wanted = [t for t in inputs if t is not None and t.requires_grad]
        outputs = [(y, g) for y, g in zip(form(*inputs), grads, strict=True) if g is not None]
        ys, gs = zip(*outputs, strict=True)
        found = iter(torch.autograd.grad(ys, wanted, gs, create_graph=True, allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


def zero_order_hold(delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The exact discretisation of Equation 1.

    A_bar = exp(delta A) and B_bar = (delta A)^-1 (exp(delta A) - 1) delta B. The scans of this package use
    B_bar = delta B, its first-order term, as Mamba's released code does; this function is there to compare.

    Args:
        delta: step sizes (..., D).
        A: state matrix (D, N).
        B: input projection (..., N).

    Returns:
        A_bar and B_bar, both (..., D, N).
    """
    delta, B = delta.unsqueeze(-1), B.unsqueeze(-2)  # (..., D, 1), (..., 1, N)
    z = delta * A  # (..., D, N)
    # (exp(z) - 1) / z tends to 1, but its derivative loses digits by cancellation, about eps / |z| of it. Below
    # eps^(1/3) three terms of the series are better: exact to rounding in value, to z^2 / 8 in derivative.
    small = z.abs() < torch.finfo(z.dtype).eps ** (1 / 3)
    z_safe = z.masked_fill(small, 1.0)
    ratio = torch.where(small, 1 + z / 2 + z * z / 6, torch.expm1(z_safe) / z_safe)
    return torch.exp(z), ratio * delta * B


def selective_scan_step(
    state: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Read one token and update the memory: Equations 2 and 3, at constant cost per token.

        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t
        y_t = C_t h_t + D u_t

    Args:
        state: h_{t-1} (B, D, N).
        u: the token (B, D).
        delta: its step size (B, D).
        A: state matrix (D, N).
        B: its input projection (B, N).
        C: its output projection (B, N).
        D: skip connection (D,), or None for no skip.

    Returns:
        y_t (B, D) in u's dtype, and h_t (B, D, N) in the dtype of the computation (at least float32).
    """
    dtype = compute_dtype(state, u, delta, A, B, C, D)
    token = u.to(dtype)
    delta = delta.to(dtype).unsqueeze(-1)  # (B, D, 1)
    A_bar = torch.exp(delta * A)  # (B, D, N)
    B_bar = delta * B.unsqueeze(1)  # (B, D, N)
    state = A_bar * state + B_bar * token.unsqueeze(-1)  # (B, D, N)
    y = (state * C.unsqueeze(1)).sum(-1)  # (B, D)
    if D is not None:
        y = y + D * token
    return y.to(u.dtype), state


def selective_scan_reference(
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
    """Equations 2 and 3, one token after the other. Slow and plain; `selective_scan` is the form to use.

    Args and returns are those of `mambaout.kernels.scan.selective_scan`.
    """
    dtype = compute_dtype(u, delta, A, B, C, D, initial_state)
    zeros = u.new_zeros(u.shape[0], *A.shape, dtype=dtype)
    state = zeros if initial_state is None else initial_state.to(dtype)
    ys = []
    # unbind gives all tokens one backward node: indexing u[:, t] would add a full-length gradient per token,
    # so a backward pass quadratic in L.
    for u_t, delta_t, B_t, C_t in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y_t, state = selective_scan_step(state, u_t, delta_t, A, B_t, C_t, D)
        ys.append(y_t)
    y = torch.stack(ys, dim=1)  # (B, L, D)
    return (y, state) if return_last_state else y


def selective_scan_with_state(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`selective_scan_reference` with the last state, its arguments in the order of the fast forms."""
    y, last = selective_scan_reference(u, delta, A, B, C, D, initial_state=initial_state, return_last_state=True)
    return y, last
