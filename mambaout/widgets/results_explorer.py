"""Accuracy against cost for every row of the paper's Table 1."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import base

TOKEN_MIXERS = ("Conv", "Attn", "Conv+Attn", "Conv+SSM", "Pool")
COSTS = ("macs_G", "params_M")
MAMBAOUT = ("MambaOut-Femto", "MambaOut-Tiny", "MambaOut-Small", "MambaOut-Base")

_ROW = {
    "model": base.text,
    "size_group": base.text,
    "token_mixing": base.one_of(*TOKEN_MIXERS),
    "params_M": base.number,
    "macs_G": base.optional(base.number),
    "top1_224": base.number,
    "note": base.note,
}


class ResultsExplorer(anywidget.AnyWidget):
    """Scatter plot of ImageNet accuracy against MACs or parameters: who beats whom at equal cost?

    Choosing a model shades the region "no more cost, at least as accurate" and lists the models that beat it
    and those that it beats.

    Args:
        rows: One dict a model: `model` (unique name), `size_group`, `token_mixing` (one of `TOKEN_MIXERS`),
            `params_M` (millions), `macs_G` (1e9 at 224 x 224; None where none is published), `top1_224` (%),
            `note` (may be None). Other keys are ignored.
        x: The cost on the horizontal axis, "macs_G" or "params_M".
        selected: The model chosen at first, or None.
        highlight: The models drawn as an emphasised, labelled line.

    Raises:
        ValueError: A sentence that names the row and the key at fault.

    Example:
        >>> row = {"model": "MambaOut-Tiny", "size_group": "tiny", "token_mixing": "Conv",
        ...        "params_M": 27, "macs_G": 4.5, "top1_224": 82.7, "note": None}
        >>> figure = ResultsExplorer([row], selected="MambaOut-Tiny", highlight=())
    """

    _esm = base.esm("scatter", "results_explorer")
    _css = base.css()

    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    x = traitlets.Enum(COSTS, "macs_G").tag(sync=True)
    selected = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    highlight = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        x: str = "macs_G",
        selected: str | None = "MambaOut-Tiny",
        highlight: Iterable[str] = MAMBAOUT,
    ) -> None:
        clean = base.checked_rows(rows, _ROW, "row", name="model")
        names = [row["model"] for row in clean]
        super().__init__(
            rows=clean,
            x=base.known(x, COSTS, "cost"),
            selected=None if selected is None else base.known(selected, names, "model"),
            highlight=[base.known(name, names, "model") for name in highlight],
        )
