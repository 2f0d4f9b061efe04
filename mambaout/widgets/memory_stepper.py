"""Two kinds of memory (the paper's Figure 2): keys and values that pile up, and a state that is rewritten."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from . import base

SOURCES, MEASURES = ("photo", "sentence"), ("kept", "weight")

_RECORD = {
    "source": base.one_of(*SOURCES),
    "length": base.integer(1),
    "d_state": base.integer(1),
    "trained": lambda value: bool(value),
    "kept": lambda value: value,
    "weight": lambda value: value,
    "state": lambda value: value,
}


def quantise(values: NDArray[np.float64], largest: float = 1.0) -> str:
    """Numbers from 0 to `largest` as base64 of one byte each: 255 times the square root of the share.

    The square root gives small shares more of the 256 steps; squaring the byte / 255 gives the share back, with an
    error of at most 0.4 % of `largest`.
    """
    return base64.b64encode(np.round(255 * np.sqrt(values / largest)).astype(np.uint8).tobytes()).decode()


def _matrix(record: Mapping[str, Any], key: str, where: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    values = np.asarray(record[key], dtype=float)
    if values.shape != shape or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"{where}: {key!r} must be {shape[0]} x {shape[1]} numbers, not negative; got {values.shape}.")
    return values


def _record(raw: Mapping[str, Any], index: int) -> dict[str, Any]:
    record = base.checked(raw, _RECORD, f"Record {index}")
    where = f"Record {index} ({record['source']}, {record['length']} tokens, N = {record['d_state']})"
    length = record["length"]
    lower = np.tril_indices(length)  # row after row: token t keeps something of tokens 1 to t
    for key in MEASURES:
        values = _matrix(record, key, where, (length, length))
        if values.max() > 1 + 1e-6 or np.triu(values, 1).any():
            raise ValueError(f"{where}: {key!r} must hold shares from 0 to 1, and 0 for tokens that are still to come.")
        record[key] = quantise(np.minimum(values[lower], 1))
    state = _matrix(record, "state", where, (length, record["d_state"]))
    record["state"] = quantise(state, max(state.max(), 1e-12))
    return record


class MemoryStepper(anywidget.AnyWidget):
    """Step through a photo's patches or a sentence's characters; see what attention and an SSM hold of them.

    Bytes (float32) and multiply-adds follow the formulas of `mambaout.analysis.memory`, for the width, the state size
    and the heads chosen. The shading shows the records, which come from models of one width.

    Args:
        photo: (S, S, 3) uint8, cut into as many patches as there are tokens.
        photo_name: what is to be seen on it, for those who cannot see it.
        text: at least as many characters as the longest sequence has.
        records: one dict for every combination of `source` ("photo" or "sentence"), `length` (tokens, a square
            number), `d_state` and `trained` that occur: `kept` (L, L), the share of token s that is left in the state
            at token t; `weight` (L, L), the share of the state that comes from token s; `state` (L, d_state), how
            large the state's numbers are.
        model_width: channels of the models behind the records.
        widths, heads: the choices; every number of heads divides every width.
        source, trained, d_state, length, measure: shown first; the largest `d_state` and `length` if None.

    Raises:
        ValueError: A sentence that names the record and the key at fault.

    Example:
        >>> eye = np.eye(4)
        >>> records = [{"source": source, "length": 4, "d_state": 2, "trained": trained, "kept": eye, "weight": eye,
        ...             "state": np.ones((4, 2))} for source in SOURCES for trained in (False, True)]
        >>> figure = MemoryStepper(np.zeros((8, 8, 3), np.uint8), "nothing", "text", records, model_width=8)
    """

    _esm = base.esm("memory_stepper")
    _css = base.css()

    photo = traitlets.Unicode().tag(sync=True)
    photo_name = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    records = traitlets.List(traitlets.Dict()).tag(sync=True)
    model_width = traitlets.Int().tag(sync=True)
    widths = traitlets.List(traitlets.Int()).tag(sync=True)
    head_counts = traitlets.List(traitlets.Int()).tag(sync=True)
    source = traitlets.Unicode().tag(sync=True)
    trained = traitlets.Bool().tag(sync=True)
    d_state = traitlets.Int().tag(sync=True)
    length = traitlets.Int().tag(sync=True)
    width = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    measure = traitlets.Unicode().tag(sync=True)
    token = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        photo: ArrayLike,
        photo_name: str,
        text: str,
        records: Sequence[Mapping[str, Any]],
        *,
        model_width: int,
        widths: Sequence[int] = (64, 192, 384, 768),
        heads: Sequence[int] = (1, 2, 4, 8),
        source: str = "photo",
        trained: bool = True,
        d_state: int | None = None,
        length: int | None = None,
        measure: str = "kept",
    ) -> None:
        clean = [_record(raw, index) for index, raw in enumerate(records)]
        lengths, states = ({one[key] for one in clean} for key in ("length", "d_state"))
        have = [(one["source"], one["length"], one["d_state"], one["trained"]) for one in clean]
        want = {(s, n, d, t) for s in SOURCES for n in lengths for d in states for t in (False, True)}
        if not clean or set(have) != want or len(have) != len(want):
            raise ValueError(
                "records must hold each combination of source, length, d_state and trained once: expected "
                f"{len(want)}, got {len(have)}, {len(set(have))} of them different."
            )
        if any(round(n**0.5) ** 2 != n for n in lengths):
            raise ValueError(f"'length' must be a square number, as the photo is cut so; got {sorted(lengths)}.")
        if len(text) < max(lengths):
            raise ValueError(f"text must have at least {max(lengths)} characters; got {len(text)}.")
        if odd := [(d, h) for d in widths for h in heads if d % h]:
            raise ValueError(f"every number of heads must divide every width; {odd[0][1]} does not divide {odd[0][0]}.")
        if (shape := np.shape(photo))[:1] != shape[1:2]:
            raise ValueError(f"photo must be a square image (S, S, 3); got {shape}.")
        chosen = {"d_state": max(states) if d_state is None else d_state, "length": length or max(lengths)}
        for key, known in (("d_state", states), ("length", lengths)):
            if chosen[key] not in known:
                raise ValueError(f"{key!r} must be one of {', '.join(map(str, sorted(known)))}; got {chosen[key]!r}.")
        super().__init__(
            photo=base.webp(photo),
            photo_name=base.text(photo_name),
            text=text[: max(lengths)],
            records=clean,
            model_width=model_width,
            widths=list(widths),
            head_counts=list(heads),
            source=base.known(source, SOURCES, "source"),
            trained=trained,
            width=widths[0],
            heads=heads[0],
            measure=base.known(measure, MEASURES, "measure"),
            token=chosen["length"],
            **chosen,
        )
