"""Checks of the exercises of the chapter on the live model."""

from typing import Any

import torch

from mambaout.exercises import NotYet, exercise


@exercise("live.doubling")
def _doubling(answer: Any) -> None:
    """each step doubles how many tokens a state has taken in."""
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 3, 4, 7, 8, 196):
        a, b = torch.rand(2, length, generator=generator, dtype=torch.double).unbind()
        copies = a.clone(), b.clone()
        found = answer(a, b)
        if not isinstance(found, torch.Tensor) or found.shape != (length,):
            what = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise NotYet(f"For {length} tokens return a tensor of shape ({length},), got {what}.")
        if not (torch.equal(a, copies[0]) and torch.equal(b, copies[1])):
            raise NotYet("Your function changes its arguments in place; make new tensors.")
        if torch.allclose(found, _recurrence(a, b)):
            continue
        if torch.allclose(found, _recurrence(a.flip(0), b.flip(0)).flip(0)):
            raise NotYet("The states run from the last token to the first: take in what stands to the left.")
        if length == 3 and torch.allclose(found, b + a * torch.cat((b.new_zeros(1), b[:-1]))):
            raise NotYet("For 3 tokens one step is not enough: the last state has not taken in the first token.")
        raise NotYet(
            f"For {length} tokens the states differ from the recurrence's. Does a token's `a` grow as well, and does "
            "`b` use the `a` from before that step? What stands before the first token is a = 1 and b = 0."
        )


def _recurrence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t, token by token."""
    h, states = b.new_zeros(()), []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)
