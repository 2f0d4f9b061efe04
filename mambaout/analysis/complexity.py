"""FLOPs of every token mixer and block as formulas in the tokens L and the channels D: Equations 6 and 7.

The convention is the paper's: one multiplication is one FLOP, one addition another, so a linear layer takes
2 L D_in D_out. The MACs of :mod:`mambaout.analysis.cost` count a multiplication with its addition once: FLOPs are
twice the MACs for convolutions, linear layers and attention, and 3/2 of them for the recurrence of an SSM, where many
multiplications have no addition.

Like Eq. 6, every formula leaves out what is a few operations per number: biases, norms, activations, softmax,
exponentials, the gate's product and residuals (`left_out` counts them for a Transformer block).

Code name      paper        meaning
length         L            tokens
dim            D            channels of a token
ratio          r_L          quadratic over linear part, Eq. 7
threshold      tau, 6 D     tokens above which a sequence is long
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

PARAMETERS = {"mlp_ratio": 4, "d_state": 16, "expansion_ratio": 8 / 3, "kernel_size": 7}  # as in the library's layers


@dataclass(frozen=True)
class Flops:
    """FLOPs by part, apart according to how they grow with the number of tokens.

    Attributes:
        linear: parts in proportion to L, by name.
        quadratic: parts in proportion to L^2, by name.
    """

    linear: dict[str, float] = field(default_factory=dict)
    quadratic: dict[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, float]:
        """All parts by name."""
        return _sums(self.linear, self.quadratic)

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(self.parts.values())

    @property
    def quadratic_share(self) -> float:
        """Share of the part that grows with L^2, between 0 and 1."""
        return sum(self.quadratic.values()) / self.total

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(_sums(self.linear, other.linear), _sums(self.quadratic, other.quadratic))


def _sums(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Both; a part that both have counts twice."""
    return first | {name: first.get(name, 0) + flops for name, flops in second.items()}


def linear_layer(length: int, dim_in: int, dim_out: int) -> float:
    """2 L D_in D_out: for each token and output, D_in multiplications and as many additions."""
    return 2 * length * dim_in * dim_out


def attention(length: int, dim: int, causal: bool = False) -> Flops:
    """8 D^2 L + 4 D L^2, and 2 D L^2 when causal, whatever the number of heads.

    The causal half is the paper's count for long sequences; exactly, L (L + 1) / 2 of the L^2 pairs remain. A kernel
    that computes all pairs and masks half of them does the full work.
    """
    pairs = length**2 / 2 if causal else length**2
    return Flops(
        {"query, key, value": 3 * linear_layer(length, dim, dim), "projection": linear_layer(length, dim, dim)},
        {"queries x keys": 2 * dim * pairs, "weights x values": 2 * dim * pairs},
    )


def causal_attention(length: int, dim: int) -> Flops:
    """8 D^2 L + 2 D L^2."""
    return attention(length, dim, causal=True)


def windowed_attention(length: int, dim: int, window: int = 49) -> Flops:
    """8 D^2 L + 4 D L w when each token reads w tokens, as in a 7 x 7 window: no part grows with L^2.

    It is the work of a kernel that computes these pairs only.
    """
    projections = attention(length, dim).linear
    pairs = length * window
    return Flops(projections | {"queries x keys": 2 * dim * pairs, "weights x values": 2 * dim * pairs})


def mlp(length: int, dim: int, mlp_ratio: float = PARAMETERS["mlp_ratio"]) -> Flops:
    """4 m D^2 L for the ratio m of hidden width to D: 16 D^2 L."""
    hidden = int(mlp_ratio * dim)
    return Flops({"MLP, in": linear_layer(length, dim, hidden), "MLP, out": linear_layer(length, hidden, dim)})


def transformer_block(length: int, dim: int, mlp_ratio: float = PARAMETERS["mlp_ratio"], causal: bool = False) -> Flops:
    """24 D^2 L + 4 D L^2, Eq. 6; 24 D^2 L + 2 D L^2 when causal."""
    return attention(length, dim, causal) + mlp(length, dim, mlp_ratio)


def ratio(length: int, dim: int, mlp_ratio: float = PARAMETERS["mlp_ratio"], causal: bool = False) -> float:
    """r_L = L / 6 D, Eq. 7: quadratic over linear part of a Transformer block.

    For an MLP ratio m it is L / ((2 + m) D), and half of that when causal.
    """
    return length / threshold(dim, mlp_ratio, causal)


def threshold(dim: int, mlp_ratio: float = PARAMETERS["mlp_ratio"], causal: bool = False) -> float:
    """Tokens above which a sequence is long, r_L > 1: 6 D, in general (2 + m) D, twice as many when causal."""
    return (2 + mlp_ratio) * dim * (2 if causal else 1)


def ssm(length: int, dim: int, d_state: int = int(PARAMETERS["d_state"]), dt_rank: int | None = None) -> Flops:
    """(2 (R + 2 N) + 2 R + 6 N + 3) D L for N numbers of state per channel and the rank R of delta's projection.

    The recurrence takes for each number of state delta A, A_bar h + ..., (delta u) B and C h + ...: four
    multiplications and two additions; and for each channel delta u and the skip D u + ...: three.
    """
    rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
    return Flops(
        {
            "select delta, B, C": linear_layer(length, dim, rank + 2 * d_state) + linear_layer(length, rank, dim),
            "recurrence": length * dim * (6 * d_state + 3),
        }
    )


def convolution(length: int, channels: int, kernel_size: int = int(PARAMETERS["kernel_size"])) -> Flops:
    """2 k^2 C L, depthwise with a k x k kernel; products with the padding at the border are counted."""
    return Flops({"convolution": 2 * kernel_size**2 * channels * length})


def gated_cnn_block(
    length: int,
    dim: int,
    expansion_ratio: float = PARAMETERS["expansion_ratio"],
    kernel_size: int = int(PARAMETERS["kernel_size"]),
) -> Flops:
    """6 e D^2 L + 2 k^2 D L for the expansion ratio e: 16 D^2 L + 98 D L when D is a multiple of 3."""
    hidden = int(expansion_ratio * dim)
    linears = {"fc1": linear_layer(length, dim, 2 * hidden), "fc2": linear_layer(length, hidden, dim)}
    return Flops(linears) + convolution(length, dim, kernel_size)


def mamba_block(length: int, dim: int, routes: int = 1) -> Flops:
    """A Gated CNN block plus an SSM on its D convolved channels (Eq. 11), one for each route of a visual Mamba."""
    ssms = {name: routes * part for name, part in ssm(length, dim).linear.items()}
    return gated_cnn_block(length, dim) + Flops(ssms)


def attention_block(length: int, dim: int, causal: bool = False) -> Flops:
    """A Gated CNN block plus attention on its D convolved channels."""
    return gated_cnn_block(length, dim) + attention(length, dim, causal)


MIXERS: dict[str, Callable[[int, int], Flops]] = {
    "attention": attention,
    "causal_attention": causal_attention,
    "windowed_attention": windowed_attention,
    "ssm": ssm,
    "convolution": convolution,
    "transformer_block": transformer_block,
    "mamba_block": mamba_block,
    "attention_block": attention_block,
    "gated_cnn_block": gated_cnn_block,
}


def left_out(length: int, dim: int, num_heads: int) -> dict[str, int]:
    """What Eq. 6 leaves out: how many numbers each small operation of a Transformer block writes.

    Each number takes from one (a bias) to about ten FLOPs (GELU), so these counts are a lower bound.
    """
    tokens = length * dim
    return {
        "biases": 9 * tokens,  # 3 D + D in attention, 4 D + D in the MLP
        "LayerNorm": 2 * tokens,
        "GELU": 4 * tokens,
        "residuals": 2 * tokens,
        "softmax": num_heads * length**2,
    }


def crossing(lengths: Sequence[float], first: Sequence[float], second: Sequence[float]) -> float | None:
    """Number of tokens from which ``first`` stays above ``second``; None when it is not above at the end.

    Between two lengths both are taken for straight lines on logarithmic axes. Where ``first`` is above from the
    start, the answer is the first length: the crossing lies there or before.

    Args:
        lengths: (N,) increasing, positive.
        first, second: (N,) positive, such as times or FLOPs at these lengths.

    Raises:
        ValueError: the three are not equally long.
    """
    if not len(lengths) == len(first) == len(second) > 0:
        raise ValueError(f"expected equally long rows, got {len(lengths)}, {len(first)} and {len(second)}")
    gaps = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    below = [i for i, gap in enumerate(gaps) if gap <= 0]
    if not below:
        return lengths[0]
    i = below[-1]
    if i == len(gaps) - 1:
        return None
    share = -gaps[i] / (gaps[i + 1] - gaps[i])
    return math.exp((1 - share) * math.log(lengths[i]) + share * math.log(lengths[i + 1]))


def split_time(lengths: Sequence[float], times: Sequence[float]) -> tuple[float, float]:
    """Measured times as a L + b L^2: the a and b, not negative, with the least relative squared error.

    a / b is then the number of tokens from which the quadratic part takes more time than the linear one: what the
    threshold 6 D is for FLOPs.

    Args:
        lengths: (N,) at least two different ones.
        times: (N,) positive.

    Raises:
        ValueError: fewer than two lengths, or not as many times.
    """
    if len(lengths) != len(times) or len(set(lengths)) < 2:
        raise ValueError(f"expected as many times as lengths, at least two; got {len(lengths)} and {len(times)}")
    # Divided by the time itself, each row says 1 = a (L / t) + b (L^2 / t): normal equations of two unknowns.
    linear = [length / time for length, time in zip(lengths, times, strict=True)]
    quadratic = [length * x for length, x in zip(lengths, linear, strict=True)]
    xx, xy, yy = (math.fsum(p * q for p, q in zip(u, v, strict=True)) for u, v in
                  ((linear, linear), (linear, quadratic), (quadratic, quadratic)))  # fmt: skip
    x, y = math.fsum(linear), math.fsum(quadratic)
    determinant = xx * yy - xy**2
    a, b = (yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant
    if a < 0:
        return 0.0, y / yy
    if b < 0:
        return x / xx, 0.0
    return a, b


def tokens(height: int, width: int, patch: int) -> int:
    """Tokens of an image cut into square patches; a last patch that sticks out is filled up."""
    return math.ceil(height / patch) * math.ceil(width / patch)


def input_tokens(place: Mapping[str, str | int]) -> int:
    """Tokens of one of `INPUTS`: its length, or those of its image."""
    if "length" in place:
        return int(place["length"])
    return tokens(*(int(place[side]) for side in ("height", "width", "patch")))


# What the chapter and its figure start from. A text comes as tokens, an image is cut into patches.
INPUTS: tuple[dict[str, str | int], ...] = (
    {"label": "ImageNet", "height": 224, "width": 224, "patch": 16},
    {"label": "COCO", "height": 800, "width": 1280, "patch": 16},
    {"label": "ADE20K", "height": 512, "width": 2048, "patch": 16},
    {"label": "4K photo", "height": 2160, "width": 3840, "patch": 16},
    {"label": "Text, 8K tokens", "length": 8192},
)
WIDTHS: tuple[dict[str, str | int], ...] = (
    {"label": "ViT-Ti", "dim": 192, "depth": 12},
    {"label": "ViT-S", "dim": 384, "depth": 12},
    {"label": "ViT-B", "dim": 768, "depth": 12},
)
