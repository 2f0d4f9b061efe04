"""The Transformer block of ViT: attention and an MLP, each behind LayerNorm and a residual."""

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.layers.attention import Attention
from mambaout.layers.downsample import NORM_EPS
from mambaout.layers.drop_path import DropPath


class Mlp(nn.Module):
    """dim -> hidden, GELU, hidden -> dim, on each token by itself."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm Transformer block (Dosovitskiy et al., 2021); its FLOPs are the paper's Eq. 6.

    Args:
        dim: channels of the tokens.
        num_heads: heads of the attention.
        mlp_ratio: hidden width of the MLP over dim.
        causal: token mixing mode of the attention.
        drop_path: probability of dropping each residual branch while training.
    """

    def __init__(
        self, dim: int, num_heads: int, *, mlp_ratio: float = 4.0, causal: bool = False, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads, causal=causal)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
