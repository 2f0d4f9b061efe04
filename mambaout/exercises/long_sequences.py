"""Checks of the exercises of the chapter on long sequences."""

import math
from typing import Any

from mambaout.analysis import complexity
from mambaout.exercises import NotYet, exercise, number


@exercise("long_sequences.block_flops")
def _block_flops(answer: Any) -> None:
    """with ratio 4 this is Eq. 6, and the threshold is (2 + m) D for any ratio m."""
    for length, dim, mlp_ratio in ((10, 8, 4), (196, 384, 4), (100, 96, 2), (4000, 192, 8)):
        case = f"{length} tokens, {dim} channels, ratio {mlp_ratio}"
        flops = complexity.transformer_block(length, dim, mlp_ratio)
        right, found = flops.total, number(answer(length, dim, mlp_ratio), case)
        if found == right:
            continue
        quadratic = sum(flops.quadratic.values())
        hints = {
            right / 2: "That is half: a multiplication is one FLOP and the addition that follows another.",
            right - quadratic / 2: "There are two products of L x L: queries with keys, weights with values.",
            right - quadratic: "The part that grows with L^2 is missing.",
            complexity.transformer_block(length, dim).total: "That is right for a ratio of 4 only.",
            right - complexity.linear_layer(length, dim, mlp_ratio * dim): "The MLP has two linear layers.",
            right + 12 * mlp_ratio * dim**2 * length: "Each MLP layer takes 2 L D m D, for the ratio m.",
            right - complexity.linear_layer(length, dim, dim): "Attention has four linear layers; the last is missing.",
        }
        raise NotYet(f"For {case}: {hints.get(found, f'expected {right:,.0f}, got {found:,.0f}.')}")


@exercise("long_sequences.largest_square")
def _largest_square(answer: Any) -> None:
    """the side grows with the square root of the width: four times the channels, twice the side."""
    for dim, patch in ((384, 16), (768, 16), (192, 4), (96, 32), (6, 1)):
        case = f"a width of {dim} and patches of {patch} x {patch}"
        right = patch * math.isqrt(6 * dim)
        found = number(answer(dim, patch), case)
        if found == right:
            continue
        if found == right // patch and patch > 1:
            raise NotYet(f"For {case} came {found:g}: that is the side in patches; it is asked in pixels.")
        if found == 6 * dim * patch:
            raise NotYet(f"For {case} came {found:g}: a square of n x n patches has n^2 tokens, not n.")
        if found % patch:
            raise NotYet(f"For {case} came {found:g}, which is no multiple of the patch.")
        tokens = complexity.tokens(int(found), int(found), patch)
        side = "is long already" if tokens > 6 * dim else "is not the largest"
        raise NotYet(f"For {case} came {found:g}: with {tokens:,} tokens that {side} (the threshold is {6 * dim:,}).")


@exercise("long_sequences.crossing_in_time")
def _crossing_in_time(answer: Any) -> None:
    """where the clocks cross depends on the ratio of the two rates, and 6 D appears nowhere in it."""
    # The second case alone tells exchanged rates (a positive number) from rates without effect (0).
    rates = ((384, 100e9, 100e9), (384, 5e9, 100e9), (384, 100e9, 5e9), (192, 80e9, 2e9), (768, 400e9, 10e9))
    for dim, attention_rate, ssm_rate in rates:
        case = f"{dim} channels, {attention_rate / 1e9:g} and {ssm_rate / 1e9:g} GFLOP/s"
        per_token = complexity.ssm(1, dim).total
        gain = attention_rate / ssm_rate

        def tokens(ssm_cost: float, linear: float, dim: int = dim) -> float:
            return max(0.0, (ssm_cost - linear) / (4 * dim))

        right = tokens(gain * per_token, 8 * dim**2)
        found = number(answer(dim, attention_rate, ssm_rate), case)
        if math.isclose(found, right, rel_tol=1e-6, abs_tol=1e-6):
            continue
        if found < 0:
            raise NotYet(f"For {case} came {found:,.0f}, fewer than no tokens. Attention is slower from the start: 0.")
        hints = (
            (tokens(per_token / gain, 8 * dim**2), "the rates are exchanged: time is FLOPs divided by the rate"),
            (tokens(gain * per_token, 0), "attention has its linear layers too, 8 D^2 FLOPs a token"),
        )
        if found == number(answer(dim, 2 * attention_rate, ssm_rate), case):
            raise NotYet(f"For {case} came {found:,.0f}: attention's rate has no effect yet.")
        for wrong, hint in hints:
            if math.isclose(found, wrong, rel_tol=1e-6) and wrong not in (0, right):
                raise NotYet(f"For {case} came {found:,.0f}: {hint}.")
        raise NotYet(f"For {case} expected {right:,.1f} tokens, got {found:,.1f}.")
