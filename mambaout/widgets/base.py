"""What the interactive figures share: where their JavaScript and CSS come from, how their data are checked."""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

# Takes a raw value and gives plain JSON data, or raises ValueError with what was expected ("a positive number").
Check = Callable[[Any], Any]

_HERE = Path(__file__).parent


def esm(*names: str) -> str:
    """One ES module from `common.js` and the named files: a module that imports nothing runs in any host."""
    return "\n".join((_HERE / f"{name}.js").read_text("utf-8") for name in ("common", *names))


def css(*names: str) -> str:
    """The stylesheet of all figures, `style.css`, and the named ones, which are a figure's own."""
    return "\n".join((_HERE / f"{name}.css").read_text("utf-8") for name in ("style", *names))


def webp(pixels: Any) -> str:
    """An image (H, W, 3) of uint8 as a data address.

    Raises:
        ValueError: another shape or type.
    """
    import numpy as np
    from PIL import Image

    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an image must be (H, W, 3) of uint8; got {array.shape} of {array.dtype}.")
    file = io.BytesIO()
    Image.fromarray(array).save(file, "WEBP", quality=82, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def text(value: Any) -> str:
    """A string that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value


def note(value: Any) -> str:
    """A string, empty when missing (pandas reads an empty cell as NaN)."""
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise ValueError("a string or None")
    return value


def number(value: Any) -> float:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError("a positive number")
    return float(value)


def integer(minimum: int, maximum: int | None = None) -> Check:
    """A check for an integer from `minimum` to `maximum`, both included."""

    def check(value: Any) -> int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < minimum or (maximum is not None and value > maximum):
            raise ValueError(f"an integer of at least {minimum}" + (f" and at most {maximum}" if maximum else ""))
        return int(value)

    return check


def optional(check: Check) -> Check:
    """`check`, or None for a missing value (None or NaN)."""

    def check_optional(value: Any) -> Any:
        if value is None or (isinstance(value, Real) and math.isnan(value)):
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f"{error} or None") from None

    return check_optional


def one_of(*names: str) -> Check:
    """A check for one of the given strings."""

    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(value)

    return check


def list_of(check: Check, length: int | None = None) -> Check:
    """A check for a non-empty list, every value of which passes `check`."""

    def check_list(value: Any) -> list[Any]:
        many = isinstance(value, Sequence) and not isinstance(value, str)
        if not many or not value or (length is not None and len(value) != length):
            raise ValueError(f"a list of {length} values" if length else "a non-empty list")
        return [check(item) for item in value]

    return check_list


def checked(row: Any, fields: Mapping[str, Check], where: str) -> dict[str, Any]:
    """The named fields of `row` as plain JSON data; other keys are left out: a page carries no more than it shows.

    Raises:
        ValueError: A sentence that names the row (`where`) and the key, what was expected and what came.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be a dict with the keys {', '.join(fields)}; got {type(row).__name__}.")
    clean = {}
    for key, check in fields.items():
        if key not in row:
            raise ValueError(f"{where} lacks the key {key!r}; it has {', '.join(map(str, row))}.")
        try:
            clean[key] = check(row[key])
        except ValueError as error:
            raise ValueError(f"{where}: {key!r} must be {error}; got {row[key]!r}.") from None
    return clean


def checked_rows(rows: Any, fields: Mapping[str, Check], kind: str, *, name: str) -> list[dict[str, Any]]:
    """`checked` for every row of a non-empty list; `name` is the key that names a row, and must be unique."""
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise ValueError(f"{kind}s must be a non-empty list of dicts; got {type(rows).__name__}.")
    clean, seen = [], set()
    for index, row in enumerate(rows):
        label = f" ({row[name]})" if isinstance(row, Mapping) and name in row else ""
        clean.append(checked(row, fields, f"{kind.capitalize()} {index}{label}"))
        key = clean[-1][name]
        if key in seen:
            raise ValueError(f"{kind.capitalize()} {index}: {name!r} must be unique; {key!r} comes twice.")
        seen.add(key)
    return clean


def known(value: Any, names: Sequence[str], what: str) -> str:
    """`value` if it is one of `names`, else a ValueError that lists the near ones."""
    from difflib import get_close_matches

    if value in names:
        return value
    near = get_close_matches(str(value), names, n=5, cutoff=0.5) or names[:8]
    raise ValueError(f"Unknown {what} {value!r}; did you mean one of {', '.join(near)}?")
