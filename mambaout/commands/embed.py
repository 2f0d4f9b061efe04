"""`mambaout embed`: pictures as vectors, for search, clusters or a classifier of one's own."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mambaout.commands.pictures import Device, batches, lens, open_model


@torch.no_grad()
def embed(
    what: str,
    places: Sequence[Path],
    *,
    device: Device = "auto",
    batch_size: int = 64,
    workers: int = 4,
    problems: list[str] | None = None,
) -> tuple[list[Path], np.ndarray]:
    """What a model's last layer reads of each picture.

    Args:
        what, places, device, batch_size, workers, problems: see :func:`mambaout.commands.predict.predict`.

    Returns:
        The pictures, and their features (N, ``head_hidden_size``) as float32.
    """
    from mambaout.training.devices import find_device

    model = open_model(what)
    place = torch.device(find_device(device))
    model.to(place)
    paths: list[Path] = []
    features = []
    for some, x in batches(lens(model), places, batch_size, workers, [] if problems is None else problems):
        paths += some
        features.append(model.forward_head(model.forward_features(x.to(place)), pre_logits=True).float().cpu())
    return paths, torch.cat(features).numpy()


def run_embed(
    what: str, places: Sequence[Path], out: Path, device: Device, batch_size: int, workers: int
) -> None:
    """Write the features, and say how many.

    Raises:
        ValueError: see :func:`embed`; or the file cannot be written.
    """
    if out.suffix not in (".npz", ".csv"):
        raise ValueError(f"--out must end in .npz or .csv, got {out}")
    problems: list[str] = []
    paths, features = embed(what, places, device=device, batch_size=batch_size, workers=workers, problems=problems)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    try:
        if out.suffix == ".npz":
            np.savez_compressed(out, features=features, pictures=np.array([str(path) for path in paths]))
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["picture", *(f"feature_{i}" for i in range(features.shape[1]))])
                writer.writerows([path, *row] for path, row in zip(paths, features.tolist(), strict=True))
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}") from error
    print(f"{out}: {features.shape[0]} pictures, {features.shape[1]} features each")
