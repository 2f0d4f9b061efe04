"""The static figures show the numbers they were given, and refuse bad ones."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("agg")

import matplotlib.pyplot as plt

from mambaout.figures import accuracy_curve, confusion_matrix, image_grid, training_curve


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_training_curve() -> None:
    ax = training_curve([0, 1, 2], [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3, 2, 1])
    assert ax.get_xlabel() == "step" and "loss" in ax.get_ylabel() and ax.get_legend() is None


def test_running_mean_stands_in_the_middle_of_its_window() -> None:
    ax = training_curve(range(5), [1, 2, 6, 4, 5], window=3, label="run")
    np.testing.assert_allclose(np.asarray(ax.lines[1].get_xdata()), [1, 2, 3])
    np.testing.assert_allclose(np.asarray(ax.lines[1].get_ydata()), [3, 4, 5])
    assert ax.get_legend_handles_labels()[1] == ["run"]


def test_runs_share_axes_in_different_colours() -> None:
    ax = training_curve([0, 1], [1, 0], label="a")
    assert training_curve([0, 1], [2, 1], label="b", ax=ax) is ax
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert ax.get_legend() is not None and ax.get_legend_handles_labels()[1] == ["a", "b"]


def test_accuracy_is_shown_in_per_cent() -> None:
    ax = accuracy_curve(torch.tensor([1, 2]), torch.tensor([0.5, 0.9]))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert "50 %" in labels or "60 %" in labels


@pytest.mark.parametrize("curve", [training_curve, accuracy_curve])
@pytest.mark.parametrize(
    ("steps", "values", "expected"),
    [
        ([0, 1], [0.5], r"equally long rows of numbers, got \(2,\) and \(1,\)"),
        ([], [], "equally long"),
        ([[0]], [[0.5]], "equally long"),
        ([0, 1], [0.5, float("nan")], "nan at index 1"),
    ],
)
def test_bad_series(curve: Callable[..., Any], steps: Any, values: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        curve(steps, values)


def test_bad_window_and_accuracy() -> None:
    with pytest.raises(ValueError, match=r"between 1 and the number of losses \(2\), got 3"):
        training_curve([0, 1], [1, 2], window=3)
    with pytest.raises(ValueError, match="between 0 and 1, got 50 to 92"):
        accuracy_curve([0, 1], [50, 92])


def test_confusion_matrix_is_in_per_cent_of_the_row() -> None:
    ax = confusion_matrix([[9, 1], [0, 4]], ["cat", "dog"])
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_array()), [[90, 10], [0, 100]])
    assert [text.get_text() for text in ax.texts] == ["90", "10", "", "100"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true class", "predicted class")


def test_a_class_that_never_occurs_is_empty() -> None:
    ax = confusion_matrix([[0, 0], [1, 3]], ["cat", "dog"])
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_array()), [[0, 0], [25, 75]])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 2, 3]], r"2 x 2 classes, got \(1, 3\)"),
        ([[1, -1], [0, 2]], "smallest entry is -1"),
        ([1, 2], "got"),
    ],
)
def test_bad_confusion_matrix(matrix: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        confusion_matrix(matrix, ["cat", "dog"])


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 28, 28, 3)])
def test_image_grid(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    grid = image_grid(images, [f"image {i}" for i in range(5)], columns=3)
    assert grid.shape == (2, 3)
    for i, ax in enumerate(grid.flat[:5]):
        np.testing.assert_array_equal(ax.images[0].get_array(), images[i])
        assert ax.get_title() == f"image {i}"
    assert not grid[1, 2].images


def test_grey_images_are_comparable() -> None:
    grid = image_grid(torch.full((1, 4, 4), 0.5))
    assert grid[0, 0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("images", "options", "expected"),
    [
        (np.zeros((28, 28)), {}, r"\(N, H, W\) or \(N, H, W, 3\), got \(28, 28\)"),
        (np.zeros((2, 3, 28, 28)), {}, "got"),
        (np.zeros((0, 28, 28)), {}, "got"),
        (np.full((1, 2, 2), 7.0), {}, "got 7 to 7"),
        (np.zeros((2, 4, 4)), {"titles": ["one"]}, "each of the 2 images, got 1"),
        (np.zeros((2, 4, 4)), {"columns": 0}, "at least 1, got 0"),
    ],
)
def test_bad_images(images: np.ndarray, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        image_grid(images, **options)


def test_the_look_does_not_leak() -> None:
    before = dict(plt.rcParams)
    training_curve([0, 1], [1, 0])
    assert dict(plt.rcParams) == before


def test_text_is_legible_on_a_phone() -> None:
    """No text is smaller than 9 CSS pixels when the figure is 358 pixels wide."""
    for ax in (training_curve([0, 1], [1, 0]), confusion_matrix([[1, 0], [0, 1]], ["a", "b"])):
        (width,) = {plt.figure(number).get_figwidth() for number in plt.get_fignums()}
        texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, *ax.texts]
        assert min(float(text.get_fontsize()) for text in texts) * 358 / width / 72 >= 9


def test_a_figure_leaves_interactive_mode_as_a_notebook_needs_it() -> None:
    """In a fresh kernel the first figure switches it on, inside the theme; the second must still be shown."""
    code = (
        "import sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance()\n"
        "import numpy as np, matplotlib\n"
        "from mambaout import figures\n"
        "figures.image_grid(np.zeros((1, 2, 2)))\n"
        "sys.exit(not matplotlib.is_interactive())\n"
    )
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=120).returncode == 0
