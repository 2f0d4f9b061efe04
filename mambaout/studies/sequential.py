"""How many seeds a study's main comparison gets: a rule that looks at the spread of the first ones and at nothing else.

Stein's two-stage procedure, see :func:`mambaout.analysis.statistics.seeds_needed`: the first seeds of the main pair
are run in any case; the standard deviation of their paired differences says how many seeds an interval of the wanted
width needs; those are run, and no result can stop them or ask for more. The interval that follows,
:func:`mambaout.analysis.statistics.two_stage_interval`, covers the true difference in 95 % of all studies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mambaout.analysis.statistics import Interval, differences, seeds_needed, two_stage_interval


@dataclass(frozen=True)
class Pair:
    """A main comparison, after minus before, and how finely it is to be known.

    Attributes:
        after, before: names of two variants.
        metric: what is compared.
        half_width: wanted distance from the mean to either end of the 95 % interval, in the metric's unit.
        first: seeds 0 to first - 1 are run in any case and tell the spread.
        most: there are never more seeds than this.
    """

    after: str
    before: str
    metric: str = "accuracy"
    half_width: float = 0.003
    first: int = 10
    most: int = 20

    def __post_init__(self) -> None:
        if self.after == self.before or self.half_width <= 0 or not 2 <= self.first <= self.most:
            raise ValueError(f"a pair needs two variants, a positive half_width and 2 <= first <= most; got {self}")


@dataclass(frozen=True)
class Decision:
    """What the rule decided, and why.

    Attributes:
        pair: of which comparison.
        spread: standard deviation of the paired differences of the first seeds.
        needed: seeds for the wanted width, were there no limit.
        seeds: seeds to run: ``needed``, or the limit.
    """

    pair: Pair
    spread: float
    needed: int
    seeds: int

    def __str__(self) -> str:
        pair = self.pair
        limit = f"; the limit is {self.seeds}" if self.needed > self.seeds else ""
        return (
            f"{pair.after} minus {pair.before}: the first {pair.first} differences have a standard deviation of"
            f" {self.spread:.3g}, so {pair.half_width:g} to either side needs {self.needed} seeds{limit}"
        )


def decide(pair: Pair, after: Mapping[int, float], before: Mapping[int, float]) -> Decision | None:
    """How many seeds the pair gets; None while one of the first seeds is missing.

    Args:
        pair: which, and how finely.
        after, before: seed -> value of each variant.
    """
    seeds = range(pair.first)
    if not set(seeds) <= after.keys() & before.keys():
        return None
    first = differences({seed: after[seed] for seed in seeds}, before)
    needed = seeds_needed(first, pair.half_width)
    return Decision(pair, float(np.std(first, ddof=1)), needed, min(needed, pair.most))


def effect(pair: Pair, after: Mapping[int, float], before: Mapping[int, float]) -> Interval:
    """The paired difference with the interval that holds under the rule, from exactly the seeds that it asked for.

    Raises:
        ValueError: a seed is missing.
    """
    decision = decide(pair, after, before)
    wanted = range(pair.first if decision is None else decision.seeds)
    if decision is None or not set(wanted) <= after.keys() & before.keys():
        missing = sorted(set(wanted) - (after.keys() & before.keys()))
        raise ValueError(f"{pair.after} minus {pair.before} lacks the seeds {missing}; run the study to its end")
    return two_stage_interval(differences({seed: after[seed] for seed in wanted}, before), pair.first)
