"""What an output sees: effective receptive fields of many models over a photo, two side by side."""

import base64
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from . import base

STATES = ("trained", "untrained")
SOURCES = ("photo", "average")
MEASURES = ("area_50", "area_90", "area_99", "anisotropy", "asymmetry", "down", "right")

_SET = {
    "group": base.text,
    "model": base.text,
    "state": base.one_of(*STATES),
    "source": base.one_of(*SOURCES),
    "stage": base.text,
    "stride": base.list_of(base.number, 2),
    "centres": lambda value: value,
    "maps": lambda value: value,
    "measures": lambda value: value,
}
_CHOICE = ("model", "state", "stage")


class ReceptiveExplorer(anywidget.AnyWidget):
    """Choose two models and click a place: what the output there sees, as maps, contours, profiles and numbers.

    Args:
        pictures: "photo" and "average" -> (S, T, 3) uint8, what the fields of this source are drawn over.
        names: "photo" and "average" -> what is to be seen there, for those who cannot see it.
        grid: locations down and across.
        sets: one dict for each model, state, source and stage: `group` and `model` (names), `state` ("trained" or
            "untrained"), `source` ("photo" or "average"), `stage` (a name), `stride` (pixels between outputs, down
            and across), and for the K locations, row by row: `centres` (K, 2), row and column of the output's place in
            pixels; `maps` (K, H, W), not negative; `measures`, K dicts with the keys `area_50`, `area_90`, `area_99`
            (pixels), `anisotropy`, `asymmetry`, `down` and `right` (shift of the centre of mass in pixels).
            `mambaout.analysis.receptive_atlas` makes them.
        pool: pixels along a side that share one cell of the drawn map; it divides H and W.
        left, right: what is shown first, (model, state, stage); by default the first set, and the last.
        source: "photo" or "average".
        location: number of the location chosen first; the middle one if None.

    The numbers shown are those in `measures`. The maps are drawn only: each cell is one byte, the square root of its
    share of the map's largest.

    Raises:
        ValueError: A sentence that names the set and the key at fault.
    """

    _esm = base.esm("receptive_explorer")
    _css = base.css("receptive_explorer")

    pictures = traitlets.Dict().tag(sync=True)
    size = traitlets.List(traitlets.Int()).tag(sync=True)
    pool = traitlets.Int().tag(sync=True)
    grid = traitlets.List(traitlets.Int()).tag(sync=True)
    sets = traitlets.List(traitlets.Dict()).tag(sync=True)
    maps = traitlets.Unicode().tag(sync=True)
    left = traitlets.Dict().tag(sync=True)
    right = traitlets.Dict().tag(sync=True)
    source = traitlets.Enum(SOURCES, "photo").tag(sync=True)
    location = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        pictures: Mapping[str, ArrayLike],
        names: Mapping[str, str],
        grid: Sequence[int],
        sets: Sequence[Mapping[str, Any]],
        *,
        pool: int = 2,
        left: Sequence[str] | None = None,
        right: Sequence[str] | None = None,
        source: str = "photo",
        location: int | None = None,
    ) -> None:
        rows, columns = (base.integer(1)(side) for side in grid)
        locations = rows * columns
        if location is not None and not 0 <= location < locations:
            raise ValueError(f"location must be from 0 to {locations - 1}; got {location}.")
        if not sets:
            raise ValueError("sets must be a non-empty list of dicts.")
        clean, packed, size = [], bytearray(), np.asarray(sets[0].get("maps")).shape[1:]
        for index, raw in enumerate(sets):
            where = f"Set {index} ({raw.get('model')}, {raw.get('state')}, {raw.get('source')}, {raw.get('stage')})"
            one = base.checked(raw, _SET, where)
            maps = np.asarray(one.pop("maps"), dtype=float)
            if maps.shape != (locations, *size) or len(size) != 2:
                raise ValueError(f"{where}: 'maps' must be {locations} maps of {size} pixels; got {maps.shape}.")
            try:
                packed += quantise(maps, pool).tobytes()
            except ValueError as error:
                raise ValueError(f"{where}: 'maps' {error}") from None
            one["centres"] = _table(one["centres"], locations, 2, f"{where}: 'centres'")
            numbers = [[measure[name] for name in MEASURES] for measure in one["measures"]]
            one["measures"] = _table(numbers, locations, len(MEASURES), f"{where}: 'measures'")
            clean.append(one)
        super().__init__(
            pictures={
                name: {"address": base.webp(pictures[name]), "name": base.text(names[name])} for name in SOURCES
            },
            size=[int(side) for side in size],
            pool=pool,
            grid=[rows, columns],
            sets=clean,
            maps=base64.b64encode(gzip.compress(bytes(packed), 9, mtime=0)).decode(),
            left=_choice(clean, left, 0),
            right=_choice(clean, right, -1),
            source=base.known(source, SOURCES, "source"),
            location=rows // 2 * columns + columns // 2 if location is None else location,
        )


def quantise(maps: ArrayLike, pool: int) -> NDArray[np.uint8]:
    """Maps (K, H, W) -> cells (K, H / pool, W / pool): 255 times the root of each cell's share of the largest.

    Raises:
        ValueError: sides that `pool` does not divide, numbers that are negative or not finite, or a map of zeros.
    """
    array = np.asarray(maps, dtype=float)
    count, height, width = array.shape
    if height % pool or width % pool:
        raise ValueError(f"must have sides that {pool} divides; got {height} x {width}.")
    if not np.isfinite(array).all() or array.min() < 0:
        raise ValueError("must be finite and not negative.")
    cells = array.reshape(count, height // pool, pool, width // pool, pool).mean((2, 4))
    largest = cells.max((1, 2), keepdims=True)
    if not largest.all():
        raise ValueError("must not be zero everywhere.")
    return np.rint(255 * np.sqrt(cells / largest)).astype(np.uint8)


def _table(values: Any, rows: int, columns: int, where: str) -> list[list[float]]:
    """Finite numbers (rows, columns) with four digits, which is more than is shown."""
    table = np.asarray(values, dtype=float)
    if table.shape != (rows, columns) or not np.isfinite(table).all():
        raise ValueError(f"{where} must be {rows} x {columns} finite numbers; got shape {table.shape}.")
    return [[float(f"{number:.4g}") for number in row] for row in table.tolist()]


def _choice(sets: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None, default: int) -> dict[str, str]:
    """(model, state, stage) as a dict, checked against the sets."""
    keys = [tuple(one[key] for key in _CHOICE) for one in sets]
    if wanted is None:
        wanted = keys[default]
    if tuple(wanted) not in keys:
        listed = "; ".join(dict.fromkeys(", ".join(key) for key in keys))
        raise ValueError(f"There is no set {', '.join(wanted)}; the sets are {listed}.")
    return dict(zip(_CHOICE, wanted, strict=True))
