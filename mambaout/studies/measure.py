"""Time and memory that can be compared: interleaved runs in one process, medians, real peaks."""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mambaout.training.devices import peak_resident_bytes, process_status

Work = Callable[[], object]

PAGE_MAPPED = 65536  # bytes from which an allocation is a mapping of its own, given back as soon as it is freed
_M_MMAP_THRESHOLD = -3  # its number in glibc's malloc.h


def seconds(work: Work, device: str) -> float:
    """Wall time of one call, until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(works: list[Work], device: str, repeats: int) -> list[float]:
    """Median seconds of each, run in turn; the first round warms up and is dropped."""
    rounds = [[seconds(work, device) for work in works] for _ in range(repeats + 1)][1:]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def steady_seconds(work: Work, device: str, budget: float) -> float:
    """Median seconds of as many calls as fit in ``budget`` seconds, one at least.

    The first call warms up and is dropped, unless it took ten times the budget: what takes so long hides its own
    warm-up (but not a library that is loaded on first use: call something small before).
    """
    first = seconds(work, device)
    if first >= 10 * budget:
        return first
    times = [seconds(work, device)]
    while sum(times) < budget and len(times) < 100:
        times.append(seconds(work, device))
    return statistics.median(times)


def resident_bytes() -> int:
    """Resident memory of this process now (Linux)."""
    return process_status("VmRSS")


def can_measure_peaks() -> bool:
    """Whether :func:`peak_extra_bytes` works here on the CPU: it needs Linux with the C library glibc."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def peak_extra_bytes(work: Work, device: str) -> int:
    """How far memory rises above its level at the start during one call, whichever library allocates.

    On the CPU this is resident memory: call it in a process that does nothing else, after a small call that loads
    libraries and starts threads. The allocator first gives all that is free back to the system, or a block kept from
    before would hide a part of the need.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, PAGE_MAPPED)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before = resident_bytes()
    work()
    return max(0, peak_resident_bytes() - before)
