"""Small models that a study leaves in the repository: several in one safetensors file, as float16."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from filelock import FileLock
from torch import nn

from mambaout.files.data import data_dir, find
from mambaout.models.weights import read_state_dict
from mambaout.training import checkpoint

Model = TypeVar("Model", bound=nn.Module)


def variant_of(config: Any, variants: Mapping[str, Any]) -> str | None:
    """Which variant of a tuned study a configuration is, at whatever learning rate; None for any other."""
    same = (name for name, own in variants.items() if dataclasses.replace(own, lr=config.lr) == config)
    return next(same, None)


def keep(model: nn.Module, file: str, name: str) -> None:
    """Put the model's weights, under its name, beside those of others.

    Args:
        model: of any kind.
        file: below the data's folder, such as weights/retention.safetensors.
        name: replaces what was kept under the same one.
    """
    path = data_dir() / file
    path.parent.mkdir(exist_ok=True)
    own = {f"{name}.{key}": tensor.half() for key, tensor in model.state_dict().items()}
    with FileLock(path.with_name(f".{path.name}.lock")):  # another process may keep another model
        held = read_state_dict(path) if path.exists() else {}
        held = {key: tensor for key, tensor in held.items() if not key.startswith(f"{name}.")}
        checkpoint.export(path, dict(sorted((held | own).items())), {})


def restore(model: Model, file: str, name: str) -> Model:
    """Give the model the weights that :func:`keep` put there under this name; returns it."""
    prefix = f"{name}."
    kept = read_state_dict(find(file))
    model.load_state_dict({key.removeprefix(prefix): t.float() for key, t in kept.items() if key.startswith(prefix)})
    return model
