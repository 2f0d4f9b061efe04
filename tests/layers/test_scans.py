"""Token orders: each is a permutation, with the shape that its paper gives it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout.layers.scans import SCANS, inverse, routes, snake, windows

sides = st.integers(1, 17)


def rows(*lines):
    return [[int(token) for token in line.split()] for line in lines]


def grid(height, width):
    return torch.arange(height * width).view(height, width)


@given(scan=st.sampled_from(sorted(SCANS)), height=sides, width=sides)
def test_every_route_is_a_permutation_and_inverse_undoes_it(scan, height, width):
    orders = routes(scan, height, width)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(height * width).expand(len(orders), -1))
    tokens = torch.randn(height * width)
    for order, place in zip(orders, inverse(orders), strict=True):
        assert torch.equal(tokens[order][place], tokens)
        assert torch.equal(inverse(order), place)


@given(height=sides, width=sides)
def test_number_of_routes_does_not_depend_on_the_image(height, width):
    counts = {scan: len(routes(scan, height, width)) for scan in SCANS}
    assert counts == {"raster": 1, "bidirectional": 2, "cross": 4, "local": 4, "continuous": 4, "random": 1}


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        ("raster", rows("0 1 2 3 4 5")),
        ("bidirectional", rows("0 1 2 3 4 5", "5 4 3 2 1 0")),
        ("cross", rows("0 1 2 3 4 5", "0 3 1 4 2 5", "5 4 3 2 1 0", "5 2 4 1 3 0")),
        ("local", rows("0 1 3 4 2 5", "0 1 2 3 4 5", "5 2 4 3 1 0", "5 4 3 2 1 0")),
        ("continuous", rows("0 1 2 5 4 3", "0 3 4 1 2 5", "3 4 5 2 1 0", "5 2 1 4 3 0")),
    ],
)
def test_two_rows_of_three_tokens(scan, expected):
    """0 1 2
    3 4 5"""
    assert routes(scan, 2, 3).tolist() == expected


def test_windows_are_read_one_after_the_other_and_clipped_at_the_border():
    """A window of 2 on 3 x 5 tokens: whole ones, then a column, then a row, then a corner of one token."""
    expected = "0 1 5 6  2 3 7 8  4 9  10 11  12 13  14"
    assert windows(grid(3, 5), 2).tolist() == rows(expected)[0]
    assert torch.equal(windows(grid(3, 5), 7), grid(3, 5).flatten()), "one window holds all: raster order"


@given(height=sides, width=sides, side=st.integers(1, 8))
def test_windows_equal_the_blocks_of_a_split_image(height, width, side):
    image = grid(height, width)
    blocks = [block.flatten() for band in image.split(side) for block in band.split(side, dim=1)]
    assert torch.equal(windows(image, side), torch.cat(blocks))


@given(height=sides, width=sides)
def test_the_snake_moves_to_a_neighbour_each_time(height, width):
    for order in routes("continuous", height, width):
        row, column = order // width, order % width
        assert (row.diff().abs() + column.diff().abs() == 1).all()


def test_raster_order_jumps_at_the_end_of_a_row_and_the_snake_does_not():
    columns = [(order % 4).diff().abs().max() for order in (grid(3, 4).flatten(), snake(grid(3, 4)))]
    assert columns == [3, 1]


def test_the_random_order_is_always_the_same_one_and_no_other():
    assert torch.equal(routes("random", 14, 14), routes("random", 14, 14))
    state = torch.get_rng_state()
    order = routes("random", 14, 14)[0]
    assert torch.equal(torch.get_rng_state(), state), "it must leave the experiment's random numbers alone"
    assert (order.diff().abs() == 1).float().mean() < 0.05


@pytest.mark.parametrize("scan", SCANS)
def test_a_grid_is_not_changed_and_its_device_is_kept(scan):
    image = grid(3, 4)
    SCANS[scan](image)
    assert torch.equal(image, grid(3, 4))
    assert routes(scan, 3, 4, device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zigzag", 3, 3), "unknown scan 'zigzag'; known scans: raster, bidirectional, cross"),
        (("raster", 0, 3), "at least one token, got 0 x 3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        routes(*arguments)
