"""The least time that the scan's Triton kernels can take on a GPU: ``python -m benchmarks.roofline`` prints a table.

A kernel must move its bytes, do its float32 operations and evaluate its exponentials, each no faster than the data
sheet says (`benchmarks.gpus`). The slowest of the three is the limit, and a measured time is read as a share of it.

Counted: every element of every array that a kernel reads or writes, once. What it loads again comes from a cache: B
and C once for every block of channels, neighbouring tokens in backward. Backward's sums over channels leave the kernel
as one partial sum for each block of channels, written by the kernel and read again by PyTorch: with 16 states they are
two fifths of its traffic. Operations are those of the kernels' lines, a multiply-add counted as two, and the addresses
not at all; a program keeps one multiprocessor busy, so few programs leave the others idle.

Runs repeated on arrays that fit the GPU's second cache (4 MB on T4, 40 on A100, 50 on H100) may beat the limit of its
memory.
"""

import itertools
from dataclasses import dataclass

import torch

from benchmarks.gpus import GPUS, Gpu

BATCHES = (2, 64)
LENGTHS = (784, 3136, 16384)
DIM, STATE = 384, 16

_FLOAT32 = 4  # bytes
# Operations for each token, channel and state, and for each token and channel (D included).
FORWARD_FLOPS, FORWARD_TOKEN_FLOPS, FORWARD_EXPONENTIALS = 10, 3, 1
BACKWARD_FLOPS, BACKWARD_TOKEN_FLOPS, BACKWARD_EXPONENTIALS = 30, 9, 2


@dataclass(frozen=True)
class Work:
    """What one kernel has to do."""

    name: str
    bytes: int
    flops: int
    exponentials: int
    programs: int

    def limits(self, gpu: Gpu) -> dict[str, float]:
        """Seconds that each resource needs at least."""
        busy = min(1.0, self.programs / gpu.multiprocessors)
        return {
            "memory": self.bytes / gpu.bandwidth,
            "arithmetic": self.flops / (gpu.flops * busy),
            "exponentials": self.exponentials / (gpu.exponentials * busy),
        }


def _tile(dim: int, state: int) -> tuple[int, int]:
    """Tokens of a chunk and channels of a program, in float32."""
    from mambaout.kernels.scan_triton import _launch_options  # imports Triton, which is there on Linux only

    options = _launch_options(torch.float32, dim, state)
    return options["CHUNK"], options["BLOCK_D"]  # type: ignore[return-value]


def forward_work(batch: int, length: int, dim: int, state: int, *, keep: bool) -> Work:
    """The forward kernel with D, without an initial state. `keep`: it saves the states at the chunks' starts."""
    chunk, block = _tile(dim, state)
    channels, projections = batch * length * dim, batch * length * state
    read = 2 * channels + 2 * projections + dim * state + dim  # u, delta; B, C; A; D
    written = channels + batch * dim * state  # y; the last state
    if keep:
        written += batch * -(-length // chunk) * dim * state
    return Work(
        "forward, keeping states" if keep else "forward",
        bytes=_FLOAT32 * (read + written),
        flops=channels * (FORWARD_FLOPS * state + FORWARD_TOKEN_FLOPS),
        exponentials=FORWARD_EXPONENTIALS * channels * state,
        programs=batch * -(-dim // block),
    )


def backward_work(batch: int, length: int, dim: int, state: int) -> Work:
    """The backward kernel with D, without a gradient of the last state."""
    chunk, block = _tile(dim, state)
    blocks = -(-dim // block)
    channels, projections, states = batch * length * dim, batch * length * state, batch * dim * state
    read = 3 * channels + 2 * projections + dim * state + dim  # u, delta, dy; B, C; A; D
    read += -(-length // chunk) * states  # those that forward saved
    written = 2 * channels  # du, ddelta
    written += 2 * blocks * projections + 2 * states + batch * dim  # partial dB, dC; dA, dh0; dD
    return Work(
        "backward",
        bytes=_FLOAT32 * (read + written),
        flops=channels * (BACKWARD_FLOPS * state + BACKWARD_TOKEN_FLOPS),
        exponentials=BACKWARD_EXPONENTIALS * channels * state,
        programs=batch * blocks,
    )


def sums_work(batch: int, length: int, dim: int, state: int) -> Work:
    """PyTorch's sums after the backward kernel: dB and dC over blocks of channels, dA and dD over the batch."""
    _, block = _tile(dim, state)
    results = 2 * batch * length * state + dim * state + dim
    parts = 2 * -(-dim // block) * batch * length * state + batch * dim * state + batch * dim
    return Work(
        "sums of backward",
        bytes=_FLOAT32 * (parts + results),
        flops=parts,
        exponentials=0,
        programs=results,  # as many as there are results, more than any GPU needs
    )


def scan_work(work: str, batch: int, length: int, dim: int, state: int) -> list[Work]:
    """The kernels of "forward" (nothing kept) or "forward+backward" in float32, in the order in which they run."""
    if work == "forward":
        return [forward_work(batch, length, dim, state, keep=False)]
    return [
        forward_work(batch, length, dim, state, keep=True),
        backward_work(batch, length, dim, state),
        sums_work(batch, length, dim, state),
    ]


def least_seconds(works: list[Work], gpu: Gpu) -> float:
    """Seconds that kernels, one after the other, need at least."""
    return sum(max(work.limits(gpu).values()) for work in works)


def table() -> str:
    """Markdown: for each kernel what it moves and computes, and for each GPU the limit and what sets it."""
    lines = [
        "| kernel | B | L | D | N | programs | MB | GFLOP | " + " | ".join(gpu.name for gpu in GPUS) + " |",
        "|" + "---|" * (8 + len(GPUS)),
    ]
    for batch, length in itertools.product(BATCHES, LENGTHS):
        sizes = batch, length, DIM, STATE
        for kernel in scan_work("forward", *sizes) + scan_work("forward+backward", *sizes):
            limits = [kernel.limits(gpu) for gpu in GPUS]
            cells = [f"{1e3 * max(limit.values()):.3f} ms, {max(limit, key=limit.__getitem__)}" for limit in limits]
            lines.append(
                f"| {kernel.name} | {batch} | {length} | {DIM} | {STATE} | {kernel.programs} "
                f"| {kernel.bytes / 1e6:.1f} | {kernel.flops / 1e9:.2f} | {' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
