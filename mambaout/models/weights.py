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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambaout.files.data import find
from mambaout.files.download import DownloadError, fetch_checkpoint

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


def read_state_dict(path: str | Path) -> StateDict:
    """Read tensors from a .safetensors file or a PyTorch checkpoint, without running any code in it.

    Raises:
        WeightsError: no such file, damaged, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a plain checkpoint: it is damaged, or holds objects other than tensors, which could run "
            f"code when loaded; it was not loaded ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # a truncated file raises one of many types, in both libraries
        raise WeightsError(f"{path} cannot be read as weights, download or copy it again ({error})") from error
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
    model: nn.Module, source: str | Path | Mapping[str, torch.Tensor], *, sha256: str | None = None
) -> nn.Module:
    """Load weights into a model, whichever of the three namings they are in.

    Args:
        model: a model of this library.
        source: a path, an http(s) URL (kept in torch hub's checkpoint folder), or a state dict.
        sha256: the file's expected digest, checked for a download. Without it the digest that the server
            announces is checked, where it announces one.

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
                source = fetch_checkpoint(label, sha256)
            except DownloadError as error:
                raise WeightsError(str(error)) from error
        state = read_state_dict(source)
    state = _CONVERT[naming(state)](state)
    _check_fit(model, state, label)
    model.load_state_dict(state)
    return model


def load_released(model: nn.Module, name: str) -> None:
    """Load the released weights of ``name``, or this book's own, adapting the two layers that a task may change."""
    if name in OWN:
        state = read_state_dict(find(OWN[name]))
    elif name in RELEASED:
        try:
            state = from_timm(read_state_dict(fetch_checkpoint(RELEASED[name])))
        except DownloadError as error:
            raise WeightsError(str(error)) from error
    else:
        raise WeightsError(f"no released weights for {name}; there are some for {', '.join([*RELEASED, *OWN])}")
    load_weights(model, adapt(state, model))


def adapt(state: StateDict, model: nn.Module) -> StateDict:
    """Fit trained weights to the model's ``in_chans`` and ``num_classes``.

    Fewer or more image channels take the trained filters summed (1 channel) or repeated and scaled, so that a grey
    image gives what its RGB copy gave, and the reverse; another number of classes keeps the model's fresh last layer.
    """
    own = model.state_dict()
    state = dict(state)
    filters = state["stem.conv1.weight"]  # (dim / 2, trained channels, 3, 3)
    trained, in_chans = filters.shape[1], own["stem.conv1.weight"].shape[1]
    if in_chans == 1:
        state["stem.conv1.weight"] = filters.sum(dim=1, keepdim=True)
    elif in_chans != trained:
        repeated = filters.repeat(1, -(-in_chans // trained), 1, 1)[:, :in_chans]
        state["stem.conv1.weight"] = repeated * (trained / in_chans)
    if "head.fc2.weight" in own and own["head.fc2.weight"].shape == state["head.fc2.weight"].shape:
        return state
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head.fc2.")}
    return state | {name: tensor for name, tensor in own.items() if name.startswith("head.fc2.")}


def _check_fit(model: nn.Module, state: Mapping[str, Any], label: str) -> None:
    """Raise a WeightsError that says in which tensors the state dict and the model differ."""
    own = model.state_dict()
    problems = []
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
    if problems:
        raise WeightsError(f"{label} does not fit this {type(model).__name__}: " + "; ".join(problems))


def _some(items: list[str], shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
