"""Masked attention against attention over the allowed tokens only, one token at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout.layers import Attention
from mambaout.layers.windowed import MaskedAttention, sliding_window, window_partition

MASKS = {
    "sliding": sliding_window(3),
    "dilated": sliding_window(3, 2),
    "windows": window_partition(3),
    "shifted": window_partition(3, 1),
}


@pytest.mark.parametrize("name", MASKS)
def test_it_equals_attention_over_the_allowed_tokens(name):
    torch.manual_seed(0)
    layer, plain = MaskedAttention(8, 2, MASKS[name]).double(), Attention(8, 2).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 8, dtype=torch.double)
    y, tokens = layer(x).flatten(1, 2), x.flatten(1, 2)
    for t, allowed in enumerate(MASKS[name](4, 5, None)):
        own = int(allowed[:t].sum())  # where token t stands among those that it may read
        torch.testing.assert_close(y[:, t], plain(tokens[:, allowed])[:, own])


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.sampled_from([1, 3, 5]),
    dilation=st.integers(1, 3),
    shift=st.integers(0, 4),
)
@settings(deadline=None)
def test_masks_equal_loops_over_pairs_of_tokens(height, width, size, dilation, shift):
    shift %= size
    sliding = sliding_window(size, dilation)(height, width, None)
    partition = window_partition(size, shift)(height, width, None)
    places = [(row, column) for row in range(height) for column in range(width)]
    reach = [dilation * step for step in range(-(size // 2), size // 2 + 1)]
    for t, (r, c) in enumerate(places):
        for s, (row, column) in enumerate(places):
            assert sliding[t, s] == (row - r in reach and column - c in reach)
            cell = [(place - shift) // size for place in (r, c, row, column)]
            assert partition[t, s] == (cell[:2] == cell[2:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sliding_window(4), "odd size"),
        (lambda: sliding_window(3, 0), "dilation of 1 or more"),
        (lambda: window_partition(7, 7), "less than the window's size 7"),
    ],
)
def test_impossible_masks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mask_has_no_steps():
    with pytest.raises(ValueError, match="reads an image as a whole"):
        MaskedAttention(8, 2, MASKS[next(iter(MASKS))]).step(torch.zeros(1, 8))
