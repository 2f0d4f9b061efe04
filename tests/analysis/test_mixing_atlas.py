"""Every mask of the figure is the one that its mixer must have."""

import numpy as np
import pytest
import torch

from mambaout.analysis.mixing import causal_mask
from mambaout.analysis.mixing_atlas import atlas

H, W = 8, 9  # larger than one window, so that clipped ones occur
L = H * W
EVERY = np.ones((L, L), bool)


@pytest.fixture(scope="module")
def views():
    return {(m["name"], v["label"]): v for m in atlas(H, W) for v in m["views"]}


def near(reach, step=1):
    row, column = np.arange(L) // W, np.arange(L) % W
    offsets = [np.abs(place[:, None] - place) for place in (row, column)]
    return np.logical_and.reduce([(offset <= reach) & (offset % step == 0) for offset in offsets])


def then(first, second):
    """What a second layer reads through a first one."""
    return second.astype(int) @ first.astype(int) > 0


def test_routes_read_what_came_before_and_all_of_them_together_everything(views):
    routes = {key: view for key, view in views.items() if view["order"] is not None}
    assert len(routes) == 18
    for key, view in routes.items():
        assert np.array_equal(view["reads"], causal_mask(torch.tensor(view["order"])).numpy()), key
    for name in ("Vim", "VMamba", "LocalMamba", "PlainMamba"):
        assert np.array_equal(views[name, "all routes"]["reads"], EVERY)
        different = {tuple(view["order"]) for key, view in routes.items() if key[0] == name}
        assert len(different) == (2 if name == "Vim" else 4)


def test_attention(views):
    assert np.array_equal(views["Fully-visible", "one layer"]["reads"], EVERY)
    assert np.array_equal(views["Causal", "one layer"]["reads"], np.tril(EVERY))
    assert np.array_equal(views["Causal", "second backwards"]["reads"], EVERY)


def test_convolution_and_windows(views):
    for layers in range(1, 6):
        label = "1 layer" if layers == 1 else f"{layers} layers"
        assert np.array_equal(views["Convolution 7 × 7", label]["reads"], near(3 * layers))
    assert np.array_equal(views["Sliding window 7 × 7", "1 layer"]["reads"], near(3))
    assert np.array_equal(views["Sliding window 7 × 7", "2 layers"]["reads"], near(6))
    assert np.array_equal(views["Dilated window", "1 layer"]["reads"], near(6, 2))
    assert np.array_equal(views["Dilated window", "2 layers"]["reads"], near(12, 2))
    assert np.array_equal(views["Dilated window", "plain, then dilated"]["reads"], then(near(3), near(6, 2)))
    row, column = np.arange(L) // W, np.arange(L) % W
    same = [[(place + move) // 7 for place in (row, column)] for move in (0, 4)]  # + 4 is a shift by 3, modulo 7
    cut, shifted = (np.logical_and.reduce([one[:, None] == one for one in pair]) for pair in same)
    assert np.array_equal(views["Windows of 7 × 7", "1 layer"]["reads"], cut)
    assert np.array_equal(views["Windows of 7 × 7", "2 layers"]["reads"], cut)
    assert np.array_equal(views["Windows of 7 × 7", "second shifted"]["reads"], then(cut, shifted))


def test_it_leaves_the_random_numbers_of_others_alone():
    before = torch.get_rng_state()
    atlas(2, 2)
    assert torch.equal(torch.get_rng_state(), before)
