"""The selective scan along several routes over the tokens of an image, as in visual Mamba."""

import torch
from torch import Tensor

from .scan import fused_cpu_scan, selective_scan
from .scan_reference import compute_dtype, selective_scan_with_state


def scan_routes_plain(
    orders: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Route by route: read the tokens in that order, scan, put the outputs back; then the mean.

    Args:
        orders: (R, L), the index of the k-th token that is read, a permutation for each route.
        u: tokens (B, L, D), the same for all routes.
        delta: (R, B, L, D). It, B and C stand where their token stands, not in the order of reading.
        A: (R, D, N).
        B, C: (R, B, L, N).
        D: (R, D), or None.
        initial_state: (R, B, D, N), or None for zeros.

    Returns:
        y (B, L, D) in u's dtype, and the last states (R, B, D, N) in the dtype of the computation.
    """
    dtype = compute_dtype(u, delta, A, B, C, D, initial_state)
    outputs, states = [], []
    for r, order in enumerate(orders.long()):
        u_r, delta_r, B_r, C_r = (t.index_select(1, order) for t in (u.to(dtype), delta[r], B[r], C[r]))
        D_r, first = (None if t is None else t[r] for t in (D, initial_state))
        y, last = selective_scan_with_state(u_r, delta_r, A[r], B_r, C_r, D_r, first)
        outputs.append(y.index_select(1, order.argsort()))
        states.append(last)
    return torch.stack(outputs).mean(0).to(u.dtype), torch.stack(states)


def scan_routes(
    orders: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None
) -> Tensor:
    """The mean over routes of a selective scan that reads the tokens in that order: (B, L, D), in u's dtype.

    Arguments as in `scan_routes_plain`, unchecked. On the CPU one kernel reads and writes through the index; elsewhere
    the tokens are reordered before and after each scan.
    """
    kernels = fused_cpu_scan(u, delta, A, B, C, D) if u.numel() else None
    if kernels is not None:
        y, _ = kernels.scan_routes_numba(orders, u, delta, A, B, C, D)
        return y
    outputs = []
    for r, order in enumerate(orders.long()):
        # index_select, not t[:, order]: the backward pass of the latter is several times slower on a CPU.
        u_r, delta_r, B_r, C_r = (t.index_select(1, order) for t in (u, delta[r], B[r], C[r]))
        y = selective_scan(u_r, delta_r, A[r], B_r, C_r, None if D is None else D[r])
        outputs.append(y.index_select(1, order.argsort()))
    return torch.stack(outputs).mean(0)
