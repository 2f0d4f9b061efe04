"""Stochastic depth (Huang et al., 2016, https://arxiv.org/abs/1603.09382)."""

import torch
from torch import nn


class DropPath(nn.Module):
    """Drop a residual branch for whole samples while training, and scale the others up.

    Equal to ``torchvision.ops.StochasticDepth(p, mode="row")`` (a test compares them); it stands here
    so that ``import mambaout`` need not import torchvision.

    Args:
        drop_prob: probability in [0, 1) that a sample's branch is dropped.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f"drop_prob must lie in [0, 1), got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.drop_prob == 0.0:
            return x
        keep_prob = 1.0 - self.drop_prob
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_prob)  # (B, 1, ...)
        return x * keep.div_(keep_prob)

    def extra_repr(self) -> str:
        """The probability, for print(module)."""
        return f"drop_prob={self.drop_prob:.3f}"
