"""A model made ready for the page: two ONNX graphs that read their weights from the model's own file.

`forward` gives the class probabilities, the maps of the stages and the branches inside each block; `gradient` gives
what one output reads: the vector-Jacobian product of the maps, as in :mod:`mambaout.analysis.receptive_field`. Both
take switches: a number for each part of each block, 1 with it and 0 without.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambaout.export.operators import translate
from mambaout.export.tracing import trace
from mambaout.kernels.convolve import convolve
from mambaout.kernels.scan import parallel_scan
from mambaout.layers import GatedCNNBlock, MambaBlock
from mambaout.models.mambaout import MambaOut

WEIGHTS = "weights.safetensors"  # how the graphs call the file that they read
PARTS = ("gate", "conv", "ssm")


@dataclass(frozen=True)
class LiveModel:
    """What the page needs of one model.

    Attributes:
        forward: an ONNX graph, image (1, C, H, W) and switches (blocks, parts) -> probabilities (1, classes), `map0`,
            `map1`, ... (1, C, H, W), and `block0`, ... (1, 2 hidden, H, W): the gate, then the channels that pass, then
            the convolved ones.
        gradient: another, image, switches and `cotangent0`, ... of the maps' shapes -> `field` (H, W): the sum over the
            image's channels of \\|d (sum of cotangent * map) / d image\\|.
        weights: the .safetensors file that both read.
        maps: the shape (C, H, W) of each stage's map.
        blocks: for each block its `stage`, its height and width, and how many channels are `gate`, `identity` and
            `convolved`.
        parts: what the columns of the switches turn off.
        signs: for each stage the random signs of the channels with which a receptive field is measured (C,).
        mean, std: how grey values from 0 to 1 are normalised.
    """

    forward: bytes
    gradient: bytes
    weights: bytes
    maps: list[list[int]]
    blocks: list[dict[str, int]]
    parts: list[str]
    signs: list[list[int]]
    mean: float
    std: float

    def write(self, folder: str | Path) -> None:
        """`forward.onnx`, `gradient.onnx` and the weights that both read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {"forward.onnx": self.forward, "gradient.onnx": self.gradient, WEIGHTS: self.weights}
        for name, content in files.items():
            (folder / name).write_bytes(content)


class Opened(nn.Module):
    """A MambaOut whose blocks have switches and show their branches.

    With all switches at 1 it computes what the model computes, from the same parameters.
    """

    def __init__(self, model: MambaOut) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, switches: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Image (1, C, H, W), switches (blocks, parts) -> probabilities, the stages' maps, the blocks' branches."""
        x = self.model.tokens(image)
        maps: list[Tensor] = []
        branches: list[Tensor] = []
        for downsample, blocks in stages_of(self.model):
            x = downsample(x)
            for block in blocks:
                x, inside = switched(block, x, switches[len(branches)])
                branches.append(inside.permute(0, 3, 1, 2))
            maps.append(x.permute(0, 3, 1, 2))
        return self.model.head(x).softmax(-1), maps, branches


def stages_of(model: MambaOut) -> list[tuple[nn.Module, list[GatedCNNBlock]]]:
    """Each stage's downsampling and its blocks."""
    stages: Any = model.stages
    return [(stage.downsample, list(stage.blocks)) for stage in stages]


def switched(block: GatedCNNBlock, x: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
    """One block with its parts blended in.

    Off, the gate multiplies by 1, and the convolution and the SSM hand on what they receive.

    Args:
        block: without or with an SSM.
        x: (B, H, W, dim).
        on: (parts,), 1 or 0 for the gate, the convolution and the SSM, or anything between.

    Returns:
        The block's output (B, H, W, dim), and its branches (B, H, W, 2 hidden).
    """
    gate, identity, z = block.fc1(block.norm(x)).split(block.split, dim=-1)
    gate = on[0] * F.gelu(gate) + (1 - on[0])
    mixed = on[1] * convolve(block.conv, z) + (1 - on[1]) * z
    if isinstance(block, MambaBlock):
        local = F.gelu(mixed)
        mixed = on[2] * block.mix(local) + (1 - on[2]) * local
    y = x + block.fc2(gate * torch.cat((identity, mixed), dim=-1))
    return y, torch.cat((gate, identity, mixed), dim=-1)


def live_model(model: nn.Module, weights: str | Path) -> LiveModel:
    """Export a MambaOut for the page.

    Args:
        model: a MambaOut of Gated CNN blocks, or of Mamba blocks that read in raster order.
        weights: the .safetensors file that it was loaded from; names and shapes are compared.

    Raises:
        ValueError: another kind of model or block, or a file that does not fit it.
    """
    if not isinstance(model, MambaOut):
        raise ValueError(f"expected a MambaOut, got {type(model).__name__}")
    blocks = [block for _, inside in stages_of(model) for block in inside]
    if model.cfg.scan != "raster" or not all(type(block) in (GatedCNNBlock, MambaBlock) for block in blocks):
        got = f"{model.cfg.token_mixer}, {model.cfg.scan}"
        raise ValueError(f"expected Gated CNN blocks, or Mamba blocks in raster order; got {got}")
    content = Path(weights).read_bytes()
    opened = Opened(model).eval()
    parameters: dict[str, Tensor] = {name: p.detach() for name, p in opened.named_parameters()}
    tensors = external(content, {name.removeprefix("model."): p for name, p in parameters.items()})
    parts = list(PARTS[: 3 if isinstance(blocks[0], MambaBlock) else 2])
    cfg = model.pretrained_cfg
    image = torch.zeros(1, *cfg["input_size"])
    switches = torch.ones(len(blocks), len(parts))
    with parallel_scan(), torch.no_grad():
        _, maps, branches = opened(image, switches)

        def forward(p: Mapping[str, Tensor], image: Tensor, switches: Tensor) -> tuple[Tensor, ...]:
            probabilities, maps, inside = torch.func.functional_call(opened, dict(p), (image, switches))
            return (probabilities, *maps, *inside)

        def gradient(p: Mapping[str, Tensor], image: Tensor, switches: Tensor, *cotangents: Tensor) -> Tensor:
            def maps_of(image: Tensor) -> tuple[Tensor, ...]:
                return tuple(torch.func.functional_call(opened, dict(p), (image, switches))[1])

            pullback = torch.func.vjp(maps_of, image)[1]
            (found,) = pullback(cotangents)
            return found.abs().sum((0, 1))  # (H, W)

        with torch.enable_grad():
            asked = trace(gradient, parameters, image, switches, *maps)
        given = trace(forward, parameters, image, switches)
    map_names, block_names = [f"map{i}" for i in range(len(maps))], [f"block{i}" for i in range(len(branches))]
    inputs, asks = ["image", "switches"], [f"cotangent{i}" for i in range(len(maps))]
    return LiveModel(
        forward=translate(given, tensors, inputs, ["probabilities", *map_names, *block_names]).SerializeToString(),
        gradient=translate(asked, tensors, [*inputs, *asks], ["field"]).SerializeToString(),
        weights=content,
        maps=[list(y.shape[1:]) for y in maps],
        blocks=[
            {"stage": i, "height": y.shape[2], "width": y.shape[3]}
            | dict(zip(("gate", "identity", "convolved"), block.split, strict=True))
            for i, ((_, inside), y) in enumerate(zip(stages_of(model), maps, strict=True))
            for block in inside
        ],
        parts=parts,
        signs=[channel_signs(y.shape[1]) for y in maps],
        mean=float(cfg["mean"][0]),
        std=float(cfg["std"][0]),
    )


def channel_signs(channels: int) -> list[int]:
    """The signs that :func:`~mambaout.analysis.receptive_field.effective_receptive_field` draws for a first image."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(0, 2, (1, channels), generator=generator) * 2 - 1)[0].tolist()


def external(content: bytes, parameters: Mapping[str, Tensor]) -> list[onnx.TensorProto]:
    """ONNX tensors that lie in a .safetensors file, for parameters in their order.

    The format: the length of a JSON header as a little-endian 64-bit integer, the header with each tensor's type,
    shape and place, then the numbers.

    Raises:
        ValueError: a parameter that is not in the file with this shape as float32.
    """
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    tensors = []
    for name, parameter in parameters.items():
        entry = header.get(name)
        if entry is None or entry["shape"] != list(parameter.shape) or entry["dtype"] != "F32":
            raise ValueError(f"the file of weights holds no {name} of {tuple(parameter.shape)} in float32: {entry}")
        start, end = entry["data_offsets"]
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=parameter.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", 8 + length + start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    return tensors
