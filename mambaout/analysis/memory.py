"""What a token mixer remembers: bytes, work, and how much of each earlier token is left (the paper's Figure 2).

A mixer that reads a stream carries something from one token to the next. For token t, counted from 1:

==================  ================================  ==================================================
mixer               carries                           multiply-adds (MACs) of the token
==================  ================================  ==================================================
causal attention    keys and values: 2 t D            4 D^2 (projections) + 2 t D (reading)
selective SSM       the state: D N                    D (2 R + 2 N) (projections) + D (4 N + 2) (state)
causal convolution  the last k - 1 tokens             k D
image convolution   the last (k - 1)(W + 1) tokens    k^2 D, and it answers late
==================  ================================  ==================================================

for D channels, N numbers of state per channel, rank R of the SSM's Delta, kernels k or k x k, images W tokens wide.
"Carries" is what must be kept between two tokens; parameters are not counted, nor places reserved for tokens to come.
Among the MACs softmax, exp, softplus and biases are not counted. MACs follow `mambaout.analysis.cost`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mambaout.kernels.scan_reference import compute_dtype


@dataclass(frozen=True)
class Step:
    """What one token costs a mixer, for one sequence.

    Attributes:
        numbers: how many numbers are carried on to the next token.
        projections: MACs of the layer's linear maps, the same for every token.
        mixing: MACs of bringing memory and token together.
        delay: how many tokens later the answer for this token comes; 0 in a causal mixer.
    """

    numbers: int
    projections: int
    mixing: int
    delay: int = 0

    @property
    def macs(self) -> int:
        """All MACs of the token."""
        return self.projections + self.mixing

    def nbytes(self, itemsize: int = 4) -> int:
        """Bytes carried, for numbers of `itemsize` bytes: 4 in float32, 2 in float16."""
        return self.numbers * itemsize


def attention_step(t: int, dim: int) -> Step:
    """Token t (from 1) of causal attention with a cache; the same for any number of heads, which share the width."""
    _positive(t=t, dim=dim)
    return Step(2 * t * dim, 4 * dim * dim, 2 * t * dim)


def ssm_step(dim: int, d_state: int = 16, dt_rank: int | None = None) -> Step:
    """Any token of a :class:`~mambaout.layers.SelectiveSSM`; `dt_rank` None means ceil(dim / 16), as there."""
    rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
    _positive(dim=dim, d_state=d_state, dt_rank=rank)
    return Step(dim * d_state, dim * (2 * rank + 2 * d_state), dim * (4 * d_state + 2))


def causal_conv_step(t: int, dim: int, kernel_size: int) -> Step:
    """Token t (from 1) of a depthwise convolution over the token and the kernel_size - 1 before it.

    Before the first token there are zeros, which are counted as work (as `cost` does) but not as memory.
    """
    _positive(t=t, dim=dim, kernel_size=kernel_size)
    return Step(min(t, kernel_size - 1) * dim, 0, kernel_size * dim)


def image_conv_step(t: int, dim: int, kernel_size: int, width: int) -> Step:
    """Token t (from 1, in raster order) of a Gated CNN block's centred depthwise k x k convolution.

    It is no causal mixer: the answer for a token needs k // 2 rows below it and k // 2 tokens to the right. Read as a
    stream, it answers k // 2 (width + 1) tokens late and keeps twice as many. Read as usual, the whole image is there.

    Raises:
        ValueError: an even or non-positive kernel, or a number below 1.
    """
    _positive(t=t, dim=dim, kernel_size=kernel_size, width=width)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd to have a centre, got {kernel_size}")
    delay = kernel_size // 2 * (width + 1)
    return Step(min(t, 2 * delay) * dim, 0, kernel_size**2 * dim, delay)


def retention(delta: Tensor, A: Tensor) -> Tensor:
    """How much of token s is still in an SSM's state at token t: matrix [t, s] of shares, 0 for s > t.

    Token s writes Delta_s B_s x_s into the state; each later token r multiplies what is there by exp(Delta_r A).
    The share left at t is d h_t / d (Delta_s B_s x_s) = exp(A (Delta_{s+1} + ... + Delta_t)) for each channel and
    each number of its state. Returned is its mean over all of them.

    Args:
        delta: step sizes (L, D) of one sequence, not negative.
        A: state matrix (D, N), negative.

    Returns:
        (L, L), on the diagonal 1, down a column never rising.
    """
    return torch.stack([decay.mean((1, 2)) for decay in _decays(delta, A)])


def survival(delta: Tensor, A: Tensor) -> Tensor:
    """The share of the state that reading each token leaves in place: exp(Delta_t A), mean over channels and states.

    Args:
        delta: step sizes (..., D).
        A: state matrix (D, N).

    Returns:
        (...), between 0 and 1; for one sequence it is what `retention` has beside its diagonal, [t, t - 1].
    """
    return torch.exp(delta[..., None] * A).mean((-2, -1))


def contributions(u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """How large the part of the state is that comes from each token: matrix [t, s] of norms, 0 for s > t.

    The state is the sum over s of exp(A (Delta_{s+1} + ... + Delta_t)) Delta_s B_s x_s; each term's Euclidean norm
    over channels and states stands in the matrix. (The terms may cancel: the norms add up to no less than the
    state's.) Unlike `retention`, this asks also how much was written: an SSM ignores a token by a short step.

    Args:
        u: inputs (L, D) of one sequence.
        delta, A: as in `retention`.
        B: input projections (L, N).

    Returns:
        (L, L), not negative.
    """
    written = (delta * u)[..., None].double() * B[:, None].double()  # (L, D, N)
    return torch.stack([(decay * written).flatten(1).norm(dim=1) for decay in _decays(delta, A)])


def states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """The state after every token, from zeros: (L, D), (L, D), (D, N), (L, N) -> (L, D, N)."""
    state = torch.zeros(A.shape, dtype=compute_dtype(u, delta, A, B), device=A.device)
    kept = []
    for u_t, delta_t, B_t in zip(u, delta, B, strict=True):
        state = torch.exp(delta_t[:, None] * A) * state + (delta_t * u_t)[:, None] * B_t
        kept.append(state)
    return torch.stack(kept)


def _decays(delta: Tensor, A: Tensor) -> Iterator[Tensor]:
    """For each t the product of decays after each token s: (L, D, N), zeros for s > t.

    In float64: a sum of steps minus a sum of steps must not lose the digits of a short step.
    """
    if delta.ndim != 2 or A.ndim != 2 or delta.shape[1] != A.shape[0]:
        raise ValueError(
            f"expected the steps of one sequence (L, D) and A (D, N), got {tuple(delta.shape)} and {tuple(A.shape)}"
        )
    elapsed, A = delta.double().cumsum(0), A.double()  # (L, D)
    for t in range(len(delta)):
        since = (elapsed[t] - elapsed[: t + 1])[..., None]  # (t + 1, D, 1)
        decay = torch.zeros(len(delta), *A.shape, dtype=torch.double, device=A.device)
        decay[: t + 1] = torch.exp(since * A)
        yield decay


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
