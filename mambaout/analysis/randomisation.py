"""Does an attribution map depend on what the model has learned? (Adebayo et al., 2018)"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mambaout.analysis.attribution import Attribution, Method, attribute


@dataclass(frozen=True, eq=False)
class Randomised:
    """One step of :func:`randomisation_check`.

    Attributes:
        part: the part of the model that was drawn anew, after all those of the steps before.
        attribution: of the model then.
        similarity: Spearman's rank correlation of its map with the first one; 1 for the untouched model.
        similarity_of_sizes: the same of the maps' absolute values.
    """

    part: str
    attribution: Attribution
    similarity: float
    similarity_of_sizes: float


def randomisation_check(
    model: nn.Module,
    image: torch.Tensor,
    method: Method = "integrated_gradients",
    target: int | None = None,
    *,
    seed: int = 0,
    **options: Any,
) -> list[Randomised]:
    """Attribution maps while the model loses what it has learned, from the output to the input.

    One part of the model after the other gets fresh random parameters, and the map is made anew for the same class. A
    method whose map hardly changes shows the image, not the model.

    Args:
        model, image, method, target, options: see :func:`mambaout.analysis.attribution.attribute`.
        seed: of the fresh parameters.

    Returns:
        First the untouched model, then a step for each part, the last with all of it random.
    """
    from scipy.stats import spearmanr

    first = attribute(model, image, method, target, **options)
    steps = [Randomised("trained", first, 1.0, 1.0)]
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(sorted({p.device.index for p in model.parameters() if p.is_cuda})):
        torch.manual_seed(seed)
        for name, parts in _parts(fresh):
            for part in parts:
                _redraw(part)
            changed = attribute(fresh, image, method, first.target, **options)
            pair = first.map.ravel(), changed.map.ravel()
            similarity, of_sizes = (spearmanr(*maps).statistic for maps in (pair, np.abs(pair)))
            steps.append(Randomised(name, changed, float(similarity), float(of_sizes)))
    return steps


def _parts(model: nn.Module) -> list[tuple[str, Sequence[nn.Module | nn.Parameter]]]:
    """Named parts from the output to the input: the model's children, sequences one level open; loose parameters."""
    parts: list[tuple[str, Sequence[nn.Module | nn.Parameter]]] = []
    loose = [p for _, p in model.named_parameters(recurse=False)]
    if loose:
        parts.append((", ".join(name for name, _ in model.named_parameters(recurse=False)), loose))
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            parts += [(f"{name}.{key}", [part]) for key, part in child.named_children()]
        else:
            parts.append((name, [child]))
    return [(name, part) for name, part in reversed(parts) if any(_parameters(p) for p in part)]


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())


@torch.no_grad()
def _redraw(part: nn.Module | nn.Parameter) -> None:
    """PyTorch's own initialisation where a layer has one, else a normal distribution of the old spread."""
    if isinstance(part, nn.Parameter):
        part.normal_(0, float(part.std()) if part.numel() > 1 else 1.0)
        return
    if callable(getattr(part, "reset_parameters", None)):
        part.reset_parameters()  # type: ignore[operator]
    else:
        for _, p in part.named_parameters(recurse=False):
            _redraw(p)
    for child in part.children():
        _redraw(child)
