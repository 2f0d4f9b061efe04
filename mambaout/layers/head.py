"""The classification head of MambaOut (the authors' MlpHead)."""

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.layers.downsample import NORM_EPS


class ClassifierHead(nn.Module):
    """Mean over all tokens, LayerNorm, and an MLP with a LayerNorm before its last layer.

    Args:
        dim: channels of the last stage; the MLP's hidden width is four times that.
        num_classes: 0 leaves the last layer out, so the head returns the hidden features.
        dropout: probability of dropping a hidden feature while training.
        global_pool: "avg", or "" to treat every token by itself.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0, global_pool: str = "avg") -> None:
        super().__init__()
        self.num_features = 4 * dim
        self.global_pool = global_pool
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.fc1 = nn.Linear(dim, self.num_features)
        self.hidden_norm = nn.LayerNorm(self.num_features, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(B, H, W, dim) -> (B, num_classes), or (B, 4 dim) with ``pre_logits``; (B, H, W, ...) without pooling."""
        if self.global_pool:
            x = x.mean(dim=(1, 2))  # (B, dim)
        x = self.dropout(self.hidden_norm(F.gelu(self.fc1(self.norm(x)))))  # (B, 4 dim)
        return x if pre_logits else self.fc2(x)
