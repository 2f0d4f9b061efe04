"""The explorer's sets are the library's fields: the same places, the same maps, every image with one vote."""

import dataclasses

import numpy as np
import pytest
import torch

from mambaout.analysis.receptive_atlas import GRID, Entry, atlas, equal_votes, spaced
from mambaout.analysis.receptive_field import effective_receptive_field
from mambaout.models import MambaOut, MambaOutConfig, ViT, ViTConfig


def models() -> list[Entry]:
    torch.manual_seed(0)
    small = MambaOut(MambaOutConfig(depths=(1, 1), dims=(8, 16), stem_stride=4, num_classes=3))
    causal = ViT(ViTConfig(16, 2, 2, "causal_attention", image_size=32, patch_size=4, num_classes=3))
    return [Entry("Block", "MambaOut", "untrained", small), Entry("ViT", "causal", "trained", causal)]


@pytest.mark.parametrize(("size", "places"), [(8, [0, 2, 4, 5, 7]), (16, [0, 4, 8, 11, 15]), (5, [0, 1, 2, 3, 4])])
def test_places_run_from_edge_to_edge(size: int, places: list[int]) -> None:
    assert spaced(size) == places


def test_sets_are_the_fields_of_the_library() -> None:
    entries, images = models(), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    sets = atlas(entries, images[0], images[1:], draws=2)
    keys = [(one["model"], one["stage"], one["source"]) for one in sets]
    parts = (("MambaOut", "1 of 2"), ("MambaOut", "2 of 2"), ("causal", "all blocks"))
    assert keys == [(*part, source) for part in parts for source in ("photo", "average")]
    batch = torch.cat((images[:1], images[:1], images[1:]))
    for one, stage, entry in ((sets[1], 0, entries[0]), (sets[5], 0, entries[1])):
        assert len(one["maps"]) == GRID**2
        height = 8
        row, column = spaced(height)[1], spaced(height)[3]
        field = effective_receptive_field(entry.model, batch, stage, (row, column))
        assert field.map_size == (height, height) and field.samples is not None
        own = field.samples[2:] / field.samples[2:].sum((1, 2), keepdims=True)
        place = GRID + 3
        np.testing.assert_allclose(one["maps"][place], own.mean(0), rtol=1e-3, atol=1e-7)
        assert one["centres"][place] == field.centre
        area = equal_votes(field, slice(2, None)).area(0.9)
        assert one["measures"][place]["area_90"] == pytest.approx(area, rel=1e-3)
    assert sets[5]["measures"][GRID + 3]["asymmetry"] == pytest.approx(1)


def test_no_image_outvotes_the_others() -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    field = effective_receptive_field(models()[0].model, images)
    assert field.samples is not None
    louder = dataclasses.replace(field, samples=field.samples * np.array([1, 1, 1, 1e6])[:, None, None])
    np.testing.assert_allclose(equal_votes(louder).map, equal_votes(field).map)
    assert equal_votes(field).map.sum() == pytest.approx(1)


def test_what_cannot_be_shared_is_refused() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = models()[0].model
    with pytest.raises(ValueError, match="keep_samples=True"):
        equal_votes(effective_receptive_field(model, images, keep_samples=False))
    field = effective_receptive_field(model, images)
    assert field.samples is not None
    with pytest.raises(ValueError, match="zero everywhere"):
        equal_votes(dataclasses.replace(field, samples=field.samples * 0))
