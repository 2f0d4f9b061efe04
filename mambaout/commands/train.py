"""`mambaout train` and `mambaout evaluate`: what they print around the functions of `mambaout.training`."""

import os
from pathlib import Path
from typing import Literal

from mambaout.training import Data, Machine, Recipe, evaluate, train


def run_training(recipe: Recipe, machine: Machine, out: Path) -> None:
    """Train, and say where the result lies."""
    run = train(recipe, machine, folder=out)
    if run.history and os.environ.get("RANK", "0") == "0":
        last = run.history[-1]
        print(f"{out}: {last.epoch} epochs, top-1 {100 * last.top1:.2f} %, top-5 {100 * last.top5:.2f} %")


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
    print(
        evaluate(
            what,
            chosen,
            architecture=architecture,
            device=device,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
        )
    )
