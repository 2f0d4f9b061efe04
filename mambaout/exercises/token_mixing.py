"""Checks of the exercises of the chapter on token mixing."""

import itertools
import math
from typing import Any

import torch

from mambaout.analysis.mixing import causal_mask
from mambaout.exercises import NotYet, exercise
from mambaout.layers.scans import routes


@exercise("token_mixing.mask")
def _mask(answer: Any) -> None:
    """a token reads those that stand no later on the route than it does itself."""
    cases = [torch.arange(4), torch.tensor([2, 0, 1]), *routes("cross", 2, 3), routes("random", 3, 3)[0]]
    for order in cases:
        right, found = causal_mask(order), answer(order)
        if not isinstance(found, torch.Tensor) or found.shape != right.shape:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise NotYet(f"For {len(order)} tokens return a tensor of shape {tuple(right.shape)}, got {shape}.")
        found = found.bool()
        if torch.equal(found, right):
            continue
        if torch.equal(found, right & ~torch.eye(len(order), dtype=torch.bool)):
            raise NotYet("Only the diagonal is missing: a token reads itself, too.")
        if torch.equal(found, right.T):
            raise NotYet("It is transposed: row t holds what token t reads.")
        if torch.equal(found, order <= order[:, None]):
            raise NotYet(
                f"order[k] is the token that is read k-th, but you need when token t is read. For {order.tolist()} "
                "token 0 comes at another place than order[0] says: invert the permutation."
            )
        if torch.equal(found, right[order][:, order]):
            raise NotYet("This is the mask along the route, lower triangular; bring it back to the image's order.")
        raise NotYet(f"For the order {order.tolist()} expected {right.int().tolist()}, got {found.int().tolist()}.")


@exercise("token_mixing.layers")
def _layers(answer: Any) -> None:
    """each layer adds half a kernel on every side, and the longer side of the image decides."""
    for height, width, kernel in ((14, 14, 7), (7, 7, 7), (56, 56, 7), (1, 9, 3), (5, 3, 3), (4, 22, 5), (8, 8, 15)):
        reach, steps = kernel // 2, max(height, width) - 1
        right, found = math.ceil(steps / reach), answer(height, width, kernel)
        if found == right:
            continue
        case = f"For {height} x {width} tokens and a {kernel} x {kernel} kernel came {found}"
        if found in (math.ceil(steps / kernel), math.ceil(steps / (kernel - 1))):
            raise NotYet(f"{case}. On each side of a token lies only half of the kernel: {reach} tokens.")
        if found == math.ceil((height + width - 2) / reach):
            raise NotYet(f"{case}. A square kernel also steps diagonally: it covers rows and columns at the same time.")
        if found == math.ceil((min(height, width) - 1) / reach):
            raise NotYet(f"{case}, enough for the shorter side only.")
        if found == math.ceil((steps + 1) / reach):
            raise NotYet(f"{case}. From the first token of a line to the last are {steps} steps, not {steps + 1}.")
        if found == steps // reach:
            raise NotYet(f"{case}, which leaves {steps % reach} of {steps} steps: a part of a layer is a layer.")
        if found == math.ceil(math.ceil(steps / 2) / reach):
            raise NotYet(f"{case}, enough for the token in the middle; a corner must see the other corner.")
        raise NotYet(f"{case}, expected {right} layers.")


@exercise("token_mixing.spiral")
def _spiral(answer: Any) -> None:
    """every token once, and each step to a neighbour, from the rim to the middle."""
    for height, width in ((2, 2), (3, 3), (3, 5), (4, 2), (1, 4), (5, 1), (4, 6)):
        found = answer(height, width)
        found = found.tolist() if isinstance(found, torch.Tensor) else list(found)
        case, tokens = f"{height} x {width} tokens", height * width
        if any(isinstance(token, tuple | list) for token in found):
            raise NotYet(f"For {case} came {found[0]} first. Return one number for each token, row * width + column.")
        if sorted(found) != list(range(tokens)):
            twice = sorted({token for token in found if found.count(token) > 1})
            if twice:
                raise NotYet(f"For {case} you read {twice[0]} twice: from the innermost row or column is no way back.")
            missing = sorted(set(range(tokens)) - set(found))
            raise NotYet(f"For {case} expected each of the tokens 0 to {tokens - 1} once; {missing[:3]} are missing.")
        if found[:width] != list(range(width)):
            raise NotYet(f"For {case} begin at token 0 and go right along the first row, not {found[:width]}.")
        places = [divmod(token, width) for token in found]
        for here, there in itertools.pairwise(places):
            if abs(here[0] - there[0]) + abs(here[1] - there[1]) != 1:
                raise NotYet(f"For {case} you jump from (row, column) {here} to {there}.")
        depth = [min(r, c, height - 1 - r, width - 1 - c) for r, c in places]
        if depth != sorted(depth):
            raise NotYet(f"For {case} you leave a ring before all of it is read; a spiral goes inwards only.")
