"""Self-attention in its two token mixing modes: fully-visible and causal (Figure 3a, Eqs. 4-5)."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head softmax attention (Vaswani et al., 2017) through PyTorch's fused kernel.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide dim.
        causal: if True token t reads tokens 1..t only, else every token.
    """

    def __init__(self, dim: int, num_heads: int, causal: bool = False) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got dim {dim} and {num_heads} heads")
        self.num_heads = num_heads
        self.causal = causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, L, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, L, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, D / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, heads, L, D / heads)
        return self.proj(y.transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        """The heads and mode, for print(module)."""
        return f"num_heads={self.num_heads}, causal={self.causal}"
