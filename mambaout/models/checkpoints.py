"""Files of weights: what is in them, read without running any code that they may hold."""

import argparse
import contextlib
import json
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch

from mambaout.files.archive import check_archive
from mambaout.files.download import fetch_checkpoint
from mambaout.files.transfer import DownloadError, why
from mambaout.models.naming import StateDict, to_ours

FINISHED = "weights.safetensors"  # what a finished training leaves in its folder

# Where training scripts put the tensors. The average is what a training evaluates, so it comes first.
AVERAGED = ("ema", "state_dict_ema", "model_ema", "ema_state_dict")
RAW = ("state_dict", "model", "model_state_dict")
# What wrappers write before each name, an average again first.
PREFIXES = ("ema_model.", "model_ema.", "module.", "_orig_mod.", "model.", "backbone.", "net.")
FIRST = ("stem.conv1.weight", "downsample_layers.0.conv1.weight", "patch_embed.weight")  # every model has one of these
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Types without code of their own, which trainers put beside the weights: their settings, and numpy's numbers.
_NUMPY = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    torch.torch_version.TorchVersion,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    *((made, f"numpy.{core}.multiarray.{name}") for name, made in _NUMPY.items() for core in ("core", "_core")),
]


class WeightsError(ValueError):
    """Weights that cannot be read, cannot be trusted, or do not fit the model."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        label: what to call it in a message.
        state: the weights, in our naming.
        architecture: the model that they belong to, where the file says so; it may be one that we have not.
        settings: of that model, as "name=value", such as "dims=(48,96)".
        image_size: height and width of the images that it was trained on, where known.
        class_names: in the order of the model's outputs, where known.
    """

    label: str
    state: StateDict
    architecture: str | None = None
    settings: tuple[str, ...] = ()
    image_size: int | None = None
    class_names: tuple[str, ...] | None = None


def read_checkpoint(source: str | Path | Mapping[str, torch.Tensor], sha256: str | None = None) -> Checkpoint:
    """Read weights, and what stands beside them.

    Args:
        source: the folder of a training, a file, an http(s) URL (kept in torch hub's checkpoint folder), or a state
            dict.
        sha256: the file's expected digest, checked for a download. Without it the digest that the server announces is
            checked, where it announces one.

    Raises:
        WeightsError: the source cannot be read, or holds no weights.
    """
    if isinstance(source, Mapping):
        label = "the given state dict"
        return Checkpoint(label, to_ours(unwrapped(tensors_in(dict(source), label))))
    label = str(source)
    if label.startswith(("http://", "https://")):
        try:
            kind = Path(urlparse(label).path).suffix
            source = fetch_checkpoint(label, sha256, check=lambda path: _check_readable(path, kind))
        except DownloadError as error:
            raise WeightsError(
                f"{error}. Without internet, fetch the file elsewhere and pass its path to "
                "mambaout.load_weights(model, path)"
            ) from error
    path = file_of(Path(source))
    content, told = _read(path)
    return Checkpoint(label, to_ours(unwrapped(tensors_in(content, path))), **_about(told))


def file_of(path: Path) -> Path:
    """The file itself, or in the folder of a training the weights it ended with, or else its newest checkpoint.

    Raises:
        WeightsError: there is nothing of the kind.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"no weights at {path}: there is no such file or folder")
    found = sorted(path.glob("checkpoint-*.pt"))
    if (path / FINISHED).is_file():
        return path / FINISHED
    if not found:
        raise WeightsError(f"{path} has neither {FINISHED} nor a checkpoint: is it the folder of a training?")
    return found[-1]


def read_state_dict(path: str | Path) -> StateDict:
    """The tensors of a file, as they are named there; see :func:`read_checkpoint`."""
    content, _ = _read(Path(path))
    return tensors_in(content, path)


def _check_readable(path: Path, kind: str) -> None:
    tensors_in(_read(path, kind)[0], path)


def _read(path: Path, kind: str | None = None) -> tuple[Any, Mapping[str, Any]]:
    """What a .safetensors file or a PyTorch checkpoint holds, and where it tells about itself.

    ``kind`` is the suffix, where the file's own name does not have it.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}")
    try:
        if (kind or path.suffix) == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if zipfile.is_zipfile(path):
            check_archive(path)
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except Exception as error:  # a truncated file raises one of many types, in both libraries
        raise WeightsError(f"{path} cannot be read as weights, download or copy it again ({why(error)})") from error
    told = content if isinstance(content, Mapping) else {}
    return content, {**told, **told["about"]} if isinstance(told.get("about"), Mapping) else told


def _refusal(path: Path, message: str) -> str:
    """Why a pickle was not loaded."""
    named = re.search(r"GLOBAL (\S+) was not an allowed global|class (\S+)|blocked module (\S+)", message)
    if named is None:
        return f"{path} is damaged, or no plain checkpoint but objects that could run code: it was not loaded"
    what = next(name for name in named.groups() if name)
    return (
        f"{path} holds an object of type {what}, and reading it could run code: it was not loaded; save the state dict "
        "alone, torch.save(model.state_dict(), PATH)"
    )


def tensors_in(state: Any, path: str | Path) -> StateDict:
    """The state dict in what a checkpoint holds, the averaged one where there are two.

    Raises:
        WeightsError: there is none; names the file.
    """
    while isinstance(state, dict):
        key = next((key for key in (*AVERAGED, *RAW) if isinstance(state.get(key), dict) and state[key]), None)
        if key is None:
            break
        state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, got {_kind(state)}")
    other = [f"{name} ({_kind(value)})" for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, got {', '.join(other[:3])}")
    return state


def _kind(value: Any) -> str:
    return "nothing" if isinstance(value, dict) and not value else type(value).__name__


def unwrapped(state: Mapping[str, torch.Tensor]) -> StateDict:
    """Names without what DistributedDataParallel, torch.compile, Lightning and averages write before them."""
    state = dict(state)
    while not any(name in state for name in FIRST):
        inside = (
            {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            for prefix in PREFIXES
        )
        found = next((part for part in inside if any(name.endswith(FIRST) for name in part)), None)
        if found is None:
            break
        state = found
    return state


def shape_of(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """``num_classes`` (0 without a last layer) and ``in_chans`` of a model with these weights, in any naming."""
    state = to_ours(unwrapped(state))
    sizes = (
        ("num_classes", "head.fc2.weight", 0),
        ("num_classes", "head.weight", 0),
        ("in_chans", "stem.conv1.weight", 1),
        ("in_chans", "patch_embed.weight", 1),
    )
    known = {name: state[tensor].shape[axis] for name, tensor, axis in sizes if tensor in state}
    return {"num_classes": 0, **known} if known else known


def _about(told: Mapping[str, Any]) -> dict[str, Any]:
    """What our own trainings, and timm's, tell about a model."""
    about: dict[str, Any] = {}
    if isinstance(told.get("arch"), str):
        about["architecture"] = told["arch"]
    with contextlib.suppress(TypeError, ValueError, KeyError):  # not a training of ours
        recipe = json.loads(told["recipe"])
        if "num_classes" in told:  # else it trained a model of its user's
            about |= {"architecture": recipe["model"]["name"], "settings": tuple(recipe["model"]["settings"])}
            about["image_size"] = recipe["data"]["image_size"]
    names = told.get("class_names")
    with contextlib.suppress(ValueError):
        names = json.loads(names) if isinstance(names, str) else names
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        about["class_names"] = tuple(names)
    return about
