"""The five variants of MambaOut (Figure 4a), from the stages down to single layers, at any resolution."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import base

GROUPS = ("stem", "downsample", "block", "head")
MIN_RESOLUTION, MAX_RESOLUTION = 32, 1024

_PAPER = {
    "params_M": base.optional(base.number),
    "macs_G": base.optional(base.number),
    "top1": base.optional(base.number),
}
_LAYER = {
    "group": base.one_of(*GROUPS),
    "stage": base.optional(base.integer(0, 3)),
    "block": base.optional(base.integer(0)),
    "layer": base.text,
    "kind": base.text,
    "params": base.integer(0),
    "macs_per_position": base.integer(0),
    "halvings": base.optional(base.integer(0)),
    "out_channels": base.integer(1),
}
_VARIANT = {
    "name": base.text,
    "label": base.text,
    "depths": base.list_of(base.integer(1), 4),
    "dims": base.list_of(base.integer(1), 4),
    "paper": lambda paper: paper,
    "layers": base.list_of(lambda layer: layer),
}


def _variant(variant: dict[str, Any]) -> dict[str, Any]:
    where = f"Variant ({variant['name']})"
    paper = base.checked(variant["paper"], _PAPER, f"{where}, 'paper'")
    layers = []
    for index, raw in enumerate(variant["layers"]):
        layer = base.checked(raw, _LAYER, f"{where}, layer {index}")
        if layer["group"] in ("downsample", "block") and layer["stage"] is None:
            raise ValueError(f"{where}, layer {index}: 'stage' must be an integer in a {layer['group']}; got None.")
        if layer["group"] == "block" and layer["block"] is None:
            raise ValueError(f"{where}, layer {index}: 'block' must be an integer in a block; got None.")
        layers.append(layer)
    for stage, depth in enumerate(variant["depths"]):
        blocks = {layer["block"] for layer in layers if layer["group"] == "block" and layer["stage"] == stage}
        if blocks != set(range(depth)):
            raise ValueError(
                f"{where}: 'layers' must hold the blocks 0 to {depth - 1} of stage {stage}, as 'depths' says; got "
                f"{sorted(blocks)}."
            )
    return variant | {"paper": paper, "layers": layers}


class ArchitectureExplorer(anywidget.AnyWidget):
    """Choose a variant and a resolution, a part of the network and a block: see shapes, parameters and MACs.

    All figures are sums over `layers`: MACs = `macs_per_position` times the positions of the layer's output,
    where an image of H x W has ceil(H / 2) x ceil(W / 2) positions after one halving.

    Args:
        variants: One dict a variant: `name` (unique), `label`, `depths` and `dims` (four each), `paper`
            (`params_M`, `macs_G` at 224 x 224, `top1` in %; None where not published), and `layers`.
            A layer, in order of the forward pass: `group` ("stem", "downsample", "block" or "head"), `stage`
            (0 to 3, or None), `block` (0, 1, ... in its stage, or None), `layer` (name), `kind` (class), `params`,
            `macs_per_position`, `halvings` (how many times the image was halved at the layer's output; None for
            one position, as in the head), `out_channels`.
        variant: Name of the variant shown first; the first one if None.
        resolution: Height and width of the image shown first, 32 to 1024.

    Raises:
        ValueError: A sentence that names the variant, the layer and the key at fault.

    Example:
        >>> layer = {"stage": None, "block": None, "layer": "fc", "kind": "Linear", "params": 20,
        ...          "macs_per_position": 16, "halvings": None, "out_channels": 4}
        >>> blocks = [layer | {"group": "block", "stage": s, "block": 0, "halvings": 2 + s} for s in range(4)]
        >>> variant = {"name": "example", "label": "Example", "depths": [1, 1, 1, 1], "dims": [4, 4, 4, 4],
        ...            "paper": {"params_M": None, "macs_G": None, "top1": None},
        ...            "layers": [*blocks, layer | {"group": "head"}]}
        >>> figure = ArchitectureExplorer([variant], resolution=64)
    """

    _esm = base.esm("architecture_explorer")
    _css = base.css()

    variants = traitlets.List(traitlets.Dict()).tag(sync=True)
    variant = traitlets.Unicode().tag(sync=True)
    resolution = traitlets.Int(224, min=MIN_RESOLUTION, max=MAX_RESOLUTION).tag(sync=True)

    def __init__(
        self, variants: Sequence[Mapping[str, Any]], *, variant: str | None = None, resolution: int = 224
    ) -> None:
        clean = [_variant(one) for one in base.checked_rows(variants, _VARIANT, "variant", name="name")]
        names = [one["name"] for one in clean]
        size = base.integer(MIN_RESOLUTION, MAX_RESOLUTION)
        base.checked({"resolution": resolution}, {"resolution": size}, "The figure")
        super().__init__(
            variants=clean,
            variant=names[0] if variant is None else base.known(variant, names, "variant"),
            resolution=int(resolution),
        )
