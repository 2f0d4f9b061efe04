"""Where a token stands, told by sines and cosines: position information without a parameter."""

import torch


def sincos_positions(
    height: int, width: int, dim: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """One vector for each place of a grid, of sines and cosines of its row and column (Vaswani et al., 2017, in 2-D).

    A quarter of the channels each: sine and cosine of the row, sine and cosine of the column, at wavelengths from
    2 pi tokens up to 10,000 times as many. As in the plain ViT of Beyer et al. (2022).

    Args:
        height, width: of the grid.
        dim: channels; a multiple of 4.
        device, dtype: of the result.

    Returns:
        (height, width, dim)

    Raises:
        ValueError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sines and cosines of two coordinates need a multiple of 4 channels, got {dim}")
    rates = 10_000.0 ** -torch.linspace(0, 1, dim // 4, device=device)  # (dim / 4,)
    rows = torch.arange(height, device=device)[:, None, None] * rates  # (height, 1, dim / 4)
    columns = torch.arange(width, device=device)[None, :, None] * rates  # (1, width, dim / 4)
    parts = [f(angle).expand(height, width, -1) for angle in (rows, columns) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=-1).to(dtype)
