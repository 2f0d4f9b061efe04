"""Weights from a path, a URL or a state dict; in our naming, the authors' or timm's.

The three namings of MambaOut's parameters:

ours                     timm                          authors
stem.*                   stem.*                        downsample_layers.0.*
stages.I.downsample.*    stages.I.downsample.*         downsample_layers.I.*
stages.I.blocks.J.*      stages.I.blocks.J.*           stages.I.J.*
head.norm.*              head.norm.*                   norm.*
head.fc1.*               head.pre_logits.fc.*          head.fc1.*
head.hidden_norm.*       head.pre_logits.norm.*        head.norm.*
head.fc2.*               head.fc.*                     head.fc2.*

``head.norm`` stands in all three and means two different tensors, so every name is mapped in one pass.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from mambaout.files.archive import check_archive
from mambaout.files.download import fetch_checkpoint
from mambaout.files.transfer import DownloadError, why

StateDict = dict[str, torch.Tensor]

# timm's copies of the authors' checkpoints, as safetensors.
RELEASED = {
    f"mambaout_{size}": f"https://huggingface.co/timm/mambaout_{size}.in1k/resolve/main/model.safetensors"
    for size in ("femto", "kobe", "tiny", "small", "base")
}

# Trained for this book on Fashion-MNIST: files below data/, each with its card in data/weights/README.md.
OWN = {name: f"weights/{name}.safetensors" for name in ("mambaout_fashion", "visual_mamba_fashion")}

_FROM_TIMM = (
    (r"head\.pre_logits\.fc\.", "head.fc1."),
    (r"head\.pre_logits\.norm\.", "head.hidden_norm."),
    (r"head\.fc\.", "head.fc2."),
)
_FROM_AUTHORS = (
    (r"downsample_layers\.0\.", "stem."),
    (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"norm\.", "head.norm."),
    (r"head\.norm\.", "head.hidden_norm."),
)
_TO_TIMM = (
    (r"head\.fc1\.", "head.pre_logits.fc."),
    (r"head\.hidden_norm\.", "head.pre_logits.norm."),
    (r"head\.fc2\.", "head.fc."),
)


class WeightsError(ValueError):
    """Weights that cannot be read, cannot be trusted, or do not fit the model."""


def _rename(state: Mapping[str, torch.Tensor], rules: tuple[tuple[str, str], ...]) -> StateDict:
    """Apply to each name the first rule that matches its beginning."""

    def new_name(name: str) -> str:
        for pattern, replacement in rules:
            if re.match(pattern, name):
                return re.sub(f"^{pattern}", replacement, name)
        return name

    return {new_name(name): tensor for name, tensor in state.items()}


def from_timm(state: Mapping[str, torch.Tensor]) -> StateDict:
    """timm's names -> ours."""
    return _rename(state, _FROM_TIMM)


def from_authors(state: Mapping[str, torch.Tensor]) -> StateDict:
    """The authors' names -> ours."""
    return _rename(state, _FROM_AUTHORS)


def to_timm(state: Mapping[str, torch.Tensor]) -> StateDict:
    """Our names -> timm's."""
    return _rename(state, _TO_TIMM)


def naming(state: Mapping[str, torch.Tensor]) -> str:
    """Whose names these are: "authors", "timm" or "ours"."""
    if any(name.startswith("downsample_layers.") for name in state):
        return "authors"
    if any(name.startswith(("head.pre_logits.", "head.fc.")) for name in state):
        return "timm"
    return "ours"


_CONVERT: dict[str, Callable[[Mapping[str, torch.Tensor]], StateDict]] = {
    "authors": from_authors,
    "timm": from_timm,
    "ours": dict,
}


def read_state_dict(path: str | Path, suffix: str | None = None) -> StateDict:
    """Read tensors from a .safetensors file or a PyTorch checkpoint, without running any code in it.

    Args:
        path: the file.
        suffix: what kind it is, ".safetensors" or another, where its name does not say.

    Raises:
        WeightsError: no such file, damaged, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}")
    try:
        if (suffix or path.suffix) == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if zipfile.is_zipfile(path):
            check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a plain checkpoint: it is damaged, or holds objects other than tensors, which could run "
            f"code when loaded; it was not loaded ({why(error)})"
        ) from error
    except Exception as error:  # a truncated file raises one of many types, in both libraries
        raise WeightsError(f"{path} cannot be read as weights, download or copy it again ({why(error)})") from error
    return tensors_in(state, path)


def tensors_in(state: Any, path: Path) -> StateDict:
    """The state dict in what a checkpoint holds.

    Raises:
        WeightsError: there is none; names the file.
    """
    if isinstance(state, dict) and isinstance(state.get("ema"), dict):
        state = state["ema"]  # of a training of ours: the average is what it evaluates and exports
    for key in ("state_dict", "model"):  # where training scripts put the tensors
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, got {type(state).__name__}")
    return state


def shape_of(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """``num_classes`` and ``in_chans`` of a MambaOut with these weights, in any of the three namings."""
    state = _CONVERT[naming(state)](state)
    sizes = {"num_classes": ("head.fc2.weight", 0), "in_chans": ("stem.conv1.weight", 1)}
    return {name: state[tensor].shape[axis] for name, (tensor, axis) in sizes.items() if tensor in state}


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, torch.Tensor],
    *,
    sha256: str | None = None,
    finite: bool = False,
) -> nn.Module:
    """Load weights into a model, whichever of the three namings they are in.

    Args:
        model: a model of this library.
        source: a path, an http(s) URL (kept in torch hub's checkpoint folder), or a state dict.
        sha256: the file's expected digest, checked for a download. Without it the digest that the server
            announces is checked, where it announces one.
        finite: refuse weights with numbers that are infinite or not a number.

    Returns:
        The same model.

    Raises:
        WeightsError: the source cannot be read, or belongs to another architecture; the model is unchanged.
    """
    if isinstance(source, Mapping):
        state, label = dict(source), "the given state dict"
    else:
        label = str(source)
        if label.startswith(("http://", "https://")):
            try:
                source = fetch_checkpoint(label, sha256, check=lambda path: _check_readable(path, label))
            except DownloadError as error:
                raise WeightsError(
                    f"{error}. Without internet, fetch the file elsewhere and pass its path to "
                    "mambaout.load_weights(model, path)"
                ) from error
        state = read_state_dict(source)
    state = _CONVERT[naming(state)](state)
    _check_fit(model, state, label, finite)
    model.load_state_dict(state)
    return model


def _check_readable(path: Path, url: str) -> None:
    read_state_dict(path, Path(urlparse(url).path).suffix)


def _check_fit(model: nn.Module, state: Mapping[str, Any], label: str, finite: bool) -> None:
    """Raise a WeightsError that says in which tensors the state dict and the model differ."""
    own = model.state_dict()
    problems = []
    if other := [name for name, value in state.items() if not _plain(value, own.get(name))]:
        raise WeightsError(f"{label} holds something else than ordinary tensors of real numbers: {_some(other)}")
    for what, names in (("lacks", own.keys() - state.keys()), ("has besides", state.keys() - own.keys())):
        if names:
            problems.append(f"it {what} {_some(sorted(names))}")
    shapes = [
        f"{name} {tuple(state[name].shape)} where the model has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(f"shapes differ: {_some(shapes)}")
    if finite and (wrong := [name for name, value in state.items() if not bool(value.isfinite().all())]):
        problems.append(f"not all numbers are finite in {_some(wrong)}")
    if problems:
        raise WeightsError(f"{label} does not fit this {type(model).__name__}: " + "; ".join(problems))


def _plain(value: Any, like: torch.Tensor | None) -> bool:
    """A dense tensor, of floating-point numbers where the model's is."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return like is None or value.dtype.is_floating_point == like.dtype.is_floating_point


def _some(items: list[str], shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
