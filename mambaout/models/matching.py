"""Models of equal size: what a comparison of token mixers needs when some mixers bring more parameters than others."""

import dataclasses

import torch

from mambaout.models.common import require
from mambaout.models.mambaout import MambaOut, MambaOutConfig

WIDEST = 64.0  # expansion ratio beyond which nothing is sought


def count(config: MambaOutConfig) -> int:
    """Number of parameters of the model that a configuration defines."""
    with torch.device("meta"):  # shapes are enough
        return sum(p.numel() for p in MambaOut(config).parameters())


def match_parameters(config: MambaOutConfig, parameters: int) -> MambaOutConfig:
    """The configuration whose model has as nearly as possible so many parameters, by its expansion ratio alone.

    The expansion ratio widens the two linear layers of every block and leaves alone the channels that the token
    mixer reads (``conv_ratio``). One more hidden channel in every block is the smallest step.

    Raises:
        ValueError: even the narrowest blocks, in which every hidden channel is mixed, have more parameters; or blocks
            wider than any in use have fewer.
    """

    def at(ratio: float) -> MambaOutConfig:
        return dataclasses.replace(config, expansion_ratio=ratio)

    low, high = config.conv_ratio, WIDEST
    smallest = count(at(low))
    require(smallest <= parameters, f"{parameters:,} parameters are too few: the narrowest has {smallest:,}", config)
    while (high - low) * max(config.dims) > 0.5:  # until nothing but rounding is left
        middle = (low + high) / 2
        low, high = (middle, high) if count(at(middle)) <= parameters else (low, middle)
    require(high < WIDEST, f"{parameters:,} parameters are too many for an expansion ratio below {WIDEST:g}", config)
    return min((at(low), at(high)), key=lambda candidate: abs(count(candidate) - parameters))
