"""Measures of a receptive field that mean something: none depends on the gradient's unit.

A map of non-negative numbers is read as a distribution of mass over pixels, each a square of side 1 whose middle has
whole coordinates (row, column). Whatever factor all gradients share cancels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaout.analysis.statistics import Interval

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FieldMap:
    """A map and where its output lies.

    Attributes:
        map: (H, W), in the gradient's unit.
        centre: row and column of the output's own place, in pixels.
        stride: pixels between neighbouring outputs, vertically and horizontally.
    """

    map: Array
    centre: tuple[float, float]
    stride: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.map.ndim != 2 or not self.map.size:
            raise ValueError(f"expected a map (H, W), got shape {self.map.shape}")
        if not np.isfinite(self.map).all():
            raise ValueError("the map holds numbers that are not finite")

    def mass(self) -> Array:
        """Share of the total in each pixel: (H, W), not negative, sum 1; of a signed map the absolute values.

        Raises:
            ValueError: the map is zero everywhere, so that there is nothing to measure.
        """
        sizes = np.abs(self.map)
        largest = sizes.max()
        if largest == 0:
            raise ValueError("the gradient is zero everywhere: this output depends on no pixel of these images")
        sizes = sizes / largest  # first, so that no sum overflows
        return sizes / sizes.sum()

    def area(self, share: float) -> float:
        """Fewest pixels that hold this share of the mass; a part of the last pixel counts as that part.

        A uniform map of n pixels gives ``share * n``. The usual alternative, the side of a centred square, asks for a
        centre pixel, which maps of even size have not, and calls a long narrow field large.
        """
        _check_share(share)
        largest_first = np.sort(self.mass(), axis=None)[::-1]
        held = np.cumsum(largest_first)
        held /= held[-1]
        last = int(np.searchsorted(held, share))
        before = held[last - 1] if last else 0.0
        return last + float((share - before) / (held[last] - before))

    def radius(self, share: float) -> float:
        """Radius in pixels of the disc whose area is :meth:`area`."""
        return math.sqrt(self.area(share) / math.pi)

    def area_fraction(self, share: float) -> float:
        """:meth:`area` as a share of the image."""
        return self.area(share) / self.map.size

    def level(self, share: float) -> float:
        """The number, in the map's unit, above which the pixels of :meth:`area` lie: the contour to draw."""
        sizes = np.sort(np.abs(self.map), axis=None)[::-1]
        return float(sizes[min(math.ceil(self.area(share) - 1e-9), sizes.size) - 1])

    def centre_of_mass(self) -> tuple[float, float]:
        """Row and column, in pixels."""
        mass = self.mass()
        rows, columns = np.arange(mass.shape[0]), np.arange(mass.shape[1])
        return float(mass.sum(1) @ rows), float(mass.sum(0) @ columns)

    def shift(self) -> tuple[float, float]:
        """From the output's own place to the centre of mass: rows down, columns to the right, in pixels."""
        row, column = self.centre_of_mass()
        return row - self.centre[0], column - self.centre[1]

    def covariance(self) -> Array:
        """(2, 2) second moments of the mass about its centre, rows first, in square pixels.

        A pixel is a square of side 1, not a point: its own variance, 1/12 along each axis, is part of it.
        """
        mass = self.mass()
        row, column = self.centre_of_mass()
        y, x = np.arange(mass.shape[0]) - row, np.arange(mass.shape[1]) - column
        mixed = float(y @ mass @ x)
        moments = [[float(mass.sum(1) @ y**2), mixed], [mixed, float(mass.sum(0) @ x**2)]]
        return np.array(moments) + np.eye(2) / 12

    def anisotropy(self) -> float:
        """Spread along the widest direction over that across it, at least 1; n / m for a uniform n x m rectangle."""
        small, large = np.linalg.eigvalsh(self.covariance())
        return float(np.sqrt(large / small))

    def orientation(self) -> float:
        """Angle of the widest direction in degrees, in [0, 180): 0 along rows, 90 along columns, as in the picture
        (anticlockwise). Without meaning where :meth:`anisotropy` is near 1."""
        (yy, xy), (_, xx) = self.covariance()
        return float(np.degrees(0.5 * np.arctan2(-2 * xy, xx - yy)) % 180)

    def causal_asymmetry(self) -> float:
        """Mass before the output in raster order less mass after it, over both: 1 when nothing after it is seen.

        Before are the rows above the output's own, and those to the left in its own row of tokens; the token itself
        counts neither way, and a pixel on the edge of two tokens counts half for each. 0 for a field that is
        symmetric about the output; near the image's border a symmetric one is cut, and then it is not 0.
        """
        mass = self.mass()
        above, level, below = _sides(mass.shape[0], self.centre[0], self.stride[0])
        left, _, right = _sides(mass.shape[1], self.centre[1], self.stride[1])
        in_row = level @ mass  # (W,)
        before = float((above @ mass).sum() + left @ in_row)
        after = float((below @ mass).sum() + right @ in_row)
        return (before - after) / (before + after) if before + after else 0.0

    def radial_profile(self, width: float = 1.0) -> tuple[Array, Array]:
        """Mean mass of a pixel at each distance from the output's own place.

        Args:
            width: of the rings, in pixels.

        Returns:
            Middles of the rings that hold a pixel (R,), in pixels, and the mean share of the mass there (R,).
        """
        if not width > 0:
            raise ValueError(f"the rings' width must be positive, got {width}")
        mass = self.mass()
        y, x = (np.arange(n) - c for n, c in zip(mass.shape, self.centre, strict=True))
        ring = (np.hypot(y[:, None], x) / width).astype(int).ravel()
        pixels = np.bincount(ring)
        held = np.bincount(ring, weights=mass.ravel())
        filled = pixels > 0
        middles = (np.flatnonzero(filled) + 0.5) * float(width)
        return middles.astype(np.float64), held[filled] / pixels[filled]

    def smoothed(self, sd: float) -> "FieldMap":
        """A map blurred by a Gaussian of this standard deviation in pixels, for contours; no mass leaves the image.

        A map of few images changes from pixel to pixel. Measure the map itself: blurring widens it.
        """
        if not sd > 0:
            raise ValueError(f"the standard deviation must be positive, got {sd}")
        down, across = (_blur(n, sd) for n in self.map.shape)
        return FieldMap(down @ self.map @ across.T, self.centre, self.stride)

    def __str__(self) -> str:
        sizes = ", ".join(f"{100 * share:g} % in {self.area(share):.0f} px" for share in (0.5, 0.9, 0.99))
        return f"{sizes}; anisotropy {self.anisotropy():.2f}, causal asymmetry {self.causal_asymmetry():+.2f}"


@dataclass(frozen=True, eq=False)
class EffectiveReceptiveField(FieldMap):
    """The gradient of one output with respect to the image, and its measures.

    Attributes:
        map: (H, W), the mean over images.
        centre, stride: see :class:`FieldMap`.
        stage: of the model, counted from 0.
        location: row and column of the output in the stage's map.
        map_size: height and width of that map.
        kind: "absolute", "squared" or "signed".
        samples: (N, H, W), each image's own map, or None when they were not kept.
    """

    stage: int = 0
    location: tuple[int, int] = (0, 0)
    map_size: tuple[int, int] = (1, 1)
    kind: str = "absolute"
    samples: Array | None = None

    def interval(
        self,
        measure: Callable[[FieldMap], float],
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Interval:
        """A measure with its bootstrap interval: the images are drawn again with replacement, and averaged anew.

        Args:
            measure: of a map, such as ``lambda field: field.area(0.9)`` or ``FieldMap.anisotropy``.
            confidence: that the interval lies between the percentiles of the resampled measures.
            resamples: how often.
            seed: of the draws.

        Returns:
            ``mean`` holds the measure of the mean over all images.

        Raises:
            ValueError: fewer than two images, or their maps were not kept.
        """
        if self.samples is None or len(self.samples) < 2:
            raise ValueError("an interval needs the maps of at least two images: give more, and keep_samples=True")
        if not 0 < confidence < 1 or resamples < 1:
            raise ValueError(f"confidence must lie between 0 and 1, resamples be positive: {confidence}, {resamples}")
        n = len(self.samples)
        flat = self.samples.reshape(n, -1)
        generator = np.random.default_rng(seed)
        values = []
        for _ in range(resamples):
            weights = np.bincount(generator.integers(n, size=n), minlength=n) / n
            drawn = (weights @ flat).reshape(self.map.shape)
            values.append(measure(FieldMap(drawn, self.centre, self.stride)))
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(float(measure(self)), float(low), float(high), n)


def log_area_ratio(scores: ArrayLike, share: float = 0.99) -> float:
    """A cautionary tale: the measure of a widely copied script, which depends on the gradient's unit.

    The map is passed through log10(x + 1) and divided by its maximum; the smallest square around the middle pixel that
    holds ``share`` of the sum is given as a share of the image. The logarithm is linear for small numbers and flattens
    large ones, so the same map in another unit gives another "area". It is here to be shown, not to be used.

    Args:
        scores: (H, W), not negative.
        share: of the sum.
    """
    _check_share(share)
    logs = np.log10(np.asarray(scores, dtype=float) + 1)
    height, width = logs.shape
    for half in range(min(height, width) // 2):
        square = logs[height // 2 - half : height // 2 + half + 1, width // 2 - half : width // 2 + half + 1]
        if square.sum() >= share * logs.sum():
            return (2 * half + 1) ** 2 / logs.size
    return 1.0


def _blur(n: int, sd: float) -> Array:
    """Matrix (n, n) that spreads each pixel's mass as a Gaussian over the pixels that there are."""
    places = np.arange(n)
    weights = np.exp(-((places[:, None] - places) ** 2) / (2 * sd**2))
    return weights / weights.sum(0)


def _sides(n: int, centre: float, stride: float) -> tuple[Array, Array, Array]:
    """Which part of n pixels lies before, in and after the token of this centre and width: three (n,), sum 1."""
    pixels = np.arange(n)
    before = np.clip(centre - stride / 2 - pixels + 0.5, 0, 1)  # a pixel spans half to either side of its middle
    after = np.clip(pixels + 0.5 - centre - stride / 2, 0, 1)
    return before, 1 - before - after, after


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"the share of the mass must be in (0, 1], got {share}")
