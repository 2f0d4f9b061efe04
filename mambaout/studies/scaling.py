"""How time and memory grow with the tokens: attention, the selective scan and the Gated CNN block, measured.

Each variant is one module at one width (``attention_d384``), one sequence at a time, in float32. Rows, for L tokens:
``forward_ms_L`` without gradients, ``training_ms_L`` forward and backward, and with seed 0 the peak of memory above its
level before, ``forward_mib_L`` and ``training_mib_L``; also ``threads``. A seed is a repeat: the runner takes all
variants in turn, then all again, so that whatever else the machine does falls on all of them.

The variants:

- ``attention``, ``causal_attention``: the layer with its four projections; 64 channels a head, as in ViT.
- ``unfused_attention``: the same layer, but the L x L matrix is written to memory (PyTorch's "math" form).
- ``ssm``: `SelectiveSSM` with 16 numbers of state per channel; on the CPU its scan is one fused kernel.
- ``unfused_ssm``: the same layer with the scan in PyTorch's operations, as on a machine without numba.
- ``transformer_block``, ``mamba_block``, ``gated_cnn_block``: whole blocks; the last two on a map as square as can be.

The times are those of one machine, and of whatever else runs on it: measure with nothing else running.
``mambaout study scaling --device cpu`` takes the CPU, ``--large`` a GPU, with more tokens.
"""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mambaout.kernels.scan_chunked import selective_scan_chunked
from mambaout.layers import Attention, GatedCNNBlock, MambaBlock, SelectiveSSM, TransformerBlock
from mambaout.studies import measure
from mambaout.studies.record import Result
from mambaout.studies.runner import Study, read_results

if TYPE_CHECKING:
    import pandas as pd

WORKS = ("forward", "training")
HEAD_DIM = 64
GIB = 2**30


@dataclass(frozen=True)
class ScalingConfig:
    """One module to measure.

    Attributes:
        mixer: a key of `MODULES`.
        dim: channels.
        lengths: numbers of tokens.
        device: "cpu" or "cuda".
        budget: seconds of repeats for each measured number.
        memory_limit: GiB that the L x L matrices may take; longer sequences are left out.
    """

    mixer: str
    dim: int
    lengths: tuple[int, ...] = tuple(2**n for n in range(6, 15))  # 64 to 16,384
    device: str = "cpu"
    budget: float = 0.1
    memory_limit: float = 4.0


class UnfusedSSM(SelectiveSSM):
    """The same numbers from the chunked scan, whose arrays of chunk x D x N numbers go through memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, L, D)."""
        delta, A, B, C = self.select(x)
        y, _ = selective_scan_chunked(x, delta, A, B, C, self.D)
        return y


MODULES: dict[str, Callable[[int], nn.Module]] = {
    "attention": lambda dim: Attention(dim, dim // HEAD_DIM),
    "causal_attention": lambda dim: Attention(dim, dim // HEAD_DIM, causal=True),
    "unfused_attention": lambda dim: Attention(dim, dim // HEAD_DIM),
    "ssm": SelectiveSSM,
    "unfused_ssm": UnfusedSSM,
    "transformer_block": lambda dim: TransformerBlock(dim, dim // HEAD_DIM),
    "mamba_block": MambaBlock,
    "gated_cnn_block": GatedCNNBlock,
}


def grid(length: int) -> tuple[int, int]:
    """Height and width, as near to a square as L tokens allow."""
    height = next(side for side in range(math.isqrt(length), 0, -1) if length % side == 0)
    return height, length // height


def make_work(mixer: str, dim: int, length: int, work: str, device: str = "cpu") -> measure.Work:
    """A function that runs a module once: "forward" without gradients, or "training", forward and backward.

    Raises:
        ValueError: no such mixer or work.
    """
    if mixer not in MODULES or work not in WORKS:
        raise ValueError(f"expected one of {', '.join(MODULES)} and of {', '.join(WORKS)}; got {mixer!r}, {work!r}")
    torch.manual_seed(0)
    module: nn.Module = MODULES[mixer](dim).to(device)
    shape = (1, *grid(length), dim) if isinstance(module, GatedCNNBlock) else (1, length, dim)
    x = torch.randn(shape, device=device, requires_grad=True)
    wanted = (x, *module.parameters())
    upstream = torch.ones_like(x)

    def once() -> None:
        with sdpa_kernel(SDPBackend.MATH) if mixer == "unfused_attention" else nullcontext():
            if work == "training":
                torch.autograd.grad(module(x), wanted, upstream)
            else:
                with torch.no_grad():
                    module(x)

    return once


def too_large(config: ScalingConfig, length: int, work: str) -> str:
    """Why a case is left out; "" when it is not. Only unfused attention holds L x L matrices."""
    if config.mixer != "unfused_attention":
        return ""
    matrices = 3 if work == "training" else 2  # scores, weights; in backward the gradient of one in addition
    need = matrices * (config.dim // HEAD_DIM) * length**2 * 4 / GIB
    if need <= config.memory_limit:
        return ""
    return f"its L x L matrices take {need:.1f} GiB, more than the limit of {config.memory_limit:g} GiB"


def cases(config: ScalingConfig) -> list[tuple[str, int]]:
    """(work, length) of everything that is measured."""
    every = [(work, length) for length in config.lengths for work in WORKS]
    return [(work, length) for work, length in every if not too_large(config, length, work)]


def run(config: ScalingConfig, seed: int, device: torch.device) -> Mapping[str, float]:
    """Time every case once more; with seed 0, measure its memory too, and say what is left out.

    Raises:
        ValueError: the variant is for another device.
    """
    if device.type != config.device:
        raise ValueError(
            f"this variant is measured on {config.device}, but the study runs on {device.type}: "
            "use `mambaout study scaling --device cpu`, or `--large` for a GPU"
        )
    warm_up(config)
    values = {"threads": float(torch.get_num_threads())}
    for work, length in cases(config):
        once = make_work(config.mixer, config.dim, length, work, config.device)
        values[f"{work}_ms_L{length}"] = 1e3 * measure.steady_seconds(once, config.device, config.budget)
    if seed == 0:
        for length in config.lengths:
            for work in WORKS:
                if reason := too_large(config, length, work):
                    print(f"{config.mixer}, D {config.dim}, L {length}, {work}: left out, {reason}", flush=True)
        values |= peaks(config)
    return values


def warm_up(config: ScalingConfig) -> None:
    """Load the libraries that PyTorch loads on first use, and start its threads."""
    for work in WORKS:
        make_work(config.mixer, config.dim, 16, work, config.device)()


def peaks(config: ScalingConfig) -> dict[str, float]:
    """Peak extra memory of every case, in MiB; on the CPU from a process of its own."""
    if config.device == "cuda":
        return measure_peaks(config)
    if not measure.can_measure_peaks():
        print("memory: not measured, it needs Linux with glibc", flush=True)
        return {}
    numbers = ",".join(map(str, config.lengths))
    command = [sys.executable, "-m", __name__, config.mixer, str(config.dim), numbers, str(config.memory_limit)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return {name: float(value) for name, value in (line.split("=") for line in lines)}


def measure_peaks(config: ScalingConfig) -> dict[str, float]:
    """The same in this process."""
    warm_up(config)
    values = {}
    for work, length in cases(config):
        once = make_work(config.mixer, config.dim, length, work, config.device)
        values[f"{work}_mib_L{length}"] = measure.peak_extra_bytes(once, config.device) / 2**20
    return values


def variants(device: str, **settings: Any) -> dict[str, ScalingConfig]:
    """Every module at the widths of ViT-Ti and ViT-S."""
    suffix = "" if device == "cpu" else f"_{device}"
    return {
        f"{mixer}_d{dim}{suffix}": ScalingConfig(mixer, dim, device=device, **settings)
        for dim in (192, 384)
        for mixer in MODULES
    }


STUDY = Study(
    "scaling",
    variants("cpu"),
    run,
    large=variants("cuda", lengths=tuple(2**n for n in range(6, 18)), memory_limit=32.0),
)


def recorded() -> "pd.DataFrame":
    """What the result file holds: a row for each variant, work, unit and length.

    Returns:
        Columns variant, mixer, dim, device ("cpu" or "cuda"), work ("forward" or "training"), unit ("ms" or "mib"),
        length, values (one for each repeat), median, processor, threads, date.
    """
    import pandas as pd

    results = read_results("scaling")
    threads = {row.variant: int(row.value) for row in results if row.metric == "threads"}
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        if row.metric != "threads":
            groups.setdefault((row.variant, row.metric), []).append(row)
    table = []
    for (variant, metric), rows in groups.items():
        values = [row.value for row in rows]
        work, unit, length = metric.split("_")
        mixer, _, place = variant.rpartition("_d")
        dim, _, device = place.partition("_")
        table.append(
            {"variant": variant, "mixer": mixer, "dim": int(dim), "device": device or "cpu", "work": work, "unit": unit}
            | {"length": int(length[1:]), "values": values, "median": statistics.median(values)}
            | {"processor": rows[0].device, "threads": threads[variant], "date": max(row.date for row in rows)}
        )
    return pd.DataFrame(table)


def main(arguments: list[str]) -> None:
    """``python -m mambaout.studies.scaling MIXER DIM LENGTHS LIMIT``: print the peaks, as NAME=MIB."""
    mixer, dim, lengths, limit = arguments
    numbers = tuple(map(int, lengths.split(",")))
    config = ScalingConfig(mixer, int(dim), numbers, memory_limit=float(limit))
    for name, value in measure_peaks(config).items():
        print(f"{name}={value:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
