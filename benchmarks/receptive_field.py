"""Effective receptive fields against the usual script: image by image, location by location, `backward()`.

The usual script runs the same model, so that the ratio is that of the methods alone.
"""

import subprocess
import sys
from functools import partial

import numpy as np
import torch
from torch import nn

import mambaout
from benchmarks.timing import THREADS
from mambaout.analysis.receptive_field import effective_receptive_fields
from mambaout.studies.measure import can_measure_peaks, medians, peak_extra_bytes

CENTRE_TARGET = 2.0  # times the usual script, 224 x 224
LOCATIONS_TARGET = 2.0  # times separate passes, all 49 of the last stage
MEMORY_TARGET = 4.0  # GiB for 1024 x 1024
LARGE = 1024


def usual_script(model: nn.Module, images: torch.Tensor, locations: list[tuple[int, int]]) -> np.ndarray:
    """Absolute gradients of the sum of channels, averaged over images, for each location: (K, H, W)."""
    fields = []
    for row, column in locations:
        total = torch.zeros(images.shape[2:])
        for image in images:
            x = image[None].clone().requires_grad_()
            model.zero_grad()
            model.forward_intermediates(x)[1][-1][:, :, row, column].sum().backward()  # type: ignore[operator]
            total += x.grad[0].abs().sum(0)
        fields.append(total / len(images))
    return torch.stack(fields).numpy()


def ours(model: nn.Module, images: torch.Tensor, locations: list[tuple[int, int]]) -> np.ndarray:
    """The same from the library: (K, H, W)."""
    fields = effective_receptive_fields(model, images, (-1,), locations, direction="sum", progress=False)
    return np.stack([field.map for field in fields])


def row(case: str, times: list[float], fields: int, target: float) -> dict[str, object]:
    fast, peer = (fields / t for t in times)
    return {"name": "effective receptive field of mambaout_femto, against the usual script", "case": case,
            "device": "cpu", "ours": round(fast, 3), "peer": round(peer, 3), "ratio": round(fast / peer, 3),
            "unit": "fields/s", "target": target}  # fmt: skip


def compare(
    case: str, images: torch.Tensor, locations: list[tuple[int, int]], repeats: int, target: float
) -> dict[str, object]:
    """One row; speed without equal maps means nothing."""
    torch.manual_seed(0)
    model = mambaout.create_model("mambaout_femto").eval()
    some = [locations[0], locations[-1]]
    expected = usual_script(model, images[:2], some)
    error = np.abs(ours(model, images[:2], some) - expected).max() / expected.max()
    if error > 1e-3:  # the sum of channels nearly cancels in an untrained model
        raise AssertionError(f"fields differ from the usual script's by {error:.1e}")
    works = [partial(ours, model, images, locations), partial(usual_script, model, images, locations)]
    return row(case, medians(works, "cpu", repeats), len(images) * len(locations), target)  # type: ignore[arg-type]


def large_image() -> None:
    """Print the GiB that one field of a large image needs; run in a process of its own."""
    torch.set_num_threads(THREADS)
    model = mambaout.create_model("mambaout_femto").eval()
    ours(model, torch.randn(1, 3, 64, 64), [(1, 1)])  # loads libraries
    images = torch.randn(1, 3, LARGE, LARGE)
    centre = LARGE // 64
    print(peak_extra_bytes(lambda: ours(model, images, [(centre, centre)]), "cpu") / 2**30)


def memory_row() -> dict[str, object]:
    """The ratio is the target over our need, so that 1 or more meets it."""
    code = "from benchmarks.receptive_field import large_image; large_image()"
    gib = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    return {"name": "effective receptive field of mambaout_femto, peak memory against the budget",
            "case": f"one image of {LARGE} x {LARGE}", "device": "cpu", "ours": round(gib, 2), "peer": MEMORY_TARGET,
            "ratio": round(MEMORY_TARGET / gib, 3), "unit": "GiB", "target": 1.0}  # fmt: skip


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    images = torch.randn(9, 3, 224, 224)
    repeats = 2 if quick else 5
    grid = [(i, j) for i in range(7) for j in range(7)]
    rows = [
        compare("centre, 9 images, 224 x 224", images, [(3, 3)], repeats, CENTRE_TARGET),
        compare("49 locations, 1 image, 224 x 224", images[:1], grid, repeats, LOCATIONS_TARGET),
    ]
    torch.set_num_threads(threads)
    return rows + ([memory_row()] if can_measure_peaks() else [])
