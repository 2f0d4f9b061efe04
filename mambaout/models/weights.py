"""Trained weights into models: from files, URLs, state dicts, or by a model's own name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambaout.files.data import find
from mambaout.models.checkpoints import (
    FLOATS,
    Checkpoint,
    WeightsError,
    read_checkpoint,
    read_state_dict,
    shape_of,
    tensors_in,
)
from mambaout.models.common import init_weights
from mambaout.models.features import Features
from mambaout.models.naming import StateDict, from_authors, from_timm, naming, to_timm
from mambaout.models.pretrained import OWN, RELEASED, TAGS, URLS
from mambaout.models.released import fetch_released

__all__ = [
    "OWN",
    "RELEASED",
    "WeightsError",
    "from_authors",
    "from_timm",
    "load_checkpoint",
    "load_pretrained",
    "load_weights",
    "naming",
    "read_state_dict",
    "shape_of",
    "tensors_in",
    "to_timm",
]


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, torch.Tensor],
    *,
    sha256: str | None = None,
    adapt: bool = False,
    finite: bool = False,
) -> nn.Module:
    """Load weights into a model, whichever of the three namings they are in.

    Where a file has averaged weights beside the raw ones, the average is taken. A model of ``features_only`` takes
    what it has kept. A model on the meta device, which has shapes and no numbers, comes to the CPU.

    Args:
        model: a model of this library.
        source: the folder of a training, a file, an http(s) URL (kept in torch hub's checkpoint folder), or a state
            dict.
        sha256: the file's expected digest, checked for a download. Without it the digest that the server
            announces is checked, where it announces one.
        adapt: fit the weights to the model's number of classes and of image channels, as ``pretrained=True`` does:
            another number of classes keeps the model's last layer, other channels take the trained filters summed,
            or repeated and scaled.
        finite: refuse weights with numbers that are infinite or not a number.

    Returns:
        The same model.

    Raises:
        WeightsError: the source cannot be read, or belongs to another architecture; the model is unchanged.
    """
    load_checkpoint(model, read_checkpoint(source, sha256), adapt=adapt, finite=finite)
    return model


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, *, adapt: bool = False, finite: bool = False) -> None:
    """:func:`load_weights` of a checkpoint that has been read."""
    model = model.model if isinstance(model, Features) else model
    state = checkpoint.state
    if adapt:
        state = adapted(state, model)
    pruned: Any = getattr(model, "pruned", ())
    state = {name: tensor for name, tensor in state.items() if name not in pruned}
    _check_fit(model, state, checkpoint.label, finite)
    meta = all(p.is_meta for p in model.parameters())
    if meta:
        model.to_empty(device="cpu")
        init_weights(model.get_classifier())  # type: ignore[operator]  # where it stays fresh
        state = {name: tensor for name, tensor in state.items() if not tensor.is_meta}
    model.load_state_dict(state, strict=not meta)


def load_pretrained(model: nn.Module, cfg: Mapping[str, Any]) -> None:
    """Load the weights that a ``pretrained_cfg`` names, adapting the two layers that a task may change.

    Raises:
        WeightsError: it names none, they cannot be had, or they do not fit.
    """
    if cfg.get("file"):
        path = Path(cfg["file"])
        source: str | Path = path if path.is_file() else find(cfg["file"])
    elif cfg.get("url"):
        released = next((name for name, url in URLS.items() if url == cfg["url"]), None)
        source = cfg["url"] if released is None else fetch_released(released)
    else:
        name = cfg.get("architecture")
        raise WeightsError(f"no released weights for {name}; there are some for {', '.join(TAGS)}")
    load_weights(model, source, adapt=True, finite=True)


def adapted(state: StateDict, model: nn.Module) -> StateDict:
    """Fit trained weights to the model's ``in_chans`` and ``num_classes``.

    Fewer or more image channels take the trained filters summed (1 channel) or repeated and scaled, so that a grey
    image gives what its RGB copy gave, and the reverse; another number of classes keeps the model's fresh last layer.
    """
    own = model.state_dict()
    state = dict(state)
    first, last = (f"{getattr(model, name)}." for name in ("first_conv", "classifier"))
    filters = state.get(f"{first}weight")  # (channels, trained channels, k, k)
    if filters is not None:
        trained, in_chans = filters.shape[1], own[f"{first}weight"].shape[1]
        if in_chans == 1:
            state[f"{first}weight"] = filters.sum(dim=1, keepdim=True)
        elif in_chans != trained:
            repeated = filters.repeat(1, -(-in_chans // trained), 1, 1)[:, :in_chans]
            state[f"{first}weight"] = repeated * (trained / in_chans)
    wanted, found = own.get(f"{last}weight"), state.get(f"{last}weight")
    if wanted is not None and found is not None and wanted.shape == found.shape:
        return state
    state = {name: tensor for name, tensor in state.items() if not name.startswith(last)}
    return state | {name: tensor for name, tensor in own.items() if name.startswith(last)}


def _check_fit(model: nn.Module, state: Mapping[str, Any], label: str, finite: bool) -> None:
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
    types = [
        f"{name} {tensor.dtype}"
        for name, tensor in state.items()
        if tensor.dtype not in FLOATS or tensor.layout != torch.strided
    ]
    if types:
        problems.append(f"expected floating point numbers of 16 bits or more, in dense tensors, got {_some(types)}")
    elif finite and (wrong := [n for n, tensor in state.items() if not (tensor.is_meta or tensor.isfinite().all())]):
        problems.append(f"not all numbers are finite in {_some(wrong)}")
    if problems:
        raise WeightsError(f"{label} does not fit this {type(model).__name__}: " + "; ".join(problems))


def _some(items: list[str], shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
