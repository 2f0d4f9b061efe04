"""Rewrites that leave a model's outputs as they are and make its inference faster."""

import copy

import torch
from torch import nn

from mambaout.layers import DropPath, GatedCNNBlock


@torch.no_grad()
def optimize_for_inference(model: nn.Module, multiple: int = 8) -> nn.Module:
    """A copy of the model for inference: same outputs, hidden widths padded, no gradients, no stochastic depth.

    ``int(8 / 3 * dim)`` makes hidden widths such as 341, which matrix units that work on 8 or 64 numbers at a time
    fit badly. Zero rows in fc1 and zero columns in fc2 add hidden channels that are always 0: the gate's GELU(0)
    is 0, and fc2 ignores them besides.

    Args:
        model: any model of this library; it is not changed.
        multiple: hidden widths become multiples of it.

    Returns:
        The copy, in evaluation mode. Its state dict has the padded shapes, so load weights before.
    """
    if multiple < 1:
        raise ValueError(f"multiple must be 1 or more, got {multiple}")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, GatedCNNBlock):
            _pad_hidden(module, multiple)
            module.drop_path = DropPath(0.0)
    return model


def _pad_hidden(block: GatedCNNBlock, multiple: int) -> None:
    hidden, passed, mixed = block.split
    extra = -hidden % multiple
    if not extra:
        return

    def with_zero_rows(t: torch.Tensor) -> torch.Tensor:
        gate, identity, z = t.split(block.split)
        zeros = t.new_zeros(extra, *t.shape[1:])
        return torch.cat((gate[:passed], zeros, gate[passed:], identity, zeros, z))

    fc1, fc2 = block.fc1, block.fc2
    fc1.weight, fc1.bias = (nn.Parameter(with_zero_rows(p), requires_grad=False) for p in (fc1.weight, fc1.bias))
    columns = fc2.weight[:, :passed], fc2.weight.new_zeros(fc2.out_features, extra), fc2.weight[:, passed:]
    fc2.weight = nn.Parameter(torch.cat(columns, dim=1), requires_grad=False)
    fc1.out_features, fc2.in_features = 2 * (hidden + extra), hidden + extra
    block.split = (hidden + extra, passed + extra, mixed)
