"""`mambaout train` and `mambaout evaluate`: what they print around the functions of `mambaout.training`."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from mambaout.training import Data, Machine, Recipe, evaluate, train


def run_training(recipe: Recipe, machine: Machine, out: Path, compare: bool) -> None:
    """Train, and say where the result lies.

    Raises:
        ValueError: see :func:`mambaout.training.train`, and :func:`memory_in_a_sentence`.
    """
    with memory_in_a_sentence("--micro-batch"):
        run = train(recipe, machine, folder=out)
        if compare:
            from mambaout.training.compare import compare_starts

            report = compare_starts(run, machine)
    if run.history and os.environ.get("RANK", "0") == "0":
        last = run.history[-1]
        print(f"{out}: {last.epoch} epochs, top-1 {100 * last.top1:.2f} %, top-5 {100 * last.top5:.2f} %")
        if compare:
            print(report)


@contextlib.contextmanager
def memory_in_a_sentence(option: str) -> Iterator[None]:
    """PyTorch's many lines on memory that is short, the GPU's or that of the processes that decode, in one.

    Raises:
        ValueError: instead; names the option that makes batches smaller.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"the GPU's memory does not hold a batch: choose a smaller {option} ({str(error).splitlines()[0]})"
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            f"a process that decodes images has ended ({str(error).splitlines()[0]}): choose fewer --workers, or give "
            "them more memory; in a container, more shared memory"
        ) from error


def run_evaluation(
    what: str,
    data: str | None,
    folder: Path | None,
    image_size: int | None,
    architecture: str | None,
    device: Literal["auto", "cpu", "cuda", "mps"],
    precision: Literal["fp32", "bf16", "fp16"],
    batch_size: int,
    workers: int,
    whole: bool,
) -> None:
    """Print the report.

    Raises:
        ValueError: settings that do not go together, or see :func:`mambaout.training.evaluate`.
    """
    if folder is not None and data not in (None, "folder"):
        raise ValueError(f"--folder is for images of your own, but --data is {data}: leave out one of them")
    if data is None and folder is not None:
        data = "folder"
    if image_size is not None and data is None:
        raise ValueError("--image-size goes with --data or --folder")
    chosen = None if data is None else Data(data, folder, image_size)
    with memory_in_a_sentence("--batch-size"):
        report = evaluate(
            what,
            chosen,
            architecture=architecture,
            device=device,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
            whole=whole,
        )
    print(report)
