"""An ONNX file of any model, compared with PyTorch before it is handed out."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mambaout.kernels.scan import parallel_scan

TOLERANCE = 1e-4  # relative to the largest logit


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from PyTorch.

    Attributes:
        path: the file; it holds the weights.
        bytes: its size.
        error: largest difference between the logits of ONNX Runtime and PyTorch on random images.
        scale: the largest logit there.
        batches: the batch sizes that were compared.
    """

    path: Path
    bytes: int
    error: float
    scale: float
    batches: tuple[int, ...]


def export_onnx(model: nn.Module, path: str | Path, input_size: tuple[int, int, int]) -> Exported:
    """Write `images` (batch, C, H, W) -> `logits` (batch, classes) as ONNX, for any batch size.

    PyTorch's exporter writes the file. An SSM is exported as its parallel form, for the number of tokens of these
    images. The result is compared with PyTorch by ONNX Runtime, and only then moved to `path`.

    Args:
        model: takes (B, C, H, W), returns one tensor; on any device. It is exported in evaluation mode.
        path: of the file, ending in .onnx; an existing one is replaced.
        input_size: (C, H, W) of the images.

    Raises:
        ValueError: another ending, or logits that differ from PyTorch's by more than 1e-4 of the largest.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"the file's name must end in .onnx, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial.onnx")
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    try:
        with parallel_scan(), torch.no_grad():
            torch.onnx.export(
                model,
                (torch.zeros(2, *input_size),),
                partial,
                dynamo=True,
                external_data=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                verbose=False,
            )
        error, scale = compare(model, partial, input_size, batches := (1, 3))
        if not error <= TOLERANCE * scale:
            raise ValueError(f"ONNX Runtime's logits differ from PyTorch's by {error:.1e}; the file was not kept")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path, path.stat().st_size, error, scale, batches)


def compare(
    model: nn.Module, path: str | Path, input_size: tuple[int, int, int], batches: tuple[int, ...] = (1,)
) -> tuple[float, float]:
    """Run the file and the model on the same random images.

    Returns:
        The largest difference between their outputs, and the model's largest output.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name, generator = session.get_inputs()[0].name, torch.Generator().manual_seed(0)
    error, scale = 0.0, 0.0
    for batch in batches:
        images = torch.randn(batch, *input_size, generator=generator)
        with torch.no_grad():
            expected = model(images).numpy()
        (found,) = session.run(None, {name: images.numpy()})
        error = max(error, float(np.abs(found - expected).max()))
        scale = max(scale, float(np.abs(expected).max()))
    return error, scale
