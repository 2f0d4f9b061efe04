"""`selective_scan` against its peers: mambapy's pscan, our sequential reference, PyTorch's associative_scan.

Times are medians of interleaved runs in one process (ours, peer, ours, peer, ...), so that whatever else the machine
does falls on both; only the ratios are meant to be compared between machines.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from mambapy.pscan import pscan
from torch import Tensor

from benchmarks import gpus, roofline
from benchmarks.timing import THREADS
from mambaout.kernels.scan import selective_scan
from mambaout.kernels.scan_chunked import selective_scan_chunked
from mambaout.kernels.scan_reference import selective_scan_reference
from mambaout.studies import measure
from mambaout.studies.measure import medians

BATCH, DIM, STATE = 2, 384, 16
LENGTHS = (784, 3136)  # 28 x 28 and 56 x 56 tokens
TARGETS = {"forward": 25.0, "forward+backward": 20.0, "memory": 20.0}
# What the studies run (B, L, D, N), beside the form without numba.
SMALL = ((64, 49, 32, 2), (32, 256, 32, 2), (8, 4096, 48, 8))
SMALL_TARGETS = {"forward": 3.0, "forward+backward": 2.5}

Scan = Callable[..., Any]


def mambapy_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The same recurrence on mambapy's parallel scan, set up as its Mamba block does."""
    decay = torch.exp(delta.unsqueeze(-1) * A)  # (B, L, D, N)
    inputs = delta.unsqueeze(-1) * B.unsqueeze(2) * u.unsqueeze(-1)
    return (pscan(decay, inputs) @ C.unsqueeze(-1)).squeeze(3) + D * u


def torch_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The same recurrence on PyTorch's generic associative scan (a prototype feature)."""
    from torch._higher_order_ops.associative_scan import associative_scan

    def compose(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    decay = torch.exp(delta.unsqueeze(-1) * A)
    inputs = delta.unsqueeze(-1) * B.unsqueeze(2) * u.unsqueeze(-1)
    _, h = associative_scan(compose, (decay, inputs), dim=1, combine_mode="generic")
    return (h @ C.unsqueeze(-1)).squeeze(3) + D * u


def chunked_scan(*inputs: Tensor) -> Tensor:
    return selective_scan_chunked(*inputs)[0]


SCANS: dict[str, Scan] = {"ours": selective_scan, "mambapy": mambapy_scan}


def make_inputs(batch: int, length: int, device: str, dim: int = DIM, state: int = STATE) -> list[Tensor]:
    """Inputs as a freshly initialised Mamba block sees them: A = -(1..N), delta between 0.001 and 0.1."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    delta = 0.001 * 100 ** torch.rand(batch, length, dim, generator=generator)
    A = -torch.arange(1.0, state + 1).repeat(dim, 1)
    inputs = [
        normal(batch, length, dim),
        delta,
        A,
        *(normal(batch, length, state) for _ in "BC"),
        torch.ones(dim),
    ]
    return [t.to(device).requires_grad_() for t in inputs]


def forward(scan: Scan, inputs: list[Tensor]) -> None:
    with torch.no_grad():
        scan(*inputs)


def forward_backward(scan: Scan, inputs: list[Tensor]) -> None:
    y = scan(*inputs)
    torch.autograd.grad(y, inputs, torch.ones_like(y))


WORK = {"forward": forward, "forward+backward": forward_backward}


def time_row(
    work: str,
    peer_name: str,
    ours: Scan,
    peer: Scan,
    inputs: list[Tensor],
    repeats: int,
    target: float | None,
) -> dict[str, object]:
    """One row: milliseconds of ours and of the peer; ratio > 1 means that ours is faster."""
    (batch, length, dim), state = inputs[0].shape, inputs[2].shape[1]
    device = inputs[0].device.type
    ours_s, peer_s = medians([lambda: WORK[work](ours, inputs), lambda: WORK[work](peer, inputs)], device, repeats)
    return {
        "name": f"selective_scan {work}, against {peer_name}",
        "case": f"B {batch}, L {length}, D {dim}, N {state}",
        "device": device,
        "ours": 1e3 * ours_s,
        "peer": 1e3 * peer_s,
        "ratio": peer_s / ours_s,
        "unit": "ms",
        "target": target,
    }


def peak_extra_bytes(scan_name: str, work: str, length: int) -> int:
    """Growth of this process's peak memory by one run."""
    torch.set_num_threads(THREADS)
    WORK[work](SCANS[scan_name], make_inputs(BATCH, 8, "cpu"))  # libraries and thread pools
    inputs = make_inputs(BATCH, length, "cpu")
    return measure.peak_extra_bytes(lambda: WORK[work](SCANS[scan_name], inputs), "cpu")


def memory_row(work: str, length: int) -> dict[str, object]:
    """One row: peak extra memory. Each figure comes from a fresh process, so that it contains all that the run
    needed, whichever library allocated it, and nothing of another run."""

    def mebibytes(scan_name: str) -> float:
        command = [sys.executable, "-m", "benchmarks.scan", "--memory", scan_name, work, str(length)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return int(output) / 2**20

    ours, peer = mebibytes("ours"), mebibytes("mambapy")
    return {
        "name": f"selective_scan {work}, peak extra memory, against mambapy",
        "case": f"B {BATCH}, L {length}, D {DIM}, N {STATE}",
        "device": "cpu",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "unit": "MiB",
        "target": TARGETS["memory"],
    }


def share_rows(work: str, inputs: list[Tensor], repeats: int) -> list[dict[str, object]]:
    """Shares of what the GPU can do: of the bandwidth of a plain copy, measured beside it, and of the data sheet's
    limit, where `benchmarks.gpus` has the GPU."""
    batch, length, _ = inputs[0].shape
    kernels = roofline.scan_work(work, batch, length, DIM, STATE)
    source = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    scan_s, copy_s = medians(
        [lambda: WORK[work](selective_scan, inputs), lambda: target.copy_(source)], "cuda", repeats
    )

    def row(name: str, ours: float, peer: float, ratio: float, unit: str) -> dict[str, object]:
        return {"name": f"selective_scan {work}, {name}", "case": f"B {batch}, L {length}, D {DIM}, N {STATE}",
                "device": "cuda", "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "target": None}  # fmt: skip

    ours, peer = sum(kernel.bytes for kernel in kernels) / scan_s / 1e9, 2 * source.nbytes / copy_s / 1e9
    rows = [row("share of a copy's bandwidth", ours, peer, ours / peer, "GB/s")]
    gpu = gpus.find(torch.cuda.get_device_name())
    if gpu is not None:
        least_s = roofline.least_seconds(kernels, gpu)
        rows.append(row(f"share of the limit of {gpu.name}", 1e3 * scan_s, 1e3 * least_s, least_s / scan_s, "ms"))
    return rows


def run(quick: bool = False) -> list[dict[str, object]]:
    """All rows; `quick` measures the shorter length only, three times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    rows = []
    repeats = 3 if quick else 7
    for length in LENGTHS[:1] if quick else LENGTHS:
        inputs = make_inputs(BATCH, length, "cpu")
        for work in WORK:
            rows.append(time_row(work, "mambapy", selective_scan, mambapy_scan, inputs, repeats, TARGETS[work]))
            rows.append(memory_row(work, length))
            if length == LENGTHS[0]:
                reference = selective_scan_reference
                rows.append(time_row(work, "the reference", selective_scan, reference, inputs, repeats, None))
                rows.append(time_row(work, "associative_scan", selective_scan, torch_scan, inputs, repeats, None))
    for batch, length, dim, state in SMALL[:1] if quick else SMALL:
        inputs = make_inputs(batch, length, "cpu", dim, state)
        for work, target in SMALL_TARGETS.items():
            rows.append(time_row(work, "the form without numba", selective_scan, chunked_scan, inputs, 15, target))
    if torch.cuda.is_available():
        for batch, length in ((BATCH, LENGTHS[0]), (BATCH, LENGTHS[1]), (64, LENGTHS[0])):
            inputs = make_inputs(batch, length, "cuda")
            for work in WORK:
                rows.append(time_row(work, "the PyTorch form", selective_scan, chunked_scan, inputs, repeats, None))
                rows.append(time_row(work, "mambapy", selective_scan, mambapy_scan, inputs, repeats, None))
                rows += share_rows(work, inputs, repeats)
    torch.set_num_threads(threads)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the shorter length only")
    parser.add_argument("--memory", nargs=3, metavar=("SCAN", "WORK", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        scan_name, work, length = arguments.memory
        print(peak_extra_bytes(scan_name, work, int(length)))
    else:
        for row in run(arguments.quick):
            print(json.dumps(row))


if __name__ == "__main__":
    main()
