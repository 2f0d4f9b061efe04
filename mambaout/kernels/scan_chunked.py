"""The selective scan in pure PyTorch: chunked, with recomputation. Works on every device.

The recurrence h_t = a_t h_{t-1} + x_t is cheap arithmetic on much data, so memory traffic decides its speed.
The sequence is cut into chunks of K tokens whose workspaces stay in the cache. All that does not depend on the
order (exponentials, products, projections) is done for a whole chunk at once; the recurrence itself is one
in-place `addcmul_` per token. Workspaces have the channels innermost, (K, B, N, D), so that every operation
runs over contiguous rows. Only the state at the start of each chunk is kept for backward, which recomputes the
rest: the memory is that of the inputs plus L / K states.

Nothing is divided and no logarithm or cumulative sum is taken, so strong decay (a_t = 0) is exact.

Backward, with g_t = dLoss/dh_t in the same recurrence run backwards, g_t = C_t dy_t + a_{t+1} g_{t+1}:

    d(delta_t u_t) = B_t g_t        dB_t = (delta_t u_t) g_t        dC_t = h_t dy_t
    q_t = g_t a_t h_{t-1}           dA = sum_t delta_t q_t          ddelta_t = A q_t + u_t B_t g_t

Symbols as in `scan_reference`.
"""

import torch
from torch import Tensor

from .plain import is_recorded
from .scan_reference import compute_dtype, gradients_of, needs_grad, selective_scan_with_state

WORKSPACE_BYTES = 2**19  # of one workspace (K, B, N, D); forward has two, backward four


def _chunk_length(length: int, state_bytes: int) -> int:
    """Tokens per chunk: as many as fit the workspace, within limits measured to be good."""
    return min(length, max(4, min(64, WORKSPACE_BYTES // max(1, state_bytes))))


def _fill_chunk(h: Tensor, a: Tensor, delta: Tensor, x: Tensor, A: Tensor, B: Tensor) -> None:
    """Equation 2 for k tokens: from h[0] to h[1], ..., h[k], keeping the decays in a[0], ..., a[k - 1].

    h (k + 1, B, N, D), a (k, B, N, D), delta and x = delta * u (k, B, D), A (N, D), B (k, B, N).
    """
    torch.mul(delta.unsqueeze(2), A, out=a).exp_()
    torch.mul(B.unsqueeze(3), x.unsqueeze(2), out=h[1:])
    states = h.unbind(0)
    for previous, current, decay in zip(states, states[1:], a.unbind(0), strict=False):
        current.addcmul_(decay, previous)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Batched matrix product in the dtype of its factors: autocast leaves calls with `out` alone."""
    return torch.matmul(left, right, out=left.new_empty(*left.shape[:-1], right.shape[-1]))


def _forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, h0: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """y (B, L, D), the last state (B, D, N) and, if `keep`, the states (B, N, D) at the chunks' starts."""
    dtype = compute_dtype(u, delta, A, B, C, D, h0)
    (batch, length, dim), N = u.shape, A.shape[1]
    K = _chunk_length(length, batch * N * dim * dtype.itemsize)
    A = A.to(dtype).t().contiguous()  # (N, D)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    a = u.new_empty(K, batch, N, dim, dtype=dtype)
    h = u.new_empty(K + 1, batch, N, dim, dtype=dtype)
    h[0] = 0 if h0 is None else h0.transpose(1, 2)
    starts = []
    for start in range(0, length, K):
        u_c, delta_c, B_c, C_c = (t[:, start : start + K].transpose(0, 1).to(dtype) for t in (u, delta, B, C))
        k = u_c.shape[0]
        if keep:
            starts.append(h[0].clone())
        _fill_chunk(h[: k + 1], a[:k], delta_c, delta_c * u_c, A, B_c)
        y_c = _product(C_c.unsqueeze(2), h[1 : k + 1]).squeeze(2)  # (k, B, D)
        if D is not None:
            y_c.addcmul_(u_c, D.to(dtype))
        y[:, start : start + k] = y_c.transpose(0, 1)
        h[0] = h[k]
    return y, h[0].transpose(1, 2).clone(memory_format=torch.contiguous_format), starts


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, h0):
        y, last, starts = _forward(u, delta, A, B, C, D, h0, keep=True)
        ctx.save_for_backward(u, delta, A, B, C, D, h0, *starts)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A_in, B, C, D, h0, *starts = ctx.saved_tensors
        if dy is None and dlast is None:
            return (None,) * 7
        if torch.is_grad_enabled() or is_recorded(dy, dlast):  # what follows works in place
            return tuple(gradients_of(selective_scan_with_state, (u, delta, A_in, B, C, D, h0), (dy, dlast)))
        dtype = starts[0].dtype
        (batch, length, dim), N = u.shape, A_in.shape[1]
        K = _chunk_length(length, batch * N * dim * dtype.itemsize)
        A = A_in.to(dtype).t().contiguous()  # (N, D)
        if dy is None:
            dy = torch.zeros_like(u)

        du, ddelta, dB, dC = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (u, delta, B, C))
        dA = starts[0].new_zeros(K, batch, N, dim)  # summed over tokens and batch at the end
        dD = None if D is None else starts[0].new_zeros(dim)
        a, g = torch.empty_like(dA), torch.empty_like(dA)
        h = dA.new_empty(K + 1, batch, N, dim)
        carry = dA.new_empty(batch, N, dim)  # a_{t+1} g_{t+1} at the end of the chunk at hand
        if dlast is None:
            carry.zero_()
        else:
            carry.copy_(dlast.transpose(1, 2))
        for i in reversed(range(len(starts))):
            part = slice(i * K, (i + 1) * K)
            u_c, delta_c, B_c, C_c, dy_c = (t[:, part].transpose(0, 1).to(dtype) for t in (u, delta, B, C, dy))
            k = u_c.shape[0]
            x = delta_c * u_c
            h_c, a_c, g_c = h[: k + 1], a[:k], g[:k]
            h[0] = starts[i]
            _fill_chunk(h_c, a_c, delta_c, x, A, B_c)

            torch.mul(C_c.unsqueeze(3), dy_c.unsqueeze(2), out=g_c)
            g_c[-1].add_(carry)
            for t in range(k - 1, 0, -1):
                g_c[t - 1].addcmul_(a_c[t], g_c[t])
            torch.mul(a_c[0], g_c[0], out=carry)

            dC[:, part] = _product(h_c[1:], dy_c.unsqueeze(3)).squeeze(3).transpose(0, 1)
            dB[:, part] = _product(g_c, x.unsqueeze(3)).squeeze(3).transpose(0, 1)
            dx = _product(B_c.unsqueeze(2), g_c).squeeze(2)  # (k, B, D)
            q = a_c.mul_(h_c[:-1]).mul_(g_c)
            dA[:k].addcmul_(q, delta_c.unsqueeze(2))
            ddelta[:, part] = q.mul_(A).sum(2).addcmul_(dx, u_c).transpose(0, 1)
            du_c = dx.mul_(delta_c)
            if D is not None:
                du_c.addcmul_(dy_c, D.to(dtype))
                dD += (dy_c * u_c).sum((0, 1))
            du[:, part] = du_c.transpose(0, 1)
        return (
            du,
            ddelta,
            dA.sum((0, 1)).t().to(A_in.dtype),
            dB,
            dC,
            None if D is None else dD.to(D.dtype),
            None if h0 is None else carry.transpose(1, 2).to(h0.dtype),
        )


def selective_scan_chunked(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in u's dtype, and the last state (B, D, N); arguments as in `selective_scan`, unchecked.

    Differentiable in all arguments and through both results; a second derivative is that of the reference.
    """
    if needs_grad(u, delta, A, B, C, D, initial_state):
        return _ChunkedScan.apply(u, delta, A, B, C, D, initial_state)
    y, last, _ = _forward(u, delta, A, B, C, D, initial_state, keep=False)
    return y, last
