"""Token orders: in which order a causal mixer reads the tokens of an image.

A *route* is a permutation of the H x W tokens: ``route[k]`` is the raster index (row x W + column) of the k-th token
that is read. A *scan* is one or several routes; a model runs its mixer along each and adds the results.
"""

from collections.abc import Callable

import torch


def raster(height: int, width: int) -> torch.Tensor:
    """Row after row, each from left to right: the identity. (1, H W)."""
    return torch.arange(height * width)[None]


def bidirectional(height: int, width: int) -> torch.Tensor:
    """Raster order and its reverse, as in Vim (Zhu et al., 2024). (2, H W)."""
    forward = raster(height, width)
    return torch.cat((forward, forward.flip(1)))


def random(height: int, width: int) -> torch.Tensor:
    """One random order, the same at every call: no neighbour in the image is a neighbour in it. (1, H W)."""
    return torch.randperm(height * width, generator=torch.Generator().manual_seed(0))[None]


SCANS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "raster": raster,
    "bidirectional": bidirectional,
    "random": random,
}


def routes(scan: str, height: int, width: int) -> torch.Tensor:
    """The routes of a scan for height x width tokens: (routes, height width), raster indices.

    Raises:
        ValueError: an unknown scan (the known ones are listed), or no tokens.
    """
    if scan not in SCANS:
        raise ValueError(f"unknown scan {scan!r}; known scans: {', '.join(SCANS)}")
    if min(height, width) < 1:
        raise ValueError(f"a scan needs at least one token, got {height} x {width}")
    return SCANS[scan](height, width)


def inverse(routes: torch.Tensor) -> torch.Tensor:
    """Where each token stands in each route: ``tokens[routes][inverse] == tokens``. (R, L) -> (R, L)."""
    return routes.argsort(dim=-1)
