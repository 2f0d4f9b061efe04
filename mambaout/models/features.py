"""Models as feature extractors, for detection and segmentation: `features_only`, and what it says of its maps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mambaout.models.contract import check_format
from mambaout.models.mambaout import MambaOut
from mambaout.models.vit import ViT

FEATURE_CLASSES = ("getter", "list", "dict")


class FeatureInfo:
    """What is known of a model's maps without running it, with the accessors of timm's class of this name.

    Args:
        info: one dict for each map of the model, with "num_chs", "reduction" and "module".
        out_indices: which of them are given out.
    """

    def __init__(self, info: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = [{**one, "index": i} for i, one in enumerate(info)]
        self.out_indices = tuple(out_indices)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One entry of the given out maps, or of those that ``idx`` counts among all of the model's."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """All entries, or some, of the same maps as in :meth:`get`."""
        if isinstance(idx, int):
            return {key: self.info[idx][key] for key in keys or self.info[idx]}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of the maps."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Pixels between neighbours in the maps."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Names of the modules whose outputs the maps are."""
        return self.get("module", idx)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)


class Features(nn.Module):
    """A model reduced to maps: images (B, in_chans, H, W) -> list of (B, C_i, H_i, W_i).

    What the asked maps do not need, later stages and the head, is neither computed nor kept: every parameter that is
    left gets a gradient, as DistributedDataParallel wants it.

    Args:
        model: of this library; it is changed.
        out_indices: which maps, in this order: numbers from 0 or from -1 back, or an int for the last so many. All
            stages of a MambaOut by default, and the last three blocks of a ViT.
        output_fmt: "NCHW", or the order of axes in which the model computes: "NHWC" of a MambaOut, "NLC" of a ViT.
        feature_cls: "list" (or "getter") returns a list, "dict" a dict from the index as text.
    """

    def __init__(
        self,
        model: MambaOut | ViT,
        out_indices: int | Sequence[int] | None = None,
        *,
        output_fmt: str = "NCHW",
        feature_cls: str = "list",
    ) -> None:
        super().__init__()
        if feature_cls not in FEATURE_CLASSES:
            raise ValueError(f"feature_cls must be one of {', '.join(FEATURE_CLASSES)}; got {feature_cls!r}")
        check_format(output_fmt, ("NCHW", model.output_fmt))
        default = 3 if model.output_fmt == "NLC" and len(model.feature_info) > 3 else None
        self.out_indices = tuple(model.prune_intermediate_layers(default if out_indices is None else out_indices))
        self.feature_info = FeatureInfo(model.feature_info, self.out_indices)
        self.pretrained_cfg = {k: v for k, v in model.pretrained_cfg.items() if k not in ("num_classes", "classifier")}
        self.model = model
        self.output_fmt = output_fmt
        self.named = feature_cls == "dict"

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for ``pretrained_cfg``."""
        return self.pretrained_cfg

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See :class:`~mambaout.models.contract.VisionModel`."""
        self.model.set_grad_checkpointing(enable)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor] | dict[str, torch.Tensor]:
        """One map for each of ``out_indices``."""
        indices = sorted(set(self.out_indices))
        found = self.model.forward_intermediates(
            x, indices, output_fmt=self.output_fmt, intermediates_only=True
        )
        maps = dict(zip(indices, found, strict=True))
        return {str(i): maps[i] for i in self.out_indices} if self.named else [maps[i] for i in self.out_indices]
