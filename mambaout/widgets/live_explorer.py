"""The model itself in the page: it classifies what the reader draws, and shows what each output reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

from . import base

# Where the runtime lies in a clone of the repository (`tools/vendor.py` brings it there).
LIBRARIES = Path(__file__).resolve().parents[2] / "book" / "lib"
RUNTIME = {
    "runtime_js": "onnxruntime/ort.wasm.bundle.min.mjs",
    "runtime_wasm": "onnxruntime/ort-wasm-simd-threaded.wasm.gz",
}

_SIZES = {"stage": base.integer(0), "height": base.integer(1), "width": base.integer(1), "gate": base.integer(1),
          "identity": base.integer(0), "convolved": base.integer(1)}  # fmt: skip
_MODEL = {
    "name": base.text,
    "text": base.text,
    "forward": lambda value: value,
    "gradient": lambda value: value,
    "weights": lambda value: value,
    "maps": base.list_of(base.list_of(base.integer(1), 3)),
    "blocks": base.list_of(lambda row: base.checked(row, _SIZES, "block")),
    "parts": base.list_of(base.one_of("gate", "conv", "ssm")),
    "signs": base.list_of(base.list_of(lambda value: value)),
    "mean": lambda value: value,
    "std": base.number,
}


class LiveExplorer(anywidget.AnyWidget):
    """Draw or pick an image; see the probabilities, what one output reads, and the branches inside a block.

    ONNX Runtime Web runs the models in the page. In the book it is loaded when the figure comes into view; where there
    is a kernel, it is sent from the repository's `book/lib` when the figure asks for it. `pixels`, `probabilities` and
    `field` hold what the page shows, so that a notebook can go on with it.

    Args:
        pictures: (N, H, W) uint8.
        labels: (N,) indices into `classes`; pictures are shown in columns, a column a class, if all have equally many.
        classes: their names.
        models: one or two dicts: `name`, `text` (one or two sentences), and the fields of
            `mambaout.export.live.LiveModel`. Both must have the same maps and blocks.
        picture: which one is shown first.

    Raises:
        ValueError: A sentence that names the model and the key at fault.
    """

    _esm = base.esm("live_engine", "live_boards", "live_parts", "live_explorer")
    _css = base.css("live_explorer")

    # What is loaded on demand: trait -> file below book/lib, or "" where the trait's own bytes are meant.
    on_demand = traitlets.Dict().tag(sync=True)
    runtime_js = traitlets.Bytes().tag(sync=True)
    runtime_wasm = traitlets.Bytes().tag(sync=True)
    first = traitlets.Bytes().tag(sync=True)
    second = traitlets.Bytes().tag(sync=True)
    wanted = traitlets.Unicode().tag(sync=True)
    missing = traitlets.Unicode().tag(sync=True)

    pictures = traitlets.Bytes().tag(sync=True)
    labels = traitlets.List(traitlets.Int()).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    size = traitlets.List(traitlets.Int()).tag(sync=True)
    models = traitlets.List(traitlets.Dict()).tag(sync=True)

    pixels = traitlets.Bytes().tag(sync=True)
    model = traitlets.Unicode().tag(sync=True)
    stage = traitlets.Int().tag(sync=True)
    location = traitlets.List(traitlets.Int()).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    probabilities = traitlets.List(traitlets.Float()).tag(sync=True)
    field = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        pictures: ArrayLike,
        labels: Sequence[int],
        classes: Sequence[str],
        models: Sequence[Mapping[str, Any]],
        *,
        picture: int = 0,
    ) -> None:
        images = np.asarray(pictures)
        if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
            raise ValueError(f"pictures must be (N, H, W) of uint8; got {images.shape} of {images.dtype}.")
        names = base.list_of(base.text)(list(classes))
        numbers = [base.integer(0, len(names) - 1)(int(label)) for label in labels]
        if len(numbers) != len(images):
            raise ValueError(f"there must be a label for each of the {len(images)} pictures; got {len(numbers)}.")
        if not 0 <= picture < len(images):
            raise ValueError(f"picture must be from 0 to {len(images) - 1}; got {picture}.")
        clean = base.checked_rows(models, _MODEL, "model", name="name")
        if len(clean) > 2:
            raise ValueError(f"there must be one model or two; got {len(clean)}.")
        if any(row[key] != clean[0][key] for row in clean for key in ("maps", "blocks")):
            raise ValueError("both models must have the same maps and blocks.")
        loads = {"first": b"", "second": b""}
        for trait, row in zip(loads, clean, strict=False):
            parts = [row.pop(key) for key in ("forward", "gradient", "weights")]
            row |= {"trait": trait, "sizes": [len(part) for part in parts]}
            loads[trait] = b"".join(parts)
        height, width = clean[0]["maps"][-1][1:]
        super().__init__(
            on_demand={row["trait"]: "" for row in clean} | RUNTIME,
            pictures=images.tobytes(),
            labels=numbers,
            classes=names,
            size=list(images.shape[1:]),
            models=json.loads(json.dumps(clean)),
            pixels=images[picture].tobytes(),
            model=clean[0]["name"],
            stage=len(clean[0]["maps"]) - 1,
            location=[height // 2, width // 2],
            **loads,
        )

    @traitlets.observe("wanted")
    def _hand_over(self, change: Mapping[str, Any]) -> None:
        """Hand the runtime to a page that is not the book's: the first time that it asks."""
        name = change["new"]
        if name not in RUNTIME or getattr(self, name):
            return
        file = LIBRARIES / RUNTIME[name]
        if file.is_file():
            setattr(self, name, file.read_bytes())
        else:
            self.missing = f"{file} is missing: the runtime comes with a clone of the book's repository"
