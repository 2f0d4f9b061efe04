"""What the scan's Triton kernels need of a GPU, without one: ``python -m benchmarks.triton_resources`` prints a table.

Triton compiles for any GPU, and the assembler in its package reports registers and spills (``ptxas -v``). The
launches are recorded from the library itself, on tensors without data, so that the block sizes, the arguments and
what Triton derives from their values are those of a real run. Needs Triton 3.4 or later.
"""

import contextlib
import io
import itertools
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import MockTensor

from benchmarks.gpus import MULTIPROCESSORS
from mambaout.kernels import scan_triton

DIMS = (32, 100, 384)
STATES = (1, 2, 8, 12, 16, 64, 128, 256)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KERNELS = ("_forward_kernel", "_backward_kernel")


@dataclass(frozen=True)
class Case:
    """One call of the scan, and which of its options it uses."""

    dim: int
    state: int
    dtype: torch.dtype  # of all inputs but the initial state
    skip: bool = True  # D
    initial: bool = True  # an initial state
    last: bool = True  # a gradient of the last state
    grad: bool = True  # forward keeps states for backward, and backward runs


@dataclass(frozen=True)
class Launch:
    """One kernel with all that it was called with."""

    kernel: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What the assembler reports; blocks is how many fit one multiprocessor at once."""

    registers: int  # per thread
    spilled: int  # bytes per thread that are stored and loaded again for want of registers
    shared: int  # bytes per block
    warps: int
    blocks: int


def launches(case: Case, batch: int = 2, length: int = 784) -> list[Launch]:
    """The launches of one scan and, with `grad`, of its backward pass."""
    recorded: list[Launch] = []

    class Recorder:
        def __init__(self, kernel: str):
            self.kernel = kernel

        def __getitem__(self, grid: object) -> Callable[..., None]:
            return lambda *arguments, **options: recorded.append(Launch(self.kernel, arguments, options))

    def tensor(*shape: int, dtype: torch.dtype = case.dtype) -> Tensor:
        return torch.empty(shape, device="meta", dtype=dtype, requires_grad=case.grad)

    tokens, projections, weights = (batch, length, case.dim), (batch, length, case.state), (case.dim, case.state)
    with contextlib.ExitStack() as stack:
        for kernel in KERNELS:
            stack.enter_context(mock.patch.object(scan_triton, kernel, Recorder(kernel)))
        y, last = scan_triton.selective_scan_triton(
            tensor(*tokens), tensor(*tokens), tensor(*weights), tensor(*projections), tensor(*projections),
            tensor(case.dim) if case.skip else None,
            tensor(batch, *weights, dtype=torch.float32) if case.initial else None,
        )  # fmt: skip
        if case.grad:
            torch.autograd.backward((y, last) if case.last else y, (y, last) if case.last else y)
    return recorded


class _Target:
    """As much of Triton's driver as compiling asks for; each compute capability is a device of its own."""

    def __init__(self, capability: int):
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


_reports: dict[str, str] = {}  # by the compiled kernel's hash, as Triton compiles the same only once in a process


def compile_launch(launch: Launch, capability: int) -> tuple[Any, str]:
    """Triton's compiled kernel for a compute capability (75, 80, 90), and what the assembler said about it."""
    # Addresses are taken to be multiples of 16, as those of PyTorch's allocations are.
    arguments = [MockTensor(a.dtype) if isinstance(a, Tensor) else a for a in launch.arguments]
    report = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,  # an empty cache: what comes from a cache has no report
        mock.patch.dict(os.environ, {"TRITON_CACHE_DIR": folder, "TRITON_DUMP_PTXAS_LOG": "1"}),
        mock.patch.object(driver, "_active", _Target(capability)),  # only a machine with a GPU can undo `set_active`
        contextlib.redirect_stdout(report),
    ):
        compiled = getattr(scan_triton, launch.kernel).warmup(*arguments, grid=(1,), **launch.options)
    return compiled, _reports.setdefault(compiled.hash, report.getvalue())


def _number(pattern: str, report: str) -> int:
    found = re.search(pattern, report)
    if found is None:
        raise RuntimeError(f"Triton {triton.__version__} gave no report of its assembler; install 3.4 or later.")
    return int(found.group(1))


def resources(launch: Launch, capability: int) -> Resources:
    """What one launch needs on a GPU of a compute capability (75, 80, 90)."""
    compiled, report = compile_launch(launch, capability)
    registers = _number(r"Used (\d+) registers", report)
    warps, shared = compiled.metadata.num_warps, compiled.metadata.shared
    return Resources(
        registers=registers,
        spilled=_number(r"(\d+) bytes spill stores", report) + _number(r"(\d+) bytes spill loads", report),
        shared=shared,
        warps=warps,
        blocks=MULTIPROCESSORS[capability].resident_blocks(registers, warps, shared),
    )


def main() -> None:
    """Every combination: 4,320 lines, some twenty minutes."""
    print("| sm | D | N | dtype | kernel | options | tile | warps | registers | spilled | shared | blocks |")
    print("|" + "---|" * 12)
    for sizes, flags in itertools.product(
        itertools.product(DIMS, STATES, DTYPES), itertools.product((True, False), repeat=4)
    ):
        case = Case(*sizes, *flags)
        if case.last and not case.grad:
            continue  # the same as without
        for launch, capability in itertools.product(launches(case), MULTIPROCESSORS):
            need = resources(launch, capability)
            used = " ".join(name for name in ("skip", "initial", "last", "grad") if getattr(case, name))
            tile = "x".join(str(launch.options[name]) for name in ("CHUNK", "BLOCK_D", "BLOCK_N"))
            print(f"| {capability} | {case.dim} | {case.state} | {str(case.dtype).removeprefix('torch.')} | "
                  f"{launch.kernel.split('_')[1]} | {used} | {tile} | {need.warps} | {need.registers} | "
                  f"{need.spilled} | {need.shared} | {need.blocks} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
