"""What a paired difference says of the paper, read against a margin that was stated beforehand."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mambaout.analysis.statistics import Interval

Outcome = Literal["agrees", "disagrees", "undecided"]
SHARE = 0.15  # of what mixing at all is worth: a smaller gain is none worth an SSM


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        outcome: "agrees" with the paper, "disagrees", or "undecided".
        gain: the paired difference and its interval, as fractions.
        margin: what it was read against, as a fraction.
    """

    outcome: Outcome
    gain: Interval
    margin: float

    def __str__(self) -> str:
        gain = self.gain
        place = {"agrees": "below", "disagrees": "above", "undecided": "on both sides of"}[self.outcome]
        return (
            f"{self.outcome}: {100 * gain.mean:+.2f} points [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
            f" (n = {gain.n}), {place} the margin of {100 * self.margin:.2f}"
        )


def margin(convolution: ArrayLike, identity: ArrayLike, share: float = SHARE) -> float:
    """The gain that would refute the paper: a share of what mixing tokens is worth, mean convolution minus identity.

    Args:
        convolution, identity: accuracies of the seeds of each.
        share: of their difference.

    Raises:
        ValueError: the convolution is not better than the identity: such a task cannot tell mixers apart.
    """
    worth = float(np.asarray(convolution).mean() - np.asarray(identity).mean())
    if not worth > 0:
        raise ValueError(f"mixing is worth nothing here (convolution minus identity: {worth:.4g}); no margin follows")
    return share * worth


def verdict(gain: Interval, margin: float) -> Verdict:
    """Read the gain of the SSM: above the margin refutes the paper at this size, below supports it, else undecided.

    Args:
        gain: of what the paper calls unnecessary, with its interval; the whole interval counts.
        margin: stated before the first run; positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, got {margin}")
    outcome: Outcome = "disagrees" if gain.low > margin else "agrees" if gain.high < margin else "undecided"
    return Verdict(outcome, gain, margin)
