"""Self-attention in its two token mixing modes: fully-visible and causal (Figure 3a, Eqs. 4-5).

The causal mode also reads one token at a time, with a cache of keys and values as its memory (Figure 2a).
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.scan_reference import needs_grad


class _Room:
    """Buffers (B, heads, capacity, D / heads) that several caches may share the beginning of."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, capacity: int) -> None:
        self.used = keys.shape[2]
        self.keys, self.values = (t.new_empty(*t.shape[:2], capacity, t.shape[3]) for t in (keys, values))
        self.keys[:, :, : self.used] = keys
        self.values[:, :, : self.used] = values

    def fits(self, tokens: int) -> bool:
        """Whether a cache of so many tokens can be continued here: there is a place, and nobody has taken it."""
        here = self.keys.is_inference() == torch.is_inference_mode_enabled()  # or writing would be refused
        return here and tokens == self.used < self.keys.shape[2]


@dataclass(frozen=True, eq=False)
class KVCache:
    """What causal attention remembers of the tokens so far: their keys and values, nothing summarised.

    Attributes:
        keys, values: (B, heads, t, D / heads) each, after t tokens.
        room: where they lie, with places for tokens to come, so that not every token copies all; made when needed.
    """

    keys: torch.Tensor
    values: torch.Tensor
    room: _Room | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Tokens held."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together, without places that are still empty (at most as many again)."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, key: torch.Tensor, value: torch.Tensor) -> "KVCache":
        """A cache with one more token, key and value (B, heads, 1, D / heads); this one stays as it is."""
        t = len(self)
        if needs_grad(self.keys, self.values, key, value):  # what a backward pass needs must not be written into
            return KVCache(torch.cat((self.keys, key), dim=2), torch.cat((self.values, value), dim=2))
        room = self.room
        if room is None or not room.fits(t):
            room = _Room(self.keys, self.values, capacity=2 * t)
        room.keys[:, :, t : t + 1] = key
        room.values[:, :, t : t + 1] = value
        room.used = t + 1
        return KVCache(room.keys[:, :, : t + 1], room.values[:, :, : t + 1], room)


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
        q, k, v = self._heads(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, heads, L, D / heads)
        return self.proj(y.transpose(1, 2).flatten(2))

    def step(self, x: torch.Tensor, cache: KVCache | None = None) -> tuple[torch.Tensor, KVCache]:
        """One token: x (B, D) and the cache, or None for the first -> y (B, D), the cache with this token.

        Calling it for t = 1..L gives what ``forward`` gives. Memory and work grow with t; the given cache is left as
        it was, so that a sequence can be continued in several ways.

        Raises:
            ValueError: the layer is not causal, or x or the cache has another shape or batch than expected.
        """
        dim = self.proj.in_features
        if not self.causal:
            raise ValueError(
                "step needs causal attention: a fully-visible one reads later tokens too, which are not there yet. "
                "Make the layer with causal=True."
            )
        if x.ndim != 2 or x.shape[1] != dim:
            raise ValueError(f"step expects one token a sequence, of shape (batch, {dim}), got {tuple(x.shape)}")
        q, k, v = self._heads(x[:, None])  # each (B, heads, 1, D / heads)
        if cache is None:
            cache = KVCache(k, v)
        else:
            held, expected = cache.keys.shape, k.shape
            if (*held[:2], held[3]) != (*expected[:2], expected[3]):
                raise ValueError(
                    f"the cache has keys of shape {tuple(held)}, but this token needs "
                    f"({expected[0]}, {expected[1]}, tokens, {expected[3]})"
                )
            cache = cache.append(k, v)
        y = F.scaled_dot_product_attention(q, cache.keys, cache.values)  # (B, heads, 1, D / heads)
        return self.proj(y.flatten(1)), cache

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> queries, keys, values: (3, B, heads, L, D / heads)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, L, 3, heads, D / heads)
        return qkv.permute(2, 0, 3, 1, 4)

    def extra_repr(self) -> str:
        """The heads and mode, for print(module)."""
        return f"num_heads={self.num_heads}, causal={self.causal}"
