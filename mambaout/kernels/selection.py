"""What the SSMs of several routes select from the same tokens, in two products for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plain import is_plain, is_watched

if TYPE_CHECKING:
    from mambaout.layers.ssm import SelectiveSSM


def select_along(ssms: Sequence[SelectiveSSM], x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`SelectiveSSM.select` of each SSM on x (B, L, D): delta (R, B, L, D), A (R, D, N), B and C (R, B, L, N)."""
    if is_watched(x) or not all(is_plain(ssm.x_proj, nn.Linear) for ssm in ssms):
        delta, A, B, C = (torch.stack(parts) for parts in zip(*(ssm.select(x) for ssm in ssms), strict=True))
        return delta, A, B, C
    one, routes = ssms[0], len(ssms)
    projected = F.linear(x, torch.cat([ssm.x_proj.weight for ssm in ssms])).unflatten(-1, (routes, -1))
    dt, B, C = projected.permute(2, 0, 1, 3).split((one.dt_rank, one.d_state, one.d_state), dim=-1)
    weight = torch.stack([ssm.dt_weight for ssm in ssms]).transpose(1, 2)  # (R, rank, D)
    bias = torch.stack([ssm.dt_bias for ssm in ssms]).unsqueeze(1)  # (R, 1, D)
    delta = F.softplus(torch.baddbmm(bias, dt.flatten(1, 2), weight)).unflatten(1, x.shape[:2])
    return delta, torch.stack([ssm.decay() for ssm in ssms]), B, C
