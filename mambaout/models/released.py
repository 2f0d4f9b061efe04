"""Released weights, and this book's own: fetched, verified against the model that they are for, and loaded.

No digest of the released files is known in advance: they cannot be had without the network, where this was written.
So a file is kept only if it is, byte for byte, what the server announces, and if its structure is complete: a header
that accounts for every byte, the model's tensors under timm's names with their shapes, in float32, all of them finite.
What it was is written down beside it, and compared whenever it is used.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambaout.files.data import find
from mambaout.files.download import altered, checkpoint_path, fetch_checkpoint
from mambaout.files.transfer import DownloadError
from mambaout.models.weights import (
    OWN,
    RELEASED,
    StateDict,
    WeightsError,
    from_timm,
    load_weights,
    read_state_dict,
    to_timm,
)

HEADER = 2**20  # bytes that names and shapes may take; those of the largest model take 30 kB


def load_released(model: nn.Module, name: str) -> None:
    """Load the released weights of ``name``, or this book's own, adapting the two layers that a task may change.

    Raises:
        WeightsError: there are none, or they cannot be had or trusted.
    """
    if name in OWN:
        state = read_state_dict(find(OWN[name]))
    elif name in RELEASED:
        state = from_timm(read_state_dict(fetch_released(name)))
    else:
        raise WeightsError(f"no released weights for {name}; there are some for {', '.join([*RELEASED, *OWN])}")
    load_weights(model, adapt(state, model), finite=True)


def fetch_released(name: str, *, replace: bool = False) -> Path:
    """Path of the verified file, downloaded where it is not there yet.

    Args:
        name: a model in `RELEASED`.
        replace: download it again where the copy that is there is damaged.

    Raises:
        WeightsError: it cannot be had, or is not what it should be.
    """
    url, expected = RELEASED[name], expected_tensors(name)
    limit = 4 * sum(shape.numel() for shape in expected.values()) + HEADER
    try:
        return fetch_checkpoint(url, limit=limit, check=lambda path: verify(path, expected), replace=replace)
    except DownloadError as error:
        raise WeightsError(
            f"{error}. `mambaout fetch --released-weights {name}` downloads it anew; without internet, fetch the file "
            f"elsewhere and put it at {checkpoint_path(url)}, or pass its path to mambaout.load_weights(model, path)"
        ) from error


def expected_tensors(name: str) -> dict[str, torch.Size]:
    """Names, in timm's naming, and shapes of the tensors in a model's released file."""
    from mambaout.models.registry import create_model

    with torch.device("meta"):  # shapes without memory
        model: Any = create_model(name)
    return {key: tensor.shape for key, tensor in to_timm(model.state_dict()).items()}


def problem(name: str) -> str | None:
    """What is wrong with the copy that was downloaded; None where nothing is."""
    expected = expected_tensors(name)
    return altered(checkpoint_path(RELEASED[name]), check=lambda path: verify(path, expected))


def verify(path: Path, expected: dict[str, torch.Size]) -> None:
    """Compare a safetensors file with what it should hold.

    Raises:
        WeightsError: it is cut short or too long, or a tensor is missing, unknown, of another shape or type, or not
            finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:  # compares the header with the length of the file
            found = file.keys()
            if odd := sorted(set(found) ^ expected.keys()):
                raise WeightsError(f"its tensors are not those of the model: {odd[0]} is missing or too many")
            for name in found:
                tensor = file.get_tensor(name)
                if tensor.shape != expected[name] or tensor.dtype != torch.float32:
                    raise WeightsError(
                        f"{name} is {tensor.dtype} {tuple(tensor.shape)}, expected float32 {tuple(expected[name])}"
                    )
                if not bool(tensor.isfinite().all()):
                    raise WeightsError(f"{name} has numbers that are not finite")
    except SafetensorError as error:
        raise WeightsError(f"no whole safetensors file ({error})") from error


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
