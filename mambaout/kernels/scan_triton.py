"""The selective scan as two Triton kernels, forward and backward, for CUDA.

One program owns one sequence and a block of channels. It walks over the sequence in chunks of CHUNK tokens with
the state in registers, and treats a chunk as one tile (CHUNK, BLOCK_D, BLOCK_N). With BLOCK_D * BLOCK_N equal to
the number of threads, each thread owns one (channel, state) pair and the whole chunk of it, so the scan over the
tile needs no communication between threads. Inputs of 16 bits are converted when loaded: nothing is computed in
them, so GPUs without bfloat16 arithmetic (T4) take them as well.

As in `scan_chunked` only the states at the chunks' starts are saved, and backward recomputes the rest (its formulas
stand there). Nothing is divided and no logarithm is taken, so strong decay is exact. No atomics are used: sums over
channels (dB, dC) and over the batch (dA, dD) are written as partial sums and added by PyTorch, so that gradients
are the same in every run.

Tokens, channels and states beyond the end are loaded as zeros. A token with delta = 0 has decay 1 and input 0, so
it hands the state on unchanged, in both directions.

This module imports Triton. In the library only `scan.py` imports it, and only when a tensor on CUDA arrives. With
TRITON_INTERPRET=1 set before the import, the same kernels run on CPU tensors, which is how they are tested.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .plain import is_recorded
from .scan_chunked import selective_scan_chunked
from .scan_reference import compute_dtype, gradients_of, needs_grad, selective_scan_with_state

CHUNK = 16  # tokens per tile: backward keeps about eight tiles, so 128 registers per thread in float32
NUM_WARPS = 4  # with at most 255 registers a thread, two such programs fit a multiprocessor
MAX_STATES = 256  # two (channel, state) pairs per thread; with more, a tile does not fit the registers


# Triton compiles anew for every integer argument that is 1 or a multiple of 16. Only the widths of the rows profit.
_COUNTS = ("n_tokens", "length", "n_blocks", "n_chunks")


@triton.jit
def _compose(decay_1, input_1, decay_2, input_2):
    """First h -> decay_1 h + input_1, then the second map: the associative operation of the scan."""
    return decay_1 * decay_2, decay_2 * input_1 + input_2


@triton.jit
def _load_rows(pointer, rows, columns, row_mask, width, DTYPE: tl.constexpr):
    """A tile (rows, columns) of a contiguous matrix with `width` columns; zeros outside, in the dtype DTYPE."""
    mask = row_mask[:, None] & (columns < width)[None, :]
    return tl.load(pointer + rows[:, None] * width + columns[None, :], mask=mask, other=0.0).to(DTYPE)


@triton.jit
def _store_rows(pointer, tile, rows, columns, row_mask, width):
    mask = row_mask[:, None] & (columns < width)[None, :]
    tl.store(pointer + rows[:, None] * width + columns[None, :], tile, mask=mask)


@triton.jit(do_not_specialize=_COUNTS)
def _forward_kernel(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, D_ptr, h0_ptr, y_ptr, last_ptr, starts_ptr,
    length, dim, d_state, n_blocks, n_chunks,
    HAS_D: tl.constexpr, HAS_H0: tl.constexpr, KEEP: tl.constexpr, DTYPE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # 64-bit offsets: a long sequence of a large batch passes 2^31 elements.
    batch = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = (tl.program_id(0) % n_blocks).to(tl.int64)
    d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, CHUNK)
    tokens = batch * length  # index of this sequence's first token
    A = _load_rows(A_ptr, d, n, d < dim, d_state, DTYPE)  # (BLOCK_D, BLOCK_N)
    if HAS_H0:
        h0 = _load_rows(h0_ptr, batch * dim + d, n, d < dim, d_state, DTYPE)
    else:
        h0 = tl.zeros((BLOCK_D, BLOCK_N), DTYPE)
    if HAS_D:
        skip = tl.load(D_ptr + d, mask=d < dim, other=0.0).to(DTYPE)

    for c in range(n_chunks):
        valid = c * CHUNK + k < length
        t = tokens + c * CHUNK + k
        if KEEP:
            _store_rows(starts_ptr, h0, (batch * n_chunks + c) * dim + d, n, d < dim, d_state)
        u = _load_rows(u_ptr, t, d, valid, dim, DTYPE)  # (CHUNK, BLOCK_D)
        delta = _load_rows(delta_ptr, t, d, valid, dim, DTYPE)
        B = _load_rows(B_ptr, t, n, valid, d_state, DTYPE)  # (CHUNK, BLOCK_N)
        C = _load_rows(C_ptr, t, n, valid, d_state, DTYPE)

        a = tl.exp(delta[:, :, None] * A[None, :, :])  # (CHUNK, BLOCK_D, BLOCK_N)
        x = (delta * u)[:, :, None] * B[:, None, :]
        decay, h = tl.associative_scan((a, x), 0, _compose)
        h += decay * h0[None, :, :]
        y = tl.sum(h * C[:, None, :], axis=2)  # (CHUNK, BLOCK_D)
        if HAS_D:
            y += u * skip[None, :]
        _store_rows(y_ptr, y, t, d, valid, dim)
        h0 = tl.sum(tl.where((k == CHUNK - 1)[:, None, None], h, 0.0), axis=0)
    _store_rows(last_ptr, h0, batch * dim + d, n, d < dim, d_state)


@triton.jit(do_not_specialize=_COUNTS)
def _backward_kernel(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, D_ptr, starts_ptr, dy_ptr, dlast_ptr,
    du_ptr, ddelta_ptr, dA_ptr, dB_ptr, dC_ptr, dD_ptr, dh0_ptr,
    n_tokens, length, dim, d_state, n_blocks, n_chunks,
    HAS_D: tl.constexpr, HAS_DLAST: tl.constexpr, DTYPE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    batch = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = (tl.program_id(0) % n_blocks).to(tl.int64)
    d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, CHUNK)
    tokens = batch * length
    A = _load_rows(A_ptr, d, n, d < dim, d_state, DTYPE)
    if HAS_DLAST:
        carry = _load_rows(dlast_ptr, batch * dim + d, n, d < dim, d_state, DTYPE)
    else:
        carry = tl.zeros((BLOCK_D, BLOCK_N), DTYPE)
    dA = tl.zeros((BLOCK_D, BLOCK_N), DTYPE)
    dD = tl.zeros((BLOCK_D,), DTYPE)
    if HAS_D:
        skip = tl.load(D_ptr + d, mask=d < dim, other=0.0).to(DTYPE)

    for reverse in range(n_chunks):
        c = n_chunks - 1 - reverse
        position = c * CHUNK + k
        valid = position < length
        has_previous = (k > 0) & (position - 1 < length)  # within this chunk
        has_next = (k < CHUNK - 1) & (position + 1 < length)
        t = tokens + position
        u = _load_rows(u_ptr, t, d, valid, dim, DTYPE)
        delta = _load_rows(delta_ptr, t, d, valid, dim, DTYPE)
        dy = _load_rows(dy_ptr, t, d, valid, dim, DTYPE)
        B = _load_rows(B_ptr, t, n, valid, d_state, DTYPE)
        C = _load_rows(C_ptr, t, n, valid, d_state, DTYPE)
        # Neighbouring tokens are loaded again (from the cache) because a tile cannot be shifted in registers.
        u_previous = _load_rows(u_ptr, t - 1, d, has_previous, dim, DTYPE)
        delta_previous = _load_rows(delta_ptr, t - 1, d, has_previous, dim, DTYPE)
        B_previous = _load_rows(B_ptr, t - 1, n, has_previous, d_state, DTYPE)
        delta_next = _load_rows(delta_ptr, t + 1, d, has_next, dim, DTYPE)

        # p_t = a_t h_{t-1} has its own recurrence, p_t = a_t (p_{t-1} + x_{t-1}). Taking h_t - x_t instead would lose
        # all digits under strong decay.
        a = tl.exp(delta[:, :, None] * A[None, :, :])  # (CHUNK, BLOCK_D, BLOCK_N)
        x_previous = (delta_previous * u_previous)[:, :, None] * B_previous[:, None, :]
        h0 = _load_rows(starts_ptr, (batch * n_chunks + c) * dim + d, n, d < dim, d_state, DTYPE)
        decay, p = tl.associative_scan((a, a * x_previous), 0, _compose)
        p += decay * h0[None, :, :]

        # g_t = C_t dy_t + a_{t+1} g_{t+1}; after the chunk's last token `carry` holds the product.
        a_next = tl.exp(delta_next[:, :, None] * A[None, :, :])
        decay, g = tl.associative_scan((a_next, dy[:, :, None] * C[:, None, :]), 0, _compose, reverse=True)
        g += decay * carry[None, :, :]
        carry = tl.sum(tl.where((k == 0)[:, None, None], a * g, 0.0), axis=0)

        x = delta * u  # (CHUNK, BLOCK_D)
        dx = tl.sum(g * B[:, None, :], axis=2)
        dB = tl.sum(g * x[:, :, None], axis=1)  # (CHUNK, BLOCK_N), this block's channels only
        dC = tl.sum((p + x[:, :, None] * B[:, None, :]) * dy[:, :, None], axis=1)
        q = g * p
        dA += tl.sum(q * delta[:, :, None], axis=0)
        ddelta = tl.sum(q * A[None, :, :], axis=2) + dx * u
        du = dx * delta
        if HAS_D:
            du += dy * skip[None, :]
            dD += tl.sum(dy * u, axis=0)
        _store_rows(du_ptr, du, t, d, valid, dim)
        _store_rows(ddelta_ptr, ddelta, t, d, valid, dim)
        _store_rows(dB_ptr, dB, block * n_tokens + t, n, valid, d_state)
        _store_rows(dC_ptr, dC, block * n_tokens + t, n, valid, d_state)

    _store_rows(dA_ptr, dA, batch * dim + d, n, d < dim, d_state)
    _store_rows(dh0_ptr, carry, batch * dim + d, n, d < dim, d_state)
    if HAS_D:
        tl.store(dD_ptr + batch * dim + d, dD, mask=d < dim)


def _launch_options(dtype: torch.dtype, dim: int, d_state: int) -> dict[str, object]:
    """Block sizes for which each thread owns one (channel, state) pair (two above 128 states), held in registers.

    A tile has half as many tokens where registers would be spilled to memory otherwise: where a value takes two of
    them, with more than 64 states, and with one or two, where a thread's share of u, delta and their addresses is
    largest.
    """
    block_n = triton.next_power_of_2(d_state)
    block_d = min(max(1, 32 * NUM_WARPS // block_n), triton.next_power_of_2(dim))
    double = dtype == torch.float64
    # The assembler likes to fit one more program on a multiprocessor and to spill a few registers for it. That is free
    # of spills for Mamba's 16 states (three programs); for others it gets all that it may use (two programs or more).
    registers = {} if d_state == 16 or torch.version.hip else {"maxnreg": 255}  # AMD's compiler has no such option
    return registers | {
        "CHUNK": CHUNK >> (double + (not 2 < block_n <= 64)),
        "BLOCK_D": block_d,
        "BLOCK_N": block_n,
        "DTYPE": tl.float64 if double else tl.float32,
        "num_warps": min(NUM_WARPS, max(1, block_d * block_n // 32)),
        "enable_fp_fusion": True,  # its default differs between releases of Triton
    }


def _forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, h0: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, the last state and, if `keep`, the states at the chunks' starts (B, L / CHUNK, D, N). Inputs contiguous."""
    (batch, length, dim), d_state = u.shape, A.shape[1]
    dtype = compute_dtype(u, delta, A, B, C, D, h0)
    options = _launch_options(dtype, dim, d_state)
    n_blocks, n_chunks = triton.cdiv(dim, options["BLOCK_D"]), triton.cdiv(length, options["CHUNK"])
    y = torch.empty_like(u)
    last = u.new_empty(batch, dim, d_state, dtype=dtype)
    starts = u.new_empty(batch, n_chunks, dim, d_state, dtype=dtype) if keep else None
    with torch.cuda.device_of(u):  # Triton launches on the current device, which need not be u's
        _forward_kernel[(batch * n_blocks,)](
            u, delta, A, B, C, D, h0, y, last, starts, length, dim, d_state, n_blocks, n_chunks,
            HAS_D=D is not None, HAS_H0=h0 is not None, KEEP=keep, **options,
        )  # fmt: skip
    return y, last, starts


class _TritonScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, h0):
        y, last, starts = _forward(u, delta, A, B, C, D, h0, keep=True)
        ctx.save_for_backward(u, delta, A, B, C, D, h0, starts)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, h0, starts = ctx.saved_tensors
        if torch.is_grad_enabled() or is_recorded(dy, dlast):  # a second derivative, or vmap over gradients
            return tuple(gradients_of(selective_scan_with_state, (u, delta, A, B, C, D, h0), (dy, dlast)))
        (batch, length, dim), d_state = u.shape, A.shape[1]
        options = _launch_options(starts.dtype, dim, d_state)
        n_blocks, n_chunks = triton.cdiv(dim, options["BLOCK_D"]), starts.shape[1]
        dy = torch.zeros_like(u) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dA, dh0 = (starts.new_empty(batch, dim, d_state) for _ in range(2))
        dB, dC = (starts.new_empty(n_blocks, batch, length, d_state) for _ in range(2))
        dD = None if D is None else starts.new_empty(batch, dim)
        with torch.cuda.device_of(u):
            _backward_kernel[(batch * n_blocks,)](
                u, delta, A, B, C, D, starts, dy, dlast, du, ddelta, dA, dB, dC, dD, dh0,
                batch * length, length, dim, d_state, n_blocks, n_chunks,
                HAS_D=D is not None, HAS_DLAST=dlast is not None, **options,
            )  # fmt: skip
        return (
            du,
            ddelta,
            dA.sum(0).to(A.dtype),
            dB.sum(0).to(B.dtype),
            dC.sum(0).to(C.dtype),
            None if D is None else dD.sum(0).to(D.dtype),
            None if h0 is None else dh0.to(h0.dtype),
        )


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y (B, L, D) in u's dtype, and the last state (B, D, N); arguments as in `selective_scan`, unchecked.

    Differentiable in all arguments and through both results; a second time through the plain form.
    """
    if not u.numel() or not 1 <= A.shape[1] <= MAX_STATES:  # no program to launch, or states that fit no tile
        return selective_scan_chunked(u, delta, A, B, C, D, initial_state)
    u, delta, A, B, C = (t.contiguous() for t in (u, delta, A, B, C))
    D = None if D is None else D.contiguous()
    h0 = None if initial_state is None else initial_state.contiguous()
    if needs_grad(u, delta, A, B, C, D, h0):
        return _TritonScan.apply(u, delta, A, B, C, D, h0)
    y, last, _ = _forward(u, delta, A, B, C, D, h0, keep=False)
    return y, last
