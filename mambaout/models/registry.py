"""create_model and list_models, with timm's conventions."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mambaout.models import released, weights
from mambaout.models.mambaout import MambaOut, MambaOutConfig
from mambaout.models.vit import ViT, ViTConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Config = MambaOutConfig | ViTConfig

_FEMTO, _TINY, _BASE = (48, 96, 192, 288), (96, 192, 384, 576), (128, 256, 512, 768)
_SMALL_IMAGES: dict[str, Any] = {"stem_stride": 2, "num_classes": 10, "in_chans": 1}

MODELS: dict[str, Config] = {
    # Table 4 of the paper; Kobe comes from the authors' repository.
    "mambaout_femto": MambaOutConfig(depths=(3, 3, 9, 3), dims=_FEMTO),
    "mambaout_kobe": MambaOutConfig(depths=(3, 3, 15, 3), dims=_FEMTO),
    "mambaout_tiny": MambaOutConfig(depths=(3, 3, 9, 3), dims=_TINY),
    "mambaout_small": MambaOutConfig(depths=(3, 4, 27, 3), dims=_TINY),
    "mambaout_base": MambaOutConfig(depths=(3, 4, 27, 3), dims=_BASE),
    # Ours, for images of 28 to 64 pixels: two or three stages, and a stem that halves once.
    "mambaout_zepto": MambaOutConfig(depths=(1, 3), dims=(32, 64), **_SMALL_IMAGES),
    "mambaout_atto": MambaOutConfig(depths=(2, 4), dims=(48, 96), **_SMALL_IMAGES),
    "mambaout_atto64": MambaOutConfig(depths=(2, 2, 4), dims=(32, 64, 128), **_SMALL_IMAGES | {"in_chans": 3}),
    # The same network with weights trained on Fashion-MNIST (data/weights/README.md), and its twin with the SSM.
    "mambaout_fashion": MambaOutConfig(depths=(2, 4), dims=(48, 96), **_SMALL_IMAGES),
    "visual_mamba_fashion": MambaOutConfig((2, 4), (48, 96), token_mixer="mamba", d_state=4, **_SMALL_IMAGES),
    # The SSM in the same macro-architecture: hierarchical with VMamba's scan, isotropic with Vim's.
    "visual_mamba_zepto": MambaOutConfig((1, 3), (32, 64), token_mixer="mamba", scan="cross", **_SMALL_IMAGES),
    "visual_mamba_iso": MambaOutConfig((4,), (64,), token_mixer="mamba", scan="bidirectional", **_SMALL_IMAGES),
    # DeiT's three sizes (Touvron et al., 2021), the baselines of Figure 3b.
    "vit_ti": ViTConfig(dim=192, num_heads=3),
    "vit_s": ViTConfig(dim=384, num_heads=6),
    "vit_b": ViTConfig(dim=768, num_heads=12),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that create_model knows, filtered by a shell-style pattern such as "mambaout_*"."""
    return fnmatch.filter(MODELS, pattern)


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    token_mixer: str | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by name.

    Args:
        name: one of :func:`list_models`.
        pretrained: load the released ImageNet weights, or those that this book trained on Fashion-MNIST (of
            "mambaout_fashion" and "visual_mamba_fashion"). With another ``num_classes`` the last layer stays fresh;
            with another ``in_chans`` the first convolution's weights are summed or repeated.
        num_classes: outputs; 0 returns features before the last layer.
        in_chans: channels of the images.
        features_only: return the stages' maps, a list of (B, C, H, W), instead of logits.
        out_indices: which stages ``features_only`` returns, all by default; -1 is the last.
        token_mixer: "gated_cnn", "mamba", "attention", "causal_attention" or "identity" for a MambaOut;
            "attention" or "causal_attention" for a ViT.
        overrides: any other field of the model's configuration
            (:class:`MambaOutConfig`, :class:`ViTConfig`), such as ``drop_path_rate=0.2`` or ``scan="cross"``.

    Returns:
        The model, in training mode, with timm's attributes ``num_classes``, ``num_features``,
        ``feature_info`` and ``pretrained_cfg``.

    Raises:
        ValueError: an unknown name (the near ones are listed), an unknown or impossible setting.
        mambaout.WeightsError: weights that cannot be had or do not fit.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "known models:"
        raise ValueError(f"unknown model {name!r}: {hint} All names: {', '.join(MODELS)}")
    named = {"num_classes": num_classes, "in_chans": in_chans, "token_mixer": token_mixer}
    overrides |= {key: value for key, value in named.items() if value is not None}
    default = MODELS[name]
    known = [field.name for field in dataclasses.fields(default)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; its settings are {', '.join(known)}")
    config = dataclasses.replace(default, **overrides)
    model: MambaOut | ViT = MambaOut(config) if isinstance(config, MambaOutConfig) else ViT(config)
    model.pretrained_cfg = pretrained_cfg(name, default)
    if pretrained:
        released.load_released(model, name)
    return Features(model, out_indices) if features_only else model


def pretrained_cfg(name: str, config: Config) -> dict[str, Any]:
    """How to prepare images, in timm's keys; ``url`` or ``file`` (below data/) where there are trained weights."""
    rgb = config.in_chans == 3
    cfg: dict[str, Any] = {
        "architecture": name,
        "num_classes": config.num_classes,
        "mean": IMAGENET_MEAN if rgb else (0.5,),
        "std": IMAGENET_STD if rgb else (0.5,),
    }
    if name in weights.RELEASED:
        cfg |= {"url": weights.RELEASED[name], "input_size": (3, 224, 224), "crop_pct": 1.0, "interpolation": "bicubic"}
    if name in weights.OWN:
        cfg |= {"file": weights.OWN[name], "input_size": (1, 28, 28)}
    return cfg


class Features(nn.Module):
    """A model reduced to its stages' maps: images (B, in_chans, H, W) -> list of (B, C_i, H_i, W_i)."""

    def __init__(self, model: MambaOut | ViT, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        stages = len(model.feature_info)
        out_indices = range(stages) if out_indices is None else out_indices
        if not all(-stages <= i < stages for i in out_indices):
            raise ValueError(f"out_indices must name some of the {stages} stages 0..{stages - 1}; got {[*out_indices]}")
        model.head = nn.Identity()
        self.model = model
        self.out_indices = tuple(i % stages for i in out_indices)
        self.feature_info = [model.feature_info[i] for i in self.out_indices]
        self.pretrained_cfg = model.pretrained_cfg

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """One map for each of ``out_indices``."""
        maps = self.model.forward_intermediates(x)
        return [maps[i] for i in self.out_indices]
