"""MambaOut against timm's model of the same name, with the same weights."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F

import mambaout
from benchmarks.timing import THREADS
from mambaout.models import MambaOut, MambaOutConfig
from mambaout.studies.measure import medians

# Ratio of times (timm's over ours) that each case should reach on a CPU.
INFERENCE = {("femto", 8): 1.4, ("tiny", 8): 1.15, ("femto", 1): 1.0, ("tiny", 1): 1.0}
TRAINING = {"femto": 1.3, "tiny": 1.2}
# How many times the training step of the same MambaOut a step with the SSM may take, by the order of reading.
SSM_STEP = {"raster": 1.6, "cross": 2.5}
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
SIZES = ("femto", "kobe", "tiny", "small", "base")


def make_pair(size: str, device: str) -> tuple[nn.Module, nn.Module]:
    """Our model and timm's, with the same random weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(f"mambaout_{size}")
    for p in theirs.parameters():
        p.data += 0.02 * torch.randn_like(p)
    ours = mambaout.load_weights(mambaout.create_model(f"mambaout_{size}"), theirs.state_dict())
    return ours.to(device), theirs.to(device)


def infer(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images)


def train_step(model: nn.Module, images: torch.Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(model(images).float(), torch.zeros(len(images), dtype=torch.long, device=images.device)).backward()


def row(name: str, case: str, device: str, times: list[float], images: int, target: float | None) -> dict[str, object]:
    """One row: images a second of ours and of the peer; ratio > 1 means that ours is faster."""
    ours, peer = (images / t for t in times)
    return {"name": name, "case": case, "device": device, "ours": round(ours, 2), "peer": round(peer, 2),
            "ratio": round(ours / peer, 3), "unit": "images/s", "target": target}  # fmt: skip


def check_equal(ours: nn.Module, theirs: nn.Module, images: torch.Tensor) -> None:
    """Speed without equal outputs means nothing."""
    expected = infer(theirs, images)
    error = (infer(ours, images) - expected).norm() / expected.norm()
    if error > 1e-5:
        raise AssertionError(f"outputs differ from timm's by {error:.1e}")


def compare(
    work: Callable[[nn.Module, torch.Tensor], object],
    pair: tuple[nn.Module, nn.Module],
    images: torch.Tensor,
    repeats: int,
) -> list[float]:
    """Median seconds of the work with either model."""
    return medians([partial(work, model, images) for model in pair], images.device.type, repeats)


def run_cpu(quick: bool) -> list[dict[str, object]]:
    rows = []
    repeats = 5 if quick else 9
    for size in ("femto",) if quick else ("femto", "tiny"):
        ours, theirs = make_pair(size, "cpu")
        images = torch.randn(8, 3, 224, 224)
        ours.eval(), theirs.eval()
        check_equal(ours, theirs, images)
        padded = mambaout.optimize_for_inference(ours)
        for batch in (8, 1):
            case = f"batch {batch}, 224 x 224, float32"
            times = compare(infer, (ours, theirs), images[:batch], repeats)
            target = INFERENCE[size, batch]
            rows.append(row(f"mambaout_{size} inference, against timm", case, "cpu", times, batch, target))
            times = compare(infer, (padded, theirs), images[:batch], repeats)
            name = f"mambaout_{size} inference, padded widths, against timm"
            rows.append(row(name, case, "cpu", times, batch, None))
        times = compare(train_step, (ours.train(), theirs.train()), images, repeats)
        name, case = f"mambaout_{size} training step, against timm", "batch 8, 224 x 224, float32"
        rows.append(row(name, case, "cpu", times, 8, TRAINING[size]))
    return rows


def run_ssm(quick: bool) -> list[dict[str, object]]:
    """What the SSM costs a small network, as the studies train it: 64 px, batch 32, 16 numbers of state."""
    models = {}
    for scan in (None, *SSM_STEP):
        torch.manual_seed(0)
        mixer: dict[str, Any] = {} if scan is None else {"token_mixer": "mamba", "scan": scan}
        models[scan] = MambaOut(MambaOutConfig(depths=(1, 2), dims=(32, 64), num_classes=10, **mixer)).train()
    images = torch.randn(32, 3, 64, 64)
    works: list[Callable[[], object]] = [partial(train_step, model, images) for model in models.values()]
    times = dict(zip(models, medians(works, "cpu", 5 if quick else 21), strict=True))
    case = "64 px, batch 32, 1 + 2 blocks of 32 and 64 channels, N 16"
    return [
        {"name": f"training step with the SSM ({scan}), against the same without", "case": case, "device": "cpu",
         "ours": 1e3 * times[scan], "peer": 1e3 * times[None], "ratio": times[None] / times[scan], "unit": "ms",
         "target": round(1 / most, 3)}
        for scan, most in SSM_STEP.items()
    ]  # fmt: skip


def run_cuda(quick: bool) -> list[dict[str, object]]:
    """All variants: eager and compiled, float32 and bfloat16, both memory formats, inference and training."""
    rows = []
    repeats, batch = (5, 64) if quick else (20, 256)
    for size in ("femto",) if quick else SIZES:
        ours, theirs = make_pair(size, "cuda")
        images = torch.randn(batch, 3, 224, 224, device="cuda")
        check_equal(ours.eval(), theirs.eval(), images[:8])
        padded = mambaout.optimize_for_inference(ours, 64)
        modes: list[tuple[str, Callable[..., object], tuple[Any, Any]]] = [
            ("eager", infer, (ours, theirs)),
            ("widths padded to 64", infer, (padded, theirs)),
            ("compiled", infer, (torch.compile(ours), torch.compile(theirs))),
            ("eager", train_step, (ours, theirs)),
            ("compiled", train_step, (torch.compile(ours), torch.compile(theirs))),
        ]
        for (mode, work, pair), dtype, layout in itertools.product(modes, DTYPES, LAYOUTS):
            for model in (ours, theirs):
                model.train(work is train_step)
            with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
                times = compare(work, pair, images.contiguous(memory_format=LAYOUTS[layout]), repeats)
            label = "training step" if work is train_step else "inference"
            case = f"{mode}, batch {batch}, {str(dtype).removeprefix('torch.')}, {layout}"
            rows.append(row(f"mambaout_{size} {label}, against timm", case, "cuda", times, batch, None))
    return rows


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for the CPU, and for the GPU where there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    rows = run_cpu(quick) + run_ssm(quick)
    torch.set_num_threads(threads)
    return rows + (run_cuda(quick) if torch.cuda.is_available() else [])
