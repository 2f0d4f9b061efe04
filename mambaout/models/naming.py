"""The three namings of MambaOut's parameters.

ours                     timm                          authors
stem.*                   stem.*                        downsample_layers.0.*
stages.I.downsample.*    stages.I.downsample.*         downsample_layers.I.*
stages.I.blocks.J.*      stages.I.blocks.J.*           stages.I.J.*
head.norm.*              head.norm.*                   norm.*
head.fc1.*               head.pre_logits.fc.*          head.fc1.*
head.hidden_norm.*       head.pre_logits.norm.*        head.norm.*
head.fc2.*               head.fc.*                     head.fc2.*

``head.norm`` stands in all three and means two different tensors, so every name is mapped in one pass.
"""

import re
from collections.abc import Callable, Mapping

import torch

StateDict = dict[str, torch.Tensor]

_FROM_TIMM = (
    (r"head\.pre_logits\.fc\.", "head.fc1."),
    (r"head\.pre_logits\.norm\.", "head.hidden_norm."),
    (r"head\.fc\.", "head.fc2."),
)
_FROM_AUTHORS = (
    (r"downsample_layers\.0\.", "stem."),
    (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"norm\.", "head.norm."),
    (r"head\.norm\.", "head.hidden_norm."),
)
_TO_TIMM = (
    (r"head\.fc1\.", "head.pre_logits.fc."),
    (r"head\.hidden_norm\.", "head.pre_logits.norm."),
    (r"head\.fc2\.", "head.fc."),
)


def _rename(state: Mapping[str, torch.Tensor], rules: tuple[tuple[str, str], ...]) -> StateDict:
    """Apply to each name the first rule that matches its beginning."""

    def new_name(name: str) -> str:
        for pattern, replacement in rules:
            if re.match(pattern, name):
                return re.sub(f"^{pattern}", replacement, name)
        return name

    return {new_name(name): tensor for name, tensor in state.items()}


def from_timm(state: Mapping[str, torch.Tensor]) -> StateDict:
    """timm's names -> ours."""
    return _rename(state, _FROM_TIMM)


def from_authors(state: Mapping[str, torch.Tensor]) -> StateDict:
    """The authors' names -> ours."""
    return _rename(state, _FROM_AUTHORS)


def to_timm(state: Mapping[str, torch.Tensor]) -> StateDict:
    """Our names -> timm's."""
    return _rename(state, _TO_TIMM)


def naming(state: Mapping[str, torch.Tensor]) -> str:
    """Whose names these are: "authors", "timm" or "ours"."""
    if any(name.startswith("downsample_layers.") for name in state):
        return "authors"
    if any(name.startswith(("head.pre_logits.", "head.fc.")) for name in state):
        return "timm"
    return "ours"


_CONVERT: dict[str, Callable[[Mapping[str, torch.Tensor]], StateDict]] = {
    "authors": from_authors,
    "timm": from_timm,
    "ours": dict,
}


def to_ours(state: Mapping[str, torch.Tensor]) -> StateDict:
    """Any of the three namings -> ours."""
    return _CONVERT[naming(state)](state)
