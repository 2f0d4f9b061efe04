"""Attention in which a token reads a part of the image only: sliding, dilated and partitioned windows (Figure 3a).

Who may read whom is a matrix (L, L) over the tokens in raster order, True at [t, s] when token t may read token s.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from mambaout.layers.attention import Attention, KVCache

Mask = Callable[[int, int, torch.device | None], torch.Tensor]


def sliding_window(size: int, dilation: int = 1) -> Mask:
    """Each token reads the size x size tokens around it, or with ``dilation`` d every d-th of a larger square.

    As in stand-alone self-attention (Ramachandran et al., 2019), and dilated as in DiNAT (Hassani & Shi, 2022). At
    the border the window is clipped (NAT and DiNAT move it inwards instead).

    Args:
        size: side of the window in tokens that are read, odd.
        dilation: distance between them.
    """
    if size % 2 == 0 or size < 1 or dilation < 1:
        raise ValueError(f"a sliding window needs an odd size and a dilation of 1 or more, got {size} and {dilation}")

    def near(length: int, device: torch.device | None) -> torch.Tensor:
        place = torch.arange(length, device=device)
        distance = (place[:, None] - place).abs()
        return (distance <= size // 2 * dilation) & (distance % dilation == 0)  # (length, length)

    def mask(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
        return _both(near(height, device), near(width, device))

    return mask


def window_partition(size: int, shift: int = 0) -> Mask:
    """The image is cut into windows of size x size tokens, and each token reads its own: Swin (Liu et al., 2021).

    Args:
        size: side of a window in tokens.
        shift: how far the cuts are moved down and to the right; windows at the border are then smaller.
    """
    if not 0 <= shift < size:
        raise ValueError(f"shift must be at least 0 and less than the window's size {size}, got {shift}")

    def same(length: int, device: torch.device | None) -> torch.Tensor:
        window = (torch.arange(length, device=device) + (size - shift) % size) // size
        return window[:, None] == window

    def mask(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
        return _both(same(height, device), same(width, device))

    return mask


def _both(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Conditions on the rows (H, H) and the columns (W, W) of two tokens -> on the tokens (H W, H W)."""
    return torch.kron(rows.int(), columns.int()).bool()


class MaskedAttention(Attention):
    """:class:`Attention` on an image whose tokens read what a mask allows.

    It computes all L^2 products and discards those that are not allowed: right for asking who reads whom, and no
    saving of work. Real models of this kind compute the others only.

    Args:
        dim, num_heads: see :class:`Attention`.
        mask: :func:`sliding_window`, :func:`window_partition`, or another function of height, width and device that
            gives (L, L), True where token t (row) may read token s (column).
    """

    def __init__(self, dim: int, num_heads: int, mask: Mask) -> None:
        super().__init__(dim, num_heads)
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        _, height, width, _ = x.shape
        q, k, v = self._heads(x.flatten(1, 2))  # each (B, heads, L, D / heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(height, width, x.device))
        return self.proj(y.transpose(1, 2).flatten(2)).view_as(x)

    def step(self, x: torch.Tensor, cache: KVCache | None = None) -> tuple[torch.Tensor, KVCache]:
        """Not possible: a mask may allow tokens that come later."""
        raise ValueError("attention with a mask reads an image as a whole; only Attention(causal=True) has steps")
