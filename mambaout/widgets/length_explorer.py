"""When is a sequence long (Eqs. 6 and 7)? From an image's size to tokens, r_L and the FLOPs of three blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import base

MAX_SIDE, MAX_LENGTH, MAX_DIM, MAX_DEPTH = 4096, 131_072, 4096, 100
PATCHES = (4, 8, 14, 16, 32)

_IMAGE = {
    "label": base.text,
    "height": base.integer(1, MAX_SIDE),
    "width": base.integer(1, MAX_SIDE),
    "patch": base.integer(1, 32),
}
_TEXT = {"label": base.text, "length": base.integer(1, MAX_LENGTH)}
_WIDTH = {"label": base.text, "dim": base.integer(1, MAX_DIM), "depth": base.integer(1, MAX_DEPTH)}
_PARAMETERS = {
    "mlp_ratio": base.number,
    "d_state": base.integer(1),
    "expansion_ratio": base.number,
    "kernel_size": base.integer(1),
}


def _input(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    fields = _TEXT if "length" in row else _IMAGE
    clean = base.checked(row, fields, f"Input {index} ({row['label']})")
    if clean.get("patch", 16) not in PATCHES:
        raise ValueError(
            f"Input {index} ({row['label']}): 'patch' must be one of {', '.join(map(str, PATCHES))}; "
            f"got {clean['patch']}."
        )
    return clean


class LengthExplorer(anywidget.AnyWidget):
    """Image or text, width and depth: tokens, r_L, the share of the quadratic term, and what three blocks cost.

    The FLOPs are computed in the figure, by the formulas of :mod:`mambaout.analysis.complexity`.

    Args:
        inputs: One dict an input: `label` (unique), and `height`, `width` and `patch` in pixels, or `length` in tokens.
        widths: One dict a model: `label` (unique), `dim` (channels) and `depth` (blocks).
        parameters: `mlp_ratio`, `d_state`, `expansion_ratio` and `kernel_size` of the blocks.
        choice: Label of the input shown first; the first one if None.
        model: Label of the width shown first; the first one if None.
        causal: Whether attention starts causal.

    Raises:
        ValueError: A sentence that names the input or width and the key at fault.

    Example:
        >>> parameters = {"mlp_ratio": 4, "d_state": 16, "expansion_ratio": 8 / 3, "kernel_size": 7}
        >>> figure = LengthExplorer([{"label": "ImageNet", "height": 224, "width": 224, "patch": 16}],
        ...                         [{"label": "ViT-S", "dim": 384, "depth": 12}], parameters)
        >>> figure.dim
        384
    """

    _esm = base.esm("complexity", "length_explorer")
    _css = base.css("length_explorer")

    inputs = traitlets.List(traitlets.Dict()).tag(sync=True)
    widths = traitlets.List(traitlets.Dict()).tag(sync=True)
    parameters = traitlets.Dict().tag(sync=True)
    kind = traitlets.Enum(["image", "text"], "image").tag(sync=True)
    height = traitlets.Int(224).tag(sync=True)
    width = traitlets.Int(224).tag(sync=True)
    patch = traitlets.Int(16).tag(sync=True)
    length = traitlets.Int(8192).tag(sync=True)
    dim = traitlets.Int(384).tag(sync=True)
    depth = traitlets.Int(12).tag(sync=True)
    causal = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        inputs: Sequence[Mapping[str, Any]],
        widths: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, float],
        *,
        choice: str | None = None,
        model: str | None = None,
        causal: bool = False,
    ) -> None:
        base.checked_rows(inputs, {"label": base.text}, "input", name="label")
        places = [_input(row, index) for index, row in enumerate(inputs)]
        models = base.checked_rows(widths, _WIDTH, "width", name="label")
        labels, names = ([row["label"] for row in rows] for rows in (places, models))
        first = places[labels.index(base.known(labels[0] if choice is None else choice, labels, "input"))]
        shown = models[names.index(base.known(names[0] if model is None else model, names, "model"))]
        super().__init__(
            inputs=places,
            widths=models,
            parameters=base.checked(parameters, _PARAMETERS, "The figure's 'parameters'"),
            kind="text" if "length" in first else "image",
            **{key: value for key, value in first.items() if key != "label"},
            dim=shown["dim"],
            depth=shown["depth"],
            causal=causal,
        )
