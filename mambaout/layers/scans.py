"""Token orders: in which order a causal mixer reads the tokens of an image.

A *route* is a permutation of the H x W tokens: ``route[k]`` is the raster index (row x W + column) of the k-th token
that is read. A *scan* is one or several routes; a model runs its mixer along each and merges the results.

A scan is written as what it is: it reads an image that holds the raster indices themselves. Each takes such a grid
(H, W) and returns (routes, H W). From the papers named we take the orders alone, not the models around them.
"""

from collections.abc import Callable

import torch

WINDOWS = (2, 7)  # sides of LocalMamba's windows, in tokens


def raster(grid: torch.Tensor) -> torch.Tensor:
    """Row after row, each from left to right: the identity. One route."""
    return grid.flatten()[None]


def bidirectional(grid: torch.Tensor) -> torch.Tensor:
    """Raster order and its reverse: Vim (Zhu et al., 2024). Two routes."""
    return _and_reversed(grid.flatten())


def cross(grid: torch.Tensor) -> torch.Tensor:
    """Rows, columns, and the reverses of both: VMamba's cross-scan (Liu et al., 2024). Four routes."""
    return _and_reversed(grid.flatten(), grid.T.flatten())


def local(grid: torch.Tensor) -> torch.Tensor:
    """Window after window, each in raster order, with windows of 2 x 2 and of 7 x 7 tokens, and the reverses.

    These are the four local ones of the eight routes that LocalMamba (Huang et al., 2024) searches through; the
    other four are VMamba's. Its search for the best four of each layer, and the gates that it puts on each route,
    are left out. Windows that stick out at the right or at the bottom are clipped. Four routes.
    """
    return _and_reversed(*(windows(grid, side) for side in WINDOWS))


def continuous(grid: torch.Tensor) -> torch.Tensor:
    """Rows to and fro, columns to and fro, and the reverses of both: PlainMamba (Yang et al., 2024). Four routes.

    The next token is always a neighbour in the image. PlainMamba adds to B_t a learned vector for the direction of
    each step, and shares one SSM among its routes; both are left out.
    """
    return _and_reversed(snake(grid), snake(grid.T))


def random(grid: torch.Tensor) -> torch.Tensor:
    """One random order, the same at every call: neighbours in it need not be neighbours in the image. One route."""
    order = torch.randperm(grid.numel(), generator=torch.Generator().manual_seed(0), device="cpu")
    return grid.flatten()[order.to(grid.device)][None]


def windows(grid: torch.Tensor, side: int) -> torch.Tensor:
    """One route (H W,): the tokens of one side x side window after the other."""
    height, width = grid.shape
    row = torch.arange(height, device=grid.device)[:, None] // side
    column = torch.arange(width, device=grid.device) // side
    window = row * width + column  # (H, W): a number that grows from window to window in raster order
    return grid.flatten()[window.flatten().argsort(stable=True)]


def snake(grid: torch.Tensor) -> torch.Tensor:
    """One route (H W,): every second row from right to left."""
    grid = grid.clone()
    grid[1::2] = grid[1::2].flip(1)
    return grid.flatten()


def _and_reversed(*routes: torch.Tensor) -> torch.Tensor:
    """Routes (L,) each, then the same routes backwards: (2 x routes, L)."""
    forward = torch.stack(routes)
    return torch.cat((forward, forward.flip(1)))


SCANS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "raster": raster,
    "bidirectional": bidirectional,
    "cross": cross,
    "local": local,
    "continuous": continuous,
    "random": random,
}


def routes(scan: str, height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The routes of a scan for height x width tokens: (routes, height width), raster indices.

    Raises:
        ValueError: an unknown scan (the known ones are listed), or no tokens.
    """
    if scan not in SCANS:
        raise ValueError(f"unknown scan {scan!r}; known scans: {', '.join(SCANS)}")
    if min(height, width) < 1:
        raise ValueError(f"a scan needs at least one token, got {height} x {width}")
    return SCANS[scan](torch.arange(height * width, device=device).view(height, width))


def inverse(routes: torch.Tensor) -> torch.Tensor:
    """Where each token stands in each route: ``tokens[route][inverse(route)] == tokens``. (..., L) -> (..., L)."""
    return routes.argsort(dim=-1)
