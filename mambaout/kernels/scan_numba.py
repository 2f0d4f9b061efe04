"""The selective scan as two fused kernels for the CPU, forward and backward, compiled by numba on first use.

What costs time in `scan_chunked` is not arithmetic but arrays of L x D x N numbers that go to memory and back. Here a
program owns one image and a group of channels, and walks over the tokens in order, for sixteen channels at a time.
Their state (N, 16) stays in the first-level cache, and each token's inputs are read once and its output written once.
Channels lie in the lanes of vectors (`vectors`), so that the decays exp(delta A) are computed sixteen at a time.

Several *routes* over the same tokens (the scans of visual Mamba) are one call: a program walks each route in turn,
finds its tokens through an index, and adds up their outputs where the tokens stand. Nothing is reordered in memory.

Backward keeps the states at the starts of chunks of CHUNK tokens, computes a chunk's states and decays again into two
small arrays, and walks back over them; its formulas are those of `scan_chunked`.

Symbols as in `scan_reference`; R routes. Inside, A is scaled by log2(e), so that exp(delta A) = 2^(delta A), and
arrays with N have the channels innermost, (..., N, D).
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import boolean, float32, int32, int64, types, void
from torch import Tensor
from torch.nn import functional as F

from .compiled import compiled
from .plain import is_recorded
from .scan_reference import gradients_of, needs_grad
from .scan_routes import scan_routes_plain
from .threads import share, threads_for
from .vectors import LANES, exp2, load, splat, store, total

CHUNK = 16  # tokens whose states backward computes again at a time
LOG2E = math.log2(math.e)
LN2 = np.float32(math.log(2))
ZERO = np.float32(0)

_rows = types.Array(float32, 2, "C")  # (rows, 16) of scratch memory, or (R, D)
_matrix = types.Array(float32, 3, "C")  # (R, N, D), or (R, B, D)
_tokens = types.Array(float32, 3, "C")  # (B, L, D)
_routed = types.Array(float32, 4, "C")  # (R, B, L, D), or (R, B, N, D)
_selected = types.Array(float32, 4, "A")  # (R, B, L, N), any strides
_five = types.Array(float32, 5, "C")  # (R, B, L / CHUNK, N, D), or (groups, R, B, L, N)
_orders = types.Array(int32, 2, "C")  # (R, L)


def _forward_rows(state: int) -> int:
    """Rows of scratch memory that a thread's forward pass needs."""
    return 2 * state


def _backward_rows(state: int) -> int:
    return 3 * state + CHUNK * state + (CHUNK + 1) * state


@compiled(
    void(
        *(_rows, int64, int64, _orders, _tokens, _routed, _matrix, _selected, _selected, _rows),
        *(_routed, _tokens, _routed, _five, boolean),
    )
)
def _forward_kernel(scratch, first, stop, orders, u, delta, A, B, C, D, h0, y, last, starts, keep):
    """Programs `first` to `stop`: y (B, L, D), the mean over routes; last (R, B, N, D); starts if `keep`."""
    routes, length = orders.shape
    dim, state = A.shape[2], A.shape[1]
    blocks = dim // LANES
    h, decay = scratch[:state], scratch[state : 2 * state]  # the state, and A log2(e) of these channels
    scale = np.float32(1 / routes)
    for program in range(first, stop):
        b, d = program // blocks, program % blocks * LANES
        for r in range(routes):
            skip = load(D, (r, d))
            for n in range(state):
                store(h, (n, 0), load(h0, (r, b, n, d)))
                store(decay, (n, 0), load(A, (r, n, d)))
            for k in range(length):
                if keep and k % CHUNK == 0:
                    for n in range(state):
                        store(starts, (r, b, k // CHUNK, n, d), load(h, (n, 0)))
                t = orders[r, k]
                token, step = load(u, (b, t, d)), load(delta, (r, b, t, d))
                x, out = step * token, skip * token
                for n in range(state):
                    h_n = exp2(step * load(decay, (n, 0))) * load(h, (n, 0)) + B[r, b, t, n] * x
                    store(h, (n, 0), h_n)
                    out = out + C[r, b, t, n] * h_n
                out = scale * out
                if r > 0:
                    out = out + load(y, (b, t, d))
                store(y, (b, t, d), out)
            for n in range(state):
                store(last, (r, b, n, d), load(h, (n, 0)))


@compiled(
    void(
        *(_rows, int64, int64, _orders, _tokens, _routed, _matrix, _selected, _selected, _rows),
        *(_five, _tokens, _tokens, _routed, _routed, _five, _five, _routed, _matrix),
    )
)
def _backward_kernel(
    scratch, first, stop, orders, u, delta, A, B, C, D, starts, dy, du, ddelta, dh, dB, dC, dA, dD
):
    """Programs `first` to `stop`: the gradients; dB and dC for each group of channels, dA and dD for each image.

    dh (R, B, N, D) comes as the gradient of the last state and leaves as that of the first.
    """
    routes, length = orders.shape
    dim, state = A.shape[2], A.shape[1]
    blocks = dim // LANES
    carry, decay, sums = scratch[:state], scratch[state : 2 * state], scratch[2 * state : 3 * state]
    a = scratch[3 * state : (3 + CHUNK) * state]  # the decays of a chunk
    h = scratch[(3 + CHUNK) * state :]  # its states, and the one before it
    scale = np.float32(1 / routes)
    zeros = splat(ZERO)
    groups = len(dB)
    for program in range(first * routes, stop * routes):  # and the routes of each
        b, group, r = program // (groups * routes), program // routes % groups, program % routes
        for block in range(blocks * group // groups, blocks * (group + 1) // groups):
            d = block * LANES
            is_first = block == blocks * group // groups
            skip, skipped = load(D, (r, d)), zeros
            for n in range(state):
                store(carry, (n, 0), load(dh, (r, b, n, d)))  # a_{t+1} g_{t+1}
                store(decay, (n, 0), load(A, (r, n, d)))
                store(sums, (n, 0), zeros)
            for chunk in range((length - 1) // CHUNK, -1, -1):
                start = chunk * CHUNK
                tokens = min(CHUNK, length - start)
                for n in range(state):
                    store(h, (n, 0), load(starts, (r, b, chunk, n, d)))
                for k in range(tokens):
                    t = orders[r, start + k]
                    step = load(delta, (r, b, t, d))
                    x = step * load(u, (b, t, d))
                    for n in range(state):
                        a_n = exp2(step * load(decay, (n, 0)))
                        store(a, (k * state + n, 0), a_n)
                        h_n = a_n * load(h, (k * state + n, 0)) + B[r, b, t, n] * x
                        store(h, ((k + 1) * state + n, 0), h_n)
                for k in range(tokens - 1, -1, -1):
                    t = orders[r, start + k]
                    token, step = load(u, (b, t, d)), load(delta, (r, b, t, d))
                    x, out = step * token, scale * load(dy, (b, t, d))
                    dx, dz = zeros, zeros  # of x = delta u, and of delta (through the decays) times log2(e)
                    for n in range(state):
                        g = C[r, b, t, n] * out + load(carry, (n, 0))
                        dC_n = total(load(h, ((k + 1) * state + n, 0)) * out)
                        dB_n = total(x * g)
                        dC[group, r, b, t, n] = dC_n if is_first else dC[group, r, b, t, n] + dC_n
                        dB[group, r, b, t, n] = dB_n if is_first else dB[group, r, b, t, n] + dB_n
                        dx = dx + B[r, b, t, n] * g
                        ag = load(a, (k * state + n, 0)) * g
                        store(carry, (n, 0), ag)
                        q = ag * load(h, (k * state + n, 0))
                        store(sums, (n, 0), load(sums, (n, 0)) + step * q)
                        dz = dz + load(decay, (n, 0)) * q
                    store(ddelta, (r, b, t, d), LN2 * dz + dx * token)
                    skipped = skipped + out * token
                    gradient = step * dx + skip * out
                    if r > 0:
                        gradient = gradient + load(du, (b, t, d))
                    store(du, (b, t, d), gradient)
            store(dD, (r, b, d), skipped)
            for n in range(state):
                store(dh, (r, b, n, d), load(carry, (n, 0)))
                store(dA, (r, b, n, d), load(sums, (n, 0)))


LEAST = 2**19  # numbers of state, over all tokens, that are worth a thread of its own: a tenth of a millisecond
PROGRAMS = 16  # to have at least, for as many threads; a group's channels share sums that stay in the cache


def _run(
    kernel: Any, rows: int, groups: int, orders: Tensor, u: Tensor, delta: Tensor, A: Tensor, *others: Any
) -> None:
    """Run a kernel over all its programs, on as many threads as PyTorch uses."""
    (batch, length, dim), (routes, state, _) = u.shape, A.shape
    programs = batch * groups
    scratch = u.new_empty(threads_for(programs), rows, LANES).numpy()
    given = [t.detach().numpy() if isinstance(t, Tensor) else t for t in (orders, u, delta, A, *others)]
    least = -(-LEAST // (routes * length * state * (dim // groups)))
    share(lambda thread, first, stop: kernel(scratch[thread], first, stop, *given), programs, least)


def _widen(t: Tensor) -> Tensor:
    """The same in float32 and contiguous, with zeros up to a multiple of 16 channels."""
    missing = -t.shape[-1] % LANES
    return (F.pad(t, (0, missing)) if missing else t).float().contiguous()


def _prepare(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, ...]:
    """The inputs as the kernels read them."""
    return _widen(u), _widen(delta), _widen(A.float().transpose(1, 2) * LOG2E), B.float(), C.float(), _widen(D)


def _forward(
    orders: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last states and, if `keep`, the states at the chunks' starts; arguments as in `_NumbaScan`."""
    inputs = _prepare(u, delta, A, B, C, D)
    first = _widen(h0.transpose(2, 3))  # (R, B, N, D)
    (routes, batch, state, dim), channels = first.shape, u.shape[2]
    y, last = torch.empty_like(inputs[0]), torch.empty_like(first)
    starts = first.new_empty(routes, batch, -(-u.shape[1] // CHUNK) if keep else 0, state, dim)
    _run(_forward_kernel, _forward_rows(state), dim // LANES, orders, *inputs, first, y, last, starts, keep)
    return y[..., :channels].to(u.dtype), last[..., :channels].transpose(2, 3), starts


class _NumbaScan(torch.autograd.Function):
    """orders (R, L), u (B, L, D), delta (R, B, L, D), A (R, D, N), B and C (R, B, L, N), D (R, D), h0 (R, B, D, N)."""

    @staticmethod
    def forward(ctx, orders, u, delta, A, B, C, D, h0):
        y, last, starts = _forward(orders, u, delta, A, B, C, D, h0, keep=True)
        ctx.save_for_backward(orders, u, delta, A, B, C, D, h0, starts)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        orders, *inputs, starts = ctx.saved_tensors
        if dy is None and dlast is None:
            return (None,) * 8
        if torch.is_grad_enabled() or is_recorded(dy, dlast):  # a second derivative, or gradients in batches
            return None, *gradients_of(partial(scan_routes_plain, orders), inputs, (dy, dlast))
        wide = _prepare(*inputs[:6])
        (routes, batch, _, state, dim), (_, length, channels) = starts.shape, inputs[0].shape
        dy = torch.zeros_like(wide[0]) if dy is None else _widen(dy)
        dh = starts.new_zeros(routes, batch, state, dim)
        if dlast is not None:
            dh[..., :channels] = dlast.transpose(2, 3)
        du, ddelta = torch.empty_like(wide[0]), torch.empty_like(wide[1])
        groups = min(dim // LANES, -(-PROGRAMS // batch))
        dB, dC = (starts.new_empty(groups, routes, batch, length, state) for _ in range(2))
        dA, dD = torch.empty_like(dh), starts.new_empty(routes, batch, dim)
        _run(_backward_kernel, _backward_rows(state), groups, orders, *wide, starts, dy, du, ddelta, dh, dB, dC, dA, dD)
        found = (
            du[..., :channels],
            ddelta[..., :channels],
            dA[..., :channels].sum(1).transpose(1, 2),
            dB[0] if len(dB) == 1 else dB.sum(0),
            dC[0] if len(dC) == 1 else dC.sum(0),
            dD[..., :channels].sum(1),
            dh[..., :channels].transpose(2, 3),
        )
        return None, *(gradient.to(t.dtype) for gradient, t in zip(found, inputs, strict=True))


def scan_routes_numba(
    orders: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`scan_routes.scan_routes_plain` on the CPU in float32, with nothing reordered in memory.

    Differentiable in all arguments; a second derivative is that of the plain form, at its cost.
    """
    routes, dim, state = A.shape
    D = u.new_zeros(routes, dim) if D is None else D
    h0 = u.new_zeros(routes, u.shape[0], dim, state) if initial_state is None else initial_state
    orders = orders.to(torch.int32).contiguous()
    if needs_grad(u, delta, A, B, C, D, h0):
        return _NumbaScan.apply(orders, u, delta, A, B, C, D, h0)
    y, last, _ = _forward(orders, u, delta, A, B, C, D, h0, keep=False)
    return y, last


def selective_scan_numba(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in u's dtype, and the last state (B, D, N); arguments as in `selective_scan`, unchecked."""
    order = torch.arange(u.shape[1], dtype=torch.int32, device=u.device)[None]
    skip, first = (None if t is None else t[None] for t in (D, initial_state))
    y, last = scan_routes_numba(order, u, delta[None], A[None], B[None], C[None], skip, first)
    return y, last[0]
