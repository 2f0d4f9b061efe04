"""Measures of maps whose answers are known, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mambaout.analysis.receptive_measures import EffectiveReceptiveField, FieldMap, log_area_ratio

MEASURES = {
    "area": lambda f: [f.area(share) for share in (0.1, 0.5, 0.9, 0.99, 1.0)],
    "radius": lambda f: f.radius(0.5),
    "centre of mass": lambda f: f.centre_of_mass(),
    "anisotropy": lambda f: f.anisotropy(),
    "causal asymmetry": lambda f: f.causal_asymmetry(),
    "profile": lambda f: f.radial_profile(2.0)[1],
}


def field(values: object, centre: tuple[float, float] | None = None, stride: float = 1) -> FieldMap:
    grid = np.asarray(values, dtype=float)
    return FieldMap(grid, centre or ((grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2), (stride, stride))


def rectangle(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    grid = np.zeros(size)
    grid[rows, columns] = 1
    return grid


def gaussian(size: tuple[int, int], centre: tuple[float, float], sd: tuple[float, float]) -> np.ndarray:
    y, x = (np.arange(n) - c for n, c in zip(size, centre, strict=True))
    return np.outer(np.exp(-(y**2) / (2 * sd[0] ** 2)), np.exp(-(x**2) / (2 * sd[1] ** 2)))


sides = st.integers(1, 9)
maps = st.tuples(sides, sides).flatmap(lambda s: arrays(float, s, elements=st.floats(-1, 1, width=32))).filter(
    lambda a: np.abs(a).max() > 1e-3
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(maps, st.one_of(st.floats(1e-5, 1e5), st.sampled_from([1e-300, 1e-5, 1e5, 1e300])))
def test_no_measure_depends_on_the_gradient_s_unit(grid: np.ndarray, unit: float) -> None:
    grid = np.where(np.abs(grid) < 1e-6, 0, grid)  # what underflows in another unit is lost to any measure
    for name, measure in MEASURES.items():
        here, scaled = measure(field(grid)), measure(field(unit * grid))
        np.testing.assert_allclose(scaled, here, rtol=1e-6, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(maps)
def test_measures_follow_a_turned_map(grid: np.ndarray) -> None:
    here, turned = field(grid), field(grid[::-1, ::-1])  # by half a turn, at even sides as at odd ones
    assert turned.area(0.9) == pytest.approx(here.area(0.9))
    assert turned.shift() == pytest.approx(tuple(-s for s in here.shift()), abs=1e-9)
    assert turned.causal_asymmetry() == pytest.approx(-here.causal_asymmetry(), abs=1e-9)
    assert turned.anisotropy() == pytest.approx(here.anisotropy())


@settings(max_examples=60, deadline=None)
@given(maps, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_area_is_the_fewest_pixels_and_grows_with_the_share(grid: np.ndarray, a: float, b: float) -> None:
    here, (low, high) = field(grid), sorted((a, b))
    assert 0 < here.area(low) <= here.area(high) + 1e-9 and here.area(high) <= grid.size + 1e-9
    assert here.area(high) <= high * grid.size * (1 + 1e-9)  # a uniform map is the widest
    mass = np.sort(here.mass(), axis=None)[::-1]
    whole = int(np.ceil(here.area(high) - 1e-6))
    assert mass[:whole].sum() >= high - 1e-6 and mass[: whole - 1].sum() <= high + 1e-6


@pytest.mark.parametrize("side", [7, 8])
def test_uniform_maps(side: int) -> None:
    uniform = field(np.full((side, side), 3e-7))
    assert [uniform.area(s) for s in (0.5, 0.9, 1)] == pytest.approx([s * side**2 for s in (0.5, 0.9, 1)])
    assert uniform.area_fraction(0.9) == pytest.approx(0.9)
    assert uniform.radius(0.5) == pytest.approx(side * np.sqrt(0.5 / np.pi))
    assert uniform.shift() == pytest.approx((0, 0), abs=1e-9) and uniform.anisotropy() == pytest.approx(1)
    assert uniform.causal_asymmetry() == pytest.approx(0, abs=1e-9)


def test_a_single_pixel() -> None:
    dot = field(rectangle((6, 6), slice(2, 3), slice(4, 5)))
    assert dot.area(0.99) == pytest.approx(0.99) and dot.anisotropy() == 1
    assert dot.centre_of_mass() == (2, 4) and dot.shift() == (-0.5, 1.5)


@pytest.mark.parametrize(("rows", "columns", "angle"), [(2, 8, 0), (9, 3, 90)])
def test_rectangles(rows: int, columns: int, angle: float) -> None:
    box = field(rectangle((12, 12), slice(1, 1 + rows), slice(2, 2 + columns)))
    assert box.anisotropy() == pytest.approx(max(rows, columns) / min(rows, columns))
    assert box.orientation() == pytest.approx(angle)
    assert box.area(0.5) == pytest.approx(rows * columns / 2)


def test_diagonals_are_told_apart() -> None:
    assert field(np.eye(7)).orientation() == pytest.approx(135)  # falls to the right
    assert field(np.eye(7)[::-1]).orientation() == pytest.approx(45)


def test_a_gaussian() -> None:
    bell = field(gaussian((81, 80), (40, 39.5), (6, 9)))
    assert bell.area(0.9) == pytest.approx(2 * np.pi * np.log(10) * 6 * 9, rel=0.01)
    assert bell.anisotropy() == pytest.approx(1.5, rel=0.01)
    inside = np.abs(bell.map) >= bell.level(0.5)
    assert bell.mass()[inside].sum() == pytest.approx(0.5, abs=0.01)


def test_causal_asymmetry_in_raster_order() -> None:
    """Tokens of 2 x 2 pixels; the output's own is that of rows 2, 3 and columns 4, 5."""
    ask = lambda r, c: field(rectangle((8, 8), r, c), centre=(2.5, 4.5), stride=2).causal_asymmetry()  # noqa: E731
    assert ask(slice(0, 2), slice(None)) == ask(slice(2, 4), slice(0, 4)) == 1
    assert ask(slice(4, 8), slice(0, 1)) == ask(slice(2, 4), slice(6, 8)) == -1
    assert ask(slice(2, 4), slice(4, 6)) == 0
    assert ask(slice(2, 4), slice(2, 8)) == 0
    # A convolution's token of 2 x 2 may be centred on a pixel: half of the next pixel belongs to its neighbour.
    column = field(rectangle((9, 9), slice(3, 7), slice(4, 5)), centre=(4, 4), stride=2)
    assert column.causal_asymmetry() == pytest.approx((0.5 - 1.5) / 2)


def test_radial_profile() -> None:
    middles, means = field(gaussian((60, 61), (29.5, 30), (12, 12))).radial_profile(2)
    assert (np.diff(middles) == 2).all() and middles[0] == 1
    np.testing.assert_allclose(means[:12] / means[0], np.exp(-(middles[:12] ** 2 - 1) / (2 * 12**2)), rtol=0.05)
    ring, held = field(np.ones((5, 5))).radial_profile()
    np.testing.assert_allclose(held, 1 / 25)
    assert len(ring) == 3


def test_smoothing_keeps_the_mass_and_adds_variances() -> None:
    sharp = field(gaussian((60, 61), (29.5, 30), (3, 4)))
    smooth = sharp.smoothed(4)
    assert smooth.map.sum() == pytest.approx(sharp.map.sum())
    np.testing.assert_allclose(smooth.covariance() - sharp.covariance(), 16 * np.eye(2), atol=0.1)
    corner = field(rectangle((8, 8), slice(0, 1), slice(0, 1)))
    assert corner.smoothed(2).map.sum() == pytest.approx(1)


def test_the_copied_measure_depends_on_the_unit_and_ours_does_not() -> None:
    """The logarithm raises the small numbers around a peak, the more the larger the unit."""
    generator = np.random.default_rng(0)
    grid = gaussian((101, 101), (50, 50), (9, 9)) + 1e-4 * generator.random((101, 101))
    ratios = [log_area_ratio(unit * grid) for unit in (1e-3, 1, 1e3, 1e5)]
    assert ratios == sorted(ratios) and ratios[-1] > 1.5 * ratios[0]
    ours = [field(unit * grid).area(0.99) for unit in (1e-3, 1, 1e3, 1e5)]
    assert ours == pytest.approx([ours[0]] * 4)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Images whose fields have widths drawn at random: the mean column of the mass is known."""
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(60):
        places = 10 + generator.normal(0, 2, size=25)
        samples = np.stack([gaussian((3, 21), (1, place), (0.5, 1)) for place in places])
        samples /= samples.sum((1, 2), keepdims=True)
        many = EffectiveReceptiveField(samples.mean(0), (1, 10), samples=samples)
        interval = many.interval(lambda f: f.centre_of_mass()[1], resamples=200, seed=trial)
        hits += 10 in interval
    assert 50 <= hits <= 60
    assert interval.n == 25 and interval.low < interval.mean < interval.high


def test_intervals_shrink_to_a_point_when_all_images_agree() -> None:
    samples = np.repeat(gaussian((9, 9), (4, 4), (1, 2))[None], 5, axis=0)
    interval = EffectiveReceptiveField(samples[0], (4, 4), samples=samples).interval(FieldMap.anisotropy, resamples=20)
    assert interval.low == pytest.approx(interval.high) and interval.mean == pytest.approx(interval.low)


def test_the_summary_is_readable() -> None:
    assert str(field(np.ones((10, 10)))).startswith("50 % in 50 px, 90 % in 90 px, 99 % in 99 px; anisotropy 1.00")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: field(np.ones((2, 2))).area(0), "share"),
        (lambda: field(np.ones((2, 2))).area(1.1), "share"),
        (lambda: field(np.zeros((2, 2))).area(0.5), "zero everywhere"),
        (lambda: field([[np.nan]]), "not finite"),
        (lambda: field(np.ones((2, 2))).smoothed(0), "positive"),
        (lambda: FieldMap(np.ones(3), (0, 0)), r"\(3,\)"),
        (lambda: field(np.ones((2, 2))).radial_profile(0), "positive"),
        (lambda: EffectiveReceptiveField(np.ones((2, 2)), (0, 0)).interval(FieldMap.anisotropy), "two images"),
    ],
)
def test_bad_questions(ask, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        ask()
