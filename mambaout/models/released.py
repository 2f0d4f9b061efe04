"""Released weights: fetched, and verified against the model that they are for.

No digest of the released files is known in advance: they cannot be had without the network, where this was written.
So a file is kept only if it is, byte for byte, what the server announces, and if its structure is complete: a header
that accounts for every byte, the model's tensors under timm's names with their shapes, in float32, all of them finite.
What it was is written down beside it, and compared whenever it is used.
"""

from pathlib import Path
from typing import Any

import torch

from mambaout.files.download import altered, checkpoint_path, fetch_checkpoint
from mambaout.files.transfer import DownloadError
from mambaout.models.checkpoints import WeightsError
from mambaout.models.naming import to_timm
from mambaout.models.pretrained import URLS

HEADER = 2**20  # bytes that names and shapes may take; those of the largest model take 30 kB


def fetch_released(name: str, *, replace: bool = False) -> Path:
    """Path of the verified file, downloaded where it is not there yet.

    Args:
        name: a model in `URLS`, with or without a tag.
        replace: download it again where the copy that is there is damaged.

    Raises:
        WeightsError: it cannot be had, or is not what it should be.
    """
    url, expected = URLS[name], expected_tensors(name)
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
    return altered(checkpoint_path(URLS[name]), check=lambda path: verify(path, expected))


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
