"""Who may look at whom (the paper's Figure 3a): a photo in tokens, a token mixer, and what each token reads."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

from . import base

DIRECTIONS = ("reads", "read_by")

_MIXER = {
    "group": base.text,
    "name": base.text,
    "text": base.text,
    "views": base.list_of(lambda view: view),
}
_VIEW = {
    "label": base.text,
    "reads": lambda matrix: matrix,
    "order": base.optional(base.list_of(base.integer(0))),
}


class MixingExplorer(anywidget.AnyWidget):
    """Choose a mixer and a token; see in the photo and in the matrix what it reads and who reads it.

    Args:
        photo: (S, T, 3) uint8; it is stretched over the tokens.
        photo_name: what is to be seen on it, for those who cannot see it.
        grid: tokens down and across.
        mixers: one dict a mixer: `group`, `name` (unique), `text` (one or two sentences), and `views`, its forms:
            `label`, `reads` (L, L) bool, True at [t, s] where token t reads token s, and `order`, the L raster indices
            in the order in which the mixer reads them, or None. `mambaout.analysis.mixing_atlas` makes them.
        mixer: name of the mixer shown first; the first one if None.
        view: number of its view shown first.
        token: raster index of the token chosen first; the middle one if None.
        direction: "reads" (what the token reads) or "read_by" (who reads it).

    Raises:
        ValueError: A sentence that names the mixer, the view and the key at fault.

    Example:
        >>> view = {"label": "one layer", "reads": np.tri(4, dtype=bool), "order": [0, 1, 2, 3]}
        >>> mixer = {"group": "Attention", "name": "Causal", "text": "Reads what came before.", "views": [view]}
        >>> figure = MixingExplorer(np.zeros((8, 8, 3), np.uint8), "nothing", (2, 2), [mixer])
    """

    _esm = base.esm("mixing_explorer")
    _css = base.css("mixing_explorer")

    photo = traitlets.Unicode().tag(sync=True)
    photo_name = traitlets.Unicode().tag(sync=True)
    grid = traitlets.List(traitlets.Int()).tag(sync=True)
    masks = traitlets.List(traitlets.Unicode()).tag(sync=True)
    mixers = traitlets.List(traitlets.Dict()).tag(sync=True)
    mixer = traitlets.Unicode().tag(sync=True)
    view = traitlets.Int().tag(sync=True)
    token = traitlets.Int().tag(sync=True)
    direction = traitlets.Enum(DIRECTIONS, "reads").tag(sync=True)
    path = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        photo: ArrayLike,
        photo_name: str,
        grid: Sequence[int],
        mixers: Sequence[Mapping[str, Any]],
        *,
        mixer: str | None = None,
        view: int = 0,
        token: int | None = None,
        direction: str = "reads",
    ) -> None:
        height, width = (base.integer(1)(side) for side in grid)
        tokens = height * width
        clean = base.checked_rows(mixers, _MIXER, "mixer", name="name")
        masks: dict[str, int] = {}  # many views share a mask: each is sent once
        for row in clean:
            where = f"Mixer ({row['name']}), view"
            row["views"] = [_view(raw, tokens, f"{where} {index}") for index, raw in enumerate(row["views"])]
            for one in row["views"]:
                one["mask"] = masks.setdefault(one.pop("reads"), len(masks))
        names = [row["name"] for row in clean]
        first = names[0] if mixer is None else base.known(mixer, names, "mixer")
        forms = len(clean[names.index(first)]["views"])
        if not 0 <= view < forms:
            raise ValueError(f"view must be from 0 to {forms - 1}, as {first} has {forms}; got {view}.")
        if token is not None and not 0 <= token < tokens:
            raise ValueError(f"token must be from 0 to {tokens - 1}; got {token}.")
        super().__init__(
            photo=base.webp(photo),
            photo_name=base.text(photo_name),
            grid=[height, width],
            masks=list(masks),
            mixers=clean,
            mixer=first,
            view=view,
            token=height // 2 * width + width // 2 if token is None else token,
            direction=base.known(direction, DIRECTIONS, "direction"),
        )


def _view(raw: Mapping[str, Any], tokens: int, where: str) -> dict[str, Any]:
    view = base.checked(raw, _VIEW, where)
    matrix = np.asarray(view["reads"])
    if matrix.dtype != bool or matrix.shape != (tokens, tokens):
        raise ValueError(f"{where}: 'reads' must be {tokens} x {tokens} of bool; got {matrix.shape} of {matrix.dtype}.")
    if view["order"] is not None and sorted(view["order"]) != list(range(tokens)):
        raise ValueError(f"{where}: 'order' must hold each token from 0 to {tokens - 1} once.")
    view["reads"] = base64.b64encode(np.packbits(matrix).tobytes()).decode()  # one bit a pair, row after row
    return view
