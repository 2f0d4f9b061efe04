"""What every model here promises beside its forward pass: the attributes and methods that timm's models have."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mambaout.layers.ssm import SelectiveSSM


class VisionModel(nn.Module):
    """The part of timm's interface that does not depend on the architecture.

    Attributes:
        cfg: the frozen dataclass that defines the model. Not ``config``: other libraries own that name.
        num_classes, in_chans: outputs, and channels of the images.
        num_features: channels of ``forward_features``.
        head_hidden_size: channels of ``forward_head(..., pre_logits=True)``.
        drop_rate: dropout before the last layer.
        output_fmt: order of the axes of ``forward_features``, "NHWC" or "NLC".
        feature_info: for each map of ``forward_intermediates`` its "num_chs", "reduction" and "module".
        pretrained_cfg: how to prepare images, and where trained weights are, in timm's keys.
        pruned: names of the weights that :meth:`prune_intermediate_layers` has taken away.
        grad_checkpointing: whether blocks keep only their inputs and compute the rest again in the backward pass.
    """

    output_fmt: str
    first_conv: str  # the layers whose shapes depend on in_chans and num_classes
    classifier: str

    def __init__(self, cfg: Any, num_features: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.num_classes: int = cfg.num_classes
        self.in_chans: int = cfg.in_chans
        self.num_features = num_features
        self.drop_rate: float = cfg.head_dropout
        self.feature_info: list[dict[str, Any]] = []
        self.pretrained_cfg: dict[str, Any] = {}
        self.pruned: frozenset[str] = frozenset()
        self.grad_checkpointing = False

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for ``pretrained_cfg``."""
        return self.pretrained_cfg

    def no_weight_decay(self) -> set[str]:
        """Weights that are not to decay although they are matrices, and the SSM's other time constants."""
        names = {"pos_embed"} & dict(self.named_parameters()).keys()
        for name, module in self.named_modules():
            if isinstance(module, SelectiveSSM):
                names |= {f"{name}.{parameter}" for parameter in ("A_log", "D", "dt_bias")}
        return names

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory while training: each block is computed a second time in the backward pass."""
        self.grad_checkpointing = enable
        for stage in getattr(self, "stages", ()):
            stage.grad_checkpointing = enable


def run(block: nn.Module, x: torch.Tensor, checkpointing: bool) -> torch.Tensor:
    """A block on x, with or without keeping its intermediate results for the backward pass."""
    return checkpoint(block, x, use_reentrant=False) if checkpointing and torch.is_grad_enabled() else block(x)


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Which of ``count`` maps are meant, as numbers from 0: all (None), the last so many (int), or those named.

    Raises:
        ValueError: there are no such maps.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ValueError(f"the last {indices} maps were asked for, but there must be 1 to {count}")
        return list(range(count - indices, count))
    if not indices or not all(-count <= i < count for i in indices):
        raise ValueError(f"out_indices must name some of the {count} stages 0..{count - 1}; got {[*indices]}")
    return [i % count for i in indices]


def check_format(output_fmt: str, known: tuple[str, ...]) -> None:
    """Raise a ValueError when the order of axes is none of those that the model can give."""
    if output_fmt not in known:
        raise ValueError(f"output_fmt must be {' or '.join(known)}, got {output_fmt!r}")
