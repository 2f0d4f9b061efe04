"""`mambaout predict`: what a model takes pictures for."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mambaout.commands.pictures import Device, batches, class_names, lens, open_model

SHOWN = 20  # pictures of which the terminal and the grid tell


@dataclass(frozen=True)
class Prediction:
    """What a model says of a picture.

    Attributes:
        path: of the picture.
        classes: names, the most probable first.
        probabilities: theirs.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def __str__(self) -> str:
        """One line."""
        said = (f"{name} {100 * p:.1f} %" for name, p in zip(self.classes, self.probabilities, strict=True))
        return f"{self.path}: {', '.join(said)}"


@torch.no_grad()
def predict(
    what: str,
    places: Sequence[Path],
    *,
    top: int = 5,
    device: Device = "auto",
    batch_size: int = 64,
    workers: int = 4,
    problems: list[str] | None = None,
    pictures: list[torch.Tensor] | None = None,
) -> list[Prediction]:
    """The most probable classes of each picture.

    Args:
        what: a model with released weights, the folder of a training, or a file of weights.
        places: pictures, and folders of pictures.
        top: classes to tell.
        device: where; auto takes the GPU if there is one.
        batch_size: pictures at once.
        workers: processes that decode pictures.
        problems: takes a sentence for each picture that cannot be read and is left out.
        pictures: takes the first of them as the model saw them, (H, W) or (H, W, 3) from 0 to 1.

    Raises:
        ValueError: there is no such model, picture or folder.
    """
    from mambaout.training.devices import find_device

    model = open_model(what)
    if not model.num_classes:
        raise ValueError(f"{what} has no classes to tell: its weights end before the last layer; see mambaout embed")
    names = class_names(model)
    place = torch.device(find_device(device))
    model.to(place)
    view = lens(model)
    found = []
    for paths, x in batches(view, places, batch_size, workers, [] if problems is None else problems):
        probabilities, order = model(x.to(place)).float().softmax(-1).topk(min(top, len(names)))
        for path, p, classes in zip(paths, probabilities.tolist(), order.tolist(), strict=True):
            found.append(Prediction(path, tuple(names[i] for i in classes), tuple(p)))
        if pictures is not None and len(pictures) < SHOWN:
            pictures += view.seen(x)[: SHOWN - len(pictures)]
    return found


def run_predict(
    what: str,
    places: Sequence[Path],
    table: Path | None,
    grid: Path | None,
    top: int,
    device: Device,
    batch_size: int,
    workers: int,
) -> None:
    """Tell the predictions of the first pictures, and write all of them where that was asked for.

    Raises:
        ValueError: see :func:`predict`; or a file cannot be written.
    """
    problems: list[str] = []
    pictures: list[torch.Tensor] = []
    found = predict(what, places, top=top, device=device, batch_size=batch_size, workers=workers, problems=problems,
                    pictures=pictures)  # fmt: skip
    for prediction in found[:SHOWN]:
        print(prediction)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more" + ("" if table else "; --csv FILE writes all of them"))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if table is not None:
        _write_table(table, found)
    if grid is not None:
        _write_grid(grid, found, pictures)


def _write_table(path: Path, found: Sequence[Prediction]) -> None:
    top = len(found[0].classes)
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["picture", *(f"{what}_{i + 1}" for i in range(top) for what in ("class", "probability"))])
            for one in found:
                pairs = zip(one.classes, (f"{p:.6f}" for p in one.probabilities), strict=True)
                writer.writerow([one.path, *(value for pair in pairs for value in pair)])
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    print(f"{path}: {len(found)} pictures")


def _write_grid(path: Path, found: Sequence[Prediction], pictures: Sequence[torch.Tensor]) -> None:
    try:
        import matplotlib.pyplot as plt

        from mambaout.figures import image_grid
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: a grid needs `pip install 'mambaout[book]'`") from error
    titles = [f"{one.classes[0]}\n{100 * one.probabilities[0]:.0f} %" for one in found[: len(pictures)]]
    image_grid(torch.stack(list(pictures)).numpy(), titles)
    try:
        plt.gcf().savefig(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    finally:
        plt.close()
    print(f"{path}: {len(pictures)} pictures")
