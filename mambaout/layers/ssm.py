"""The selective state space model of Mamba, as a token mixer on (B, L, D).

Code name      paper (Eqs. 1-3)     shape
u              x_t                  (B, L, D)
delta          Delta_t              (B, L, D), positive, from the input: this is what "selective" means
A              A                    (D, N), negative, learned, the same for all tokens
B, C           B_t, C_t             (B, L, N), from the input
state          h_t                  (B, D, N)
"""

import math
from collections.abc import Sequence

import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from mambaout.kernels.scan import selective_scan
from mambaout.kernels.scan_reference import compute_dtype, selective_scan_step
from mambaout.kernels.scan_routes import scan_routes
from mambaout.kernels.selection import select_along


class SelectiveSSM(nn.Module):
    """Selective SSM (Gu & Dao, 2023, section 3.2 and Algorithm 2), causal in token order.

    The projection to delta is kept as bare parameters, not as an ``nn.Linear``: its bias holds the
    time scales drawn at the start, and the usual "re-initialise every linear layer" would destroy them.

    Args:
        dim: channels D.
        d_state: numbers N of state per channel.
        dt_rank: rank of delta's projection; None means ceil(dim / 16), as in Mamba.
    """

    DT_MIN, DT_MAX = 1e-3, 1e-1  # range of the first time steps, log-uniform

    def __init__(self, dim: int, d_state: int = 16, dt_rank: int | None = None) -> None:
        super().__init__()
        self.dim, self.d_state = dim, d_state
        self.dt_rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
        self.x_proj = nn.Linear(dim, self.dt_rank + 2 * d_state, bias=False)
        self.dt_weight = nn.Parameter(torch.empty(dim, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(dim))
        self.A_log = nn.Parameter(torch.empty(dim, d_state))
        self.D = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """A = -(1, ..., N) in every channel (S4D-real); softplus(dt_bias) log-uniform; D = 1."""
        self.x_proj.reset_parameters()
        bound = self.dt_rank**-0.5
        self.dt_weight.uniform_(-bound, bound)
        dt = torch.empty_like(self.dt_bias).uniform_(math.log(self.DT_MIN), math.log(self.DT_MAX)).exp()
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
        self.A_log.copy_(torch.ones_like(self.A_log).cumsum(-1).log())
        self.D.fill_(1.0)

    def select(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(..., D) -> delta (..., D), A (D, N), B (..., N), C (..., N): what the input decides."""
        dt, B, C = self.x_proj(x).split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        delta = F.softplus(F.linear(dt, self.dt_weight, self.dt_bias))  # (..., D)
        return delta, self.decay(), B, C

    def decay(self) -> torch.Tensor:
        """A (D, N), at least in float32: its rounding is raised to the power of the length."""
        return -self.A_log.to(compute_dtype(self.A_log)).exp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, L, D); output t depends on tokens 1..t only (Eq. 4)."""
        delta, A, B, C = self.select(x)
        return selective_scan(x, delta, A, B, C, self.D)

    def step(self, x: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """One token: x (B, D) and the state (B, D, N), or None for the first -> y (B, D), new state.

        Calling it for t = 1..L gives what ``forward`` gives, at constant memory and work per token.
        """
        delta, A, B, C = self.select(x)
        if state is None:
            state = x.new_zeros(x.shape[0], self.dim, self.d_state, dtype=A.dtype)
        return selective_scan_step(state, x, delta, A, B, C, self.D)

    def extra_repr(self) -> str:
        """The sizes, for print(module)."""
        return f"dim={self.dim}, d_state={self.d_state}, dt_rank={self.dt_rank}"


def ssm_along(ssms: Sequence[SelectiveSSM], x: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Mean over routes of an SSM each, which reads the tokens of an image in that order, all routes in one call.

    What a token selects does not depend on its place, so it is selected once, before anything is put in order.

    Args:
        ssms: one for each route.
        x: tokens in raster order (B, L, D).
        orders: (routes, L), from :func:`mambaout.layers.scans.routes`.

    Returns:
        (B, L, D), each token at its place.
    """
    delta, A, B, C = select_along(ssms, x)
    return scan_routes(orders, x, delta, A, B, C, torch.stack([ssm.D for ssm in ssms]))


torch.fx.wrap("selective_scan")
torch.fx.wrap("scan_routes")
torch.fx.wrap("compute_dtype")
