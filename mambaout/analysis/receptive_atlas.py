"""The receptive fields of many models at many places, as the book's explorer shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mambaout.analysis.features import feature_maps
from mambaout.analysis.receptive_field import EffectiveReceptiveField, effective_receptive_fields
from mambaout.models import MambaOut, ViT

GRID = 5  # locations down and across


@dataclass(frozen=True, eq=False)
class Entry:
    """A model of the atlas.

    Attributes:
        group, name: what it is called, and among which others.
        state: "trained" or "untrained".
        model: images (B, C, H, W) -> logits, with stages.
    """

    group: str
    name: str
    state: str
    model: MambaOut | ViT


def atlas(entries: Sequence[Entry], photo: torch.Tensor, images: torch.Tensor, draws: int = 8) -> list[dict[str, Any]]:
    """The fields of every model, state and stage, on one photo and averaged over images, each with an equal vote.

    Args:
        entries: the models; all take the same images.
        photo: (C, H, W), prepared as the models expect it.
        images: (N, C, H, W), likewise.
        draws: how many signs of the channels the photo's field is averaged over.

    Returns:
        One dict for each entry, stage and source ("photo", "average"), with the keys that
        :class:`mambaout.widgets.ReceptiveExplorer` asks for.
    """
    batch = torch.cat((photo.expand(draws, *photo.shape), images))
    sets = []
    for entry in entries:
        with torch.no_grad():
            sizes = [(y.shape[2], y.shape[3]) for y in feature_maps(entry.model.eval(), batch[:1])]
        for stage, (height, width) in enumerate(sizes):
            rows, columns = spaced(height), spaced(width)
            places = [(row, column) for row in rows for column in columns]
            fields = effective_receptive_fields(entry.model, batch, [stage], places, progress=False)
            label = f"{stage + 1} of {len(sizes)}" if len(sizes) > 1 else "all blocks"
            for source, part in (("photo", slice(draws)), ("average", slice(draws, None))):
                own = [equal_votes(field, part) for field in fields]
                sets.append({
                    "group": entry.group,
                    "model": entry.name,
                    "state": entry.state,
                    "source": source,
                    "stage": label,
                    "stride": [float(side) for side in own[0].stride],
                    "centres": [field.centre for field in own],
                    "maps": [field.map for field in own],
                    "measures": [_measures(field) for field in own],
                })  # fmt: skip
    return sets


def spaced(size: int, count: int = GRID) -> list[int]:
    """`count` places of `size`, from the first to the last, as evenly as whole numbers can be."""
    return [round(i * (size - 1) / (count - 1)) for i in range(count)]


def equal_votes(field: EffectiveReceptiveField, part: slice = slice(None)) -> EffectiveReceptiveField:
    """The field with each image's map divided by its own sum, so that every image has the same weight in the mean.

    Gradients of trained networks differ from image to image by powers of ten. In a plain mean the few with the
    largest decide alone.

    Args:
        field: with the maps of its images.
        part: which of the images.

    Raises:
        ValueError: the field has not kept the maps of its images, or the map of an image is zero everywhere.
    """
    if field.samples is None:
        raise ValueError("the field must keep the maps of its images: keep_samples=True")
    samples = field.samples[part]
    sums = samples.sum((1, 2), keepdims=True)
    if not sums.all():
        raise ValueError("the map of an image is zero everywhere: it has no mass to share")
    samples = samples / sums
    return replace(field, map=samples.mean(0), samples=samples)


def _measures(field: EffectiveReceptiveField) -> dict[str, float]:
    down, right = field.shift()
    areas = {f"area_{share}": field.area(share / 100) for share in (50, 90, 99)}
    return areas | {
        "anisotropy": field.anisotropy(),
        "asymmetry": field.causal_asymmetry(),
        "down": down,
        "right": right,
    }
