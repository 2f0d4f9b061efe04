"""How long `import mambaout` takes beside `import torch`."""

import statistics
import subprocess
import sys
import time

TARGET = 1.3  # at most this many times the time of `import torch`


def seconds(module: str) -> float:
    """A whole process, since an import can be timed once only."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def run(quick: bool = False) -> list[dict[str, object]]:
    """One row; the ratio is torch's time over ours, so 1 means that we add nothing."""
    rounds = [(seconds("mambaout"), seconds("torch")) for _ in range(3 if quick else 7)]
    ours, peer = (statistics.median(times) for times in zip(*rounds, strict=True))
    return [{"name": "import mambaout, against import torch", "case": "whole process", "device": "cpu",
             "ours": round(ours, 2), "peer": round(peer, 2), "ratio": round(peer / ours, 3), "unit": "s",
             "target": round(1 / TARGET, 2)}]  # fmt: skip
