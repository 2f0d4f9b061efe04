"""A map over an image: the numbers, the colours and the contours that were asked for."""

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from mambaout.figures import map_over_image


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_positive_and_signed_maps_have_their_own_colours() -> None:
    values = np.linspace(0, 3, 20).reshape(4, 5)
    ax = map_over_image(np.zeros((4, 5, 3), dtype=np.uint8), values, label="share")
    grey, drawn = ax.images
    np.testing.assert_array_equal(drawn.get_array(), values)
    assert drawn.get_clim() == (0, 3) and grey.get_clim() == (0, 255)
    assert "share" in [a.get_ylabel() for a in ax.figure.axes]
    signed = map_over_image(np.zeros((4, 5)), values - 1).images[1]
    assert signed.get_clim() == (-2, 2) and signed.get_cmap().name == "RdBu_r"


def test_contours_and_mark() -> None:
    y, x = np.mgrid[:20, :20]
    values = np.exp(-((y - 8) ** 2 + (x - 12) ** 2) / 20)
    ax = map_over_image(np.zeros((20, 20)), values, levels={"50 %": 0.5, "90 %": 0.1, "none": 7}, mark=(8, 12))
    assert [t.get_text() for t in ax.texts] == ["90 %", "50 %"]
    assert (ax.lines[0].get_xdata()[0], ax.lines[0].get_ydata()[0]) == (12, 8)  # type: ignore[index]


def test_a_map_of_zeros_is_drawn() -> None:
    assert map_over_image(np.zeros((3, 3)), np.zeros((3, 3))).images[1].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("image", "values", "message"),
    [
        (np.zeros((4, 4, 2)), np.zeros((4, 4)), r"\(H, W, 3\), got \(4, 4, 2\)"),
        (np.zeros((4, 4)), np.zeros((4, 5)), r"got \(4, 5\)"),
        (np.zeros((4, 4)), np.full((4, 4), np.nan), "not finite"),
        (np.full((4, 4), 9.0), np.zeros((4, 4)), "got 9 to 9"),
    ],
)
def test_bad_arguments(image: Any, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_over_image(image, values)
