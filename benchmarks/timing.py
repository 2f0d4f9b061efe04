"""Timing that can be compared: interleaved runs in one process, medians."""

import statistics
import time
from collections.abc import Callable

import torch

THREADS = 2  # the machine that the book is written for


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(works: list[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Median seconds of each, run in turn; the first round warms up and is dropped."""
    rounds = [[seconds(work, device) for work in works] for _ in range(repeats + 1)][1:]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]
