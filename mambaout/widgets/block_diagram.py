"""The Gated CNN block and the Mamba block of the paper's Figures 1a and 4b, as one diagram with switches."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import base

COMPONENTS = ("norm", "fc1_value", "fc1_gate", "conv", "ssm", "fc2")

_COMPONENT = {
    "name": base.one_of(*COMPONENTS),
    "params": base.integer(0),
    "macs": base.integer(0),
    "equation": base.text,
}
_PRESET = {
    "label": base.text,
    "height": base.integer(1),
    "width": base.integer(1),
    "dim": base.integer(1),
    "hidden": base.integer(1),
    "conv_channels": base.integer(1),
    "kernel_size": base.integer(1),
    "d_state": base.integer(1),
    "dt_rank": base.integer(1),
    "components": base.list_of(lambda component: component),
}


def _preset(preset: dict[str, Any]) -> dict[str, Any]:
    where = f"Preset ({preset['label']})"
    if preset["conv_channels"] > preset["hidden"]:
        raise ValueError(
            f"{where}: 'conv_channels' must be at most 'hidden' ({preset['hidden']}); got {preset['conv_channels']}."
        )
    raw = enumerate(preset["components"])
    parts = [base.checked(part, _COMPONENT, f"{where}, component {index}") for index, part in raw]
    names = [part["name"] for part in parts]
    if sorted(names) != sorted(COMPONENTS):
        raise ValueError(
            f"{where}: 'components' must hold each of {', '.join(COMPONENTS)} once; got {', '.join(names)}."
        )
    return preset | {"components": sorted(parts, key=lambda part: COMPONENTS.index(part["name"]))}


class BlockDiagram(anywidget.AnyWidget):
    """Gated CNN block or Mamba block: switches for SSM, gate and convolution; shapes, parameters, MACs, equation.

    The totals are sums over the components that are switched on.

    Args:
        presets: One dict a block: `label` (unique), `height` and `width` (tokens), `dim` (channels), `hidden`
            (channels after the expansion), `conv_channels` (of `hidden`, those that the convolution and the SSM
            see), `kernel_size`, `d_state`, `dt_rank`, and `components`, a list with one
            `{"name", "params", "macs", "equation"}` for each of `COMPONENTS` (MACs at height x width).
        preset: Label of the preset shown first; the first one if None.
        ssm, gate, conv: The switches' first positions. As given: MambaOut's Gated CNN block.

    Raises:
        ValueError: A sentence that names the preset and the key at fault.

    Example:
        >>> params = {"norm": 2, "fc1_value": 4, "fc1_gate": 4, "conv": 10, "ssm": 67, "fc2": 3}
        >>> components = [{"name": name, "params": n, "macs": 4 * n, "equation": "Eq. 9"}
        ...               for name, n in params.items()]
        >>> preset = {"label": "Example", "height": 2, "width": 2, "dim": 1, "hidden": 2, "conv_channels": 1,
        ...           "kernel_size": 3, "d_state": 16, "dt_rank": 1, "components": components}
        >>> figure = BlockDiagram([preset], ssm=True)
    """

    _esm = base.esm("block_diagram")
    _css = base.css()

    presets = traitlets.List(traitlets.Dict()).tag(sync=True)
    preset = traitlets.Unicode().tag(sync=True)
    ssm = traitlets.Bool(False).tag(sync=True)
    gate = traitlets.Bool(True).tag(sync=True)
    conv = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        presets: Sequence[Mapping[str, Any]],
        *,
        preset: str | None = None,
        ssm: bool = False,
        gate: bool = True,
        conv: bool = True,
    ) -> None:
        clean = [_preset(one) for one in base.checked_rows(presets, _PRESET, "preset", name="label")]
        labels = [one["label"] for one in clean]
        first = labels[0] if preset is None else base.known(preset, labels, "preset")
        super().__init__(presets=clean, preset=first, ssm=ssm, gate=gate, conv=conv)
