"""The selective scan in log2(L) steps of plain tensor operations, for graphs that leave PyTorch.

The recurrence h_t = a_t h_{t-1} + b_t is a chain of affine maps h -> a h + b, and composing two of them is
associative: (a2, b2) after (a1, b1) is (a2 a1, a2 b1 + b2). So all prefixes can be had by doubling (Hillis and
Steele, 1986): after step k each token holds the composition of the last 2^k maps up to its own.

It does L log2(L) work where the recurrence does L, and keeps (B, L, D, N) arrays: the other forms are faster in
PyTorch. But it has no loop over tokens and no operation of ours, so a tracer records a small graph of it (8 steps for
196 tokens), and another of its derivative.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .scan_reference import compute_dtype


def selective_scan_parallel(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`mambaout.kernels.scan.selective_scan` with `return_last_state`: y (B, L, D) and h_L (B, D, N)."""
    dtype = compute_dtype(u, delta, A, B, C, D, initial_state)
    tokens, steps = u.to(dtype), delta.to(dtype).unsqueeze(-1)  # (B, L, D), (B, L, D, 1)
    a = torch.exp(steps * A)  # (B, L, D, N)
    h = steps * B.unsqueeze(2) * tokens.unsqueeze(-1)  # (B, L, D, N): from state 0, one token read
    if initial_state is not None:
        h = torch.cat((h[:, :1] + a[:, :1] * initial_state.unsqueeze(1), h[:, 1:]), dim=1)
    length, reach = u.shape[1], 1
    while reach < length:
        # The map of `reach` tokens earlier; before the first token stands the identity, a = 1 and b = 0.
        earlier = F.pad(h[:, :-reach], (0, 0, 0, 0, reach, 0))
        h = h + a * earlier
        if 2 * reach < length:  # the decays are of no use after the last step
            a = a * F.pad(a[:, :-reach], (0, 0, 0, 0, reach, 0), value=1.0)
        reach *= 2
    y = (h * C.unsqueeze(2)).sum(-1)  # (B, L, D)
    if D is not None:
        y = y + D * tokens
    return y.to(u.dtype), h[:, -1]
