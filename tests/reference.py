"""Slow and obvious forms that the library's fast ones must equal."""

import torch
from torch.nn import functional as F

from mambaout.layers import GatedCNNBlock


def gated_cnn(block: GatedCNNBlock, x: torch.Tensor) -> torch.Tensor:
    """Eqs. 8-10 (or 11: the block brings its token mixer), one product and one concatenation at a time."""
    normed = block.norm(x)
    gate, identity, z = F.linear(normed, block.fc1.weight, block.fc1.bias).split(block.split, dim=-1)
    value = torch.cat((identity, plain_token_mixer(block, z)), dim=-1)
    return F.linear(F.gelu(gate) * value, block.fc2.weight, block.fc2.bias) + x


def plain_token_mixer(block: GatedCNNBlock, z: torch.Tensor) -> torch.Tensor:
    if not hasattr(block, "conv"):
        return z
    conv = block.conv
    y = F.conv2d(z.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)
    y = y.permute(0, 2, 3, 1)
    behind = getattr(block, "ssm", None) or getattr(block, "attn", None)
    return behind(F.gelu(y).flatten(1, 2)).unflatten(1, y.shape[1:3]) if behind else y


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30)).item()
