"""Parameters and multiply-adds (MACs), counted on the real modules.

The convention is fvcore's, which gives the paper's figures: a convolution or linear layer counts one MAC for
every multiplication, a LayerNorm five for every number that it normalises, everything else nothing. On top of it,
where fvcore knows no rule: a selective scan, and the two products of an attention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mambaout.layers import Attention, GatedCNNBlock, MambaBlock, SelectiveSSM
from mambaout.layers.windowed import MaskedAttention
from mambaout.models import MambaOutConfig, create_model
from mambaout.models.registry import MODELS


@dataclass(frozen=True)
class LayerCost:
    """One layer of a model.

    Attributes:
        name: the module's name, such as "stages.0.blocks.1.fc1".
        kind: its class, such as "Linear".
        params: its own parameters, without those of modules inside it.
        macs: multiply-adds for one image, likewise.
        out_shape: shape of its output, without the batch.
    """

    name: str
    kind: str
    params: int
    macs: int
    out_shape: tuple[int, ...]


def _linear_macs(layer: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel() * layer.in_features


def _conv_macs(layer: nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel() * layer.weight[0].numel()


def _norm_macs(layer: nn.LayerNorm, x: torch.Tensor, y: torch.Tensor) -> int:
    return 5 * y.numel()


def _ssm_macs(layer: SelectiveSSM, x: torch.Tensor, y: torch.Tensor) -> int:
    """Delta's projection; Delta A, A_bar h, B (Delta u) and C h for every number of state; Delta u and D u."""
    return y.numel() * (layer.dt_rank + 4 * layer.d_state + 2)


def _attention_macs(layer: Attention, x: torch.Tensor, y: torch.Tensor) -> int:
    """Q K^T and its product with V: 2 L^2 D in all, half of it when causal (the term 4 D L^2 of Eq. 6, in FLOPs)."""
    return 2 * y.numel() * y.shape[-2] // (2 if layer.causal else 1)


def _masked_attention_macs(layer: MaskedAttention, x: torch.Tensor, y: torch.Tensor) -> int:
    """The same two products, for the pairs of tokens that the mask allows."""
    pairs = int(layer.mask(y.shape[1], y.shape[2], torch.device("cpu")).sum())
    return 2 * pairs * y.shape[-1] * y.shape[0]


MACS: dict[type[nn.Module], Callable[[Any, torch.Tensor, torch.Tensor], int]] = {
    nn.Linear: _linear_macs,
    nn.Conv2d: _conv_macs,
    nn.LayerNorm: _norm_macs,
    SelectiveSSM: _ssm_macs,
    Attention: _attention_macs,
    MaskedAttention: _masked_attention_macs,
}


def count_parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, *input_shape: int) -> int:
    """Multiply-adds for one input of ``input_shape`` (without batch), such as 3, 224, 224."""
    return sum(layer.macs for layer in layer_costs(model, *input_shape))


@torch.no_grad()
def layer_costs(model: nn.Module, *input_shape: int) -> list[LayerCost]:
    """Cost of every layer for one input of ``input_shape``, in the order of their calls.

    Layers are counted as they are called: one that is called twice stands twice, one that is not called nowhere.
    """
    costs: list[LayerCost] = []

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            params = sum(p.numel() for p in module.parameters(recurse=False))
            macs = MACS[type(module)](module, inputs[0], output)
            costs.append(LayerCost(name, type(module).__name__, params, macs, tuple(output.shape[1:])))

        return hook

    hooks = [m.register_forward_hook(count(name)) for name, m in model.named_modules() if type(m) in MACS]
    training = model.training
    try:
        like = next(model.parameters())
        model.eval()(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return costs


def block_components(block: GatedCNNBlock, height: int, width: int) -> list[dict[str, Any]]:
    """Cost of a block's parts on a map of height x width tokens.

    Returns:
        For each part: "name" (norm, fc1_value, fc1_gate, conv, ssm or attn, fc2), "params", "macs", "equation".
    """
    equations = {"norm": "Eq. 8", "conv": "Eq. 10", "ssm": "Eq. 11", "attn": "Eqs. 4-5"}  # the others: Eq. 9
    parts: dict[str, list[int]] = {}
    for layer in layer_costs(block, height, width, block.fc2.out_features):
        # fc1 makes the gate and the value, half each; whatever the SSM consists of is one part.
        halves = ("fc1_value", "fc1_gate") if layer.name == "fc1" else (layer.name.split(".")[0],)
        for part in halves:
            params, macs = parts.setdefault(part, [0, 0])
            parts[part] = [params + layer.params // len(halves), macs + layer.macs // len(halves)]
    order = ("norm", "fc1_value", "fc1_gate", "conv", "ssm", "attn", "fc2")
    return [
        {"name": name, "params": parts[name][0], "macs": parts[name][1], "equation": equations.get(name, "Eq. 9")}
        for name in order
        if name in parts
    ]


def block_preset(label: str, dim: int, height: int, width: int) -> dict[str, Any]:
    """What the block diagram shows of a Mamba block of ``dim`` channels on height x width tokens."""
    block = MambaBlock(dim).requires_grad_(False)
    hidden, _, conv_channels = block.split
    return {
        "label": label,
        "height": height,
        "width": width,
        "dim": dim,
        "hidden": hidden,
        "conv_channels": conv_channels,
        "kernel_size": block.conv.kernel_size[0],
        "d_state": block.ssm.d_state,
        "dt_rank": block.ssm.dt_rank,
        "components": block_components(block, height, width),
    }


def architecture(name: str) -> dict[str, Any]:
    """Every layer of a MambaOut by name, with its cost per position of its map, for any image size.

    Returns:
        "name", "depths", "dims" and "layers": for each layer "group" (stem, downsample, block, head), "stage",
        "block", "layer", "kind", "params", "macs_per_position", "halvings" (how often the image was halved
        where the layer's output lies; None in the head, which has one position) and "out_channels".
    """
    config = MODELS[name]
    if not isinstance(config, MambaOutConfig):
        raise ValueError(f"{name} is no MambaOut: it has no stages to explore")
    side = 2**10  # any power of two that no stage halves below one
    with torch.device("meta"):  # shapes are enough
        costs = layer_costs(create_model(name), config.in_chans, side, side)
    layers = []
    for cost in costs:
        head = cost.name.startswith("head.")
        positions = 1 if head else cost.out_shape[0] * cost.out_shape[1]
        if cost.kind == "Conv2d":  # (C, H, W), where the others are (H, W, C)
            positions = cost.out_shape[1] * cost.out_shape[2]
        place = cost.name.split(".")
        in_block = "blocks" in place
        layers.append(
            {
                "group": "block" if in_block else "downsample" if "downsample" in place else place[0],
                "stage": int(place[1]) if place[0] == "stages" else None,
                "block": int(place[3]) if in_block else None,
                "layer": place[-1],
                "kind": cost.kind,
                "params": cost.params,
                "macs_per_position": cost.macs // positions,
                "halvings": None if head else (side * side // positions).bit_length() // 2,
                "out_channels": cost.out_shape[0] if cost.kind == "Conv2d" else cost.out_shape[-1],
            }
        )
    return {"name": name, "depths": list(config.depths), "dims": list(config.dims), "layers": layers}


@torch.no_grad()
def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of one call by PyTorch's own counter: of products of matrices, attention and convolutions.

    Attention runs by its plain kernel meanwhile: before PyTorch 2.15 the counter took the fused one of the CPU for
    nothing, without a word.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()
