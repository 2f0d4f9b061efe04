"""What a training leaves in its folder, read back: the weights, and what they say about themselves."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambaout.models.checkpoints import FINISHED as WEIGHTS
from mambaout.models.weights import tensors_in
from mambaout.training import checkpoint
from mambaout.training.recipe import Recipe, from_json


@dataclass(frozen=True)
class RunFile:
    """A file of weights.

    Attributes:
        source: for :func:`mambaout.load_weights`: the file, or the tensors in a checkpoint (the moving average where
            there is one).
        recipe: that made them; None for another's weights.
        class_names: in the order of the outputs; None where the file does not say.
        shape: ``num_classes`` and ``in_chans``, where the recipe's model has these weights; else empty.
        own_data: whether the recipe names the data, which may also have been given.
    """

    source: Any
    recipe: Recipe | None = None
    class_names: tuple[str, ...] | None = None
    shape: dict[str, int] = field(default_factory=dict)
    own_data: bool = False


def weights_file(path: Path) -> Path:
    """The weights in a training's folder, or its newest checkpoint; a file is itself.

    Raises:
        ValueError: the folder has neither.
    """
    if not path.is_dir():
        return path
    finished, found = path / WEIGHTS, checkpoint.checkpoints(path)
    if not finished.is_file() and not found:
        raise ValueError(f"{path} has neither {WEIGHTS} nor a checkpoint: is it the folder of a training?")
    return finished if finished.is_file() else found[-1]


def read_run_file(path: Path) -> RunFile:
    """What a file of weights or a checkpoint says of itself.

    Raises:
        ValueError: it cannot be read, or is no file of a training.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                told = file.metadata() or {}
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read as weights: {error}") from error
        names = json.loads(told["class_names"]) if "class_names" in told else None
        return _run_file(path, told, names)
    state = checkpoint.load(path)
    if "recipe" not in state:
        return RunFile(path)
    return _run_file(tensors_in(state, path), state["about"] | {"recipe": state["recipe"]}, state.get("class_names"))


def _run_file(source: Any, told: dict[str, str], class_names: list[str] | None) -> RunFile:
    return RunFile(
        source,
        from_json(told["recipe"]) if "recipe" in told else None,
        None if class_names is None else tuple(class_names),
        {key: int(told[key]) for key in ("num_classes", "in_chans") if key in told},
        told.get("data") != "given",
    )
