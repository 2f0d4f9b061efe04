"""create_model and list_models, with timm's conventions."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambaout.models import weights
from mambaout.models.checkpoints import Checkpoint, WeightsError, read_checkpoint, shape_of
from mambaout.models.common import parse_settings
from mambaout.models.features import Features
from mambaout.models.mambaout import MambaOut, MambaOutConfig
from mambaout.models.mambaout_rw import MambaOutRW, MambaOutRWConfig
from mambaout.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, released_cfg, split_name, tags
from mambaout.models.vit import ViT, ViTConfig

Config = MambaOutConfig | ViTConfig
BUILD: dict[type, Any] = {MambaOutConfig: MambaOut, MambaOutRWConfig: MambaOutRW, ViTConfig: ViT}

_FEMTO, _TINY, _BASE = (48, 96, 192, 288), (96, 192, 384, 576), (128, 256, 512, 768)
_SILU: dict[str, Any] = {"activation": "silu"}
_SMALL_IMAGES: dict[str, Any] = {"stem_stride": 2, "num_classes": 10, "in_chans": 1}

MODELS: dict[str, Config] = {
    # Table 4 of the paper; Kobe comes from the authors' repository.
    "mambaout_femto": MambaOutConfig(depths=(3, 3, 9, 3), dims=_FEMTO),
    "mambaout_kobe": MambaOutConfig(depths=(3, 3, 15, 3), dims=_FEMTO),
    "mambaout_tiny": MambaOutConfig(depths=(3, 3, 9, 3), dims=_TINY),
    "mambaout_small": MambaOutConfig(depths=(3, 4, 27, 3), dims=_TINY),
    "mambaout_base": MambaOutConfig(depths=(3, 4, 27, 3), dims=_BASE),
    # timm's variants.
    "mambaout_small_rw": MambaOutRWConfig((3, 4, 27, 3), _TINY),
    "mambaout_base_short_rw": MambaOutRWConfig((3, 3, 25, 3), _BASE, expansion_ratio=3.0, conv_ratio=1.25),
    "mambaout_base_tall_rw": MambaOutRWConfig((3, 4, 30, 3), _BASE, expansion_ratio=2.5, conv_ratio=1.25),
    "mambaout_base_wide_rw": MambaOutRWConfig((3, 4, 27, 3), _BASE, expansion_ratio=3.0, conv_ratio=1.5, **_SILU),
    "mambaout_base_plus_rw": MambaOutRWConfig((3, 4, 30, 3), _BASE, expansion_ratio=3.0, conv_ratio=1.5, **_SILU),
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


# Height and width of the images that a MambaOut is made for, where they are not ImageNet's.
SIDES = {name: 28 for name, cfg in MODELS.items() if isinstance(cfg, MambaOutConfig) and cfg.stem_stride == 2}
SIDES["mambaout_atto64"] = 64
ALIASES = {"drop_rate": "head_dropout"}  # timm's names of settings -> ours


def list_models(
    filter: str | Sequence[str] = "",
    module: str | Sequence[str] = "",
    pretrained: bool = False,
    exclude_filters: str | Sequence[str] = "",
    name_matches_cfg: bool = False,
    include_tags: bool | None = None,
) -> list[str]:
    """Names that create_model knows, as they stand in the registry: by family, the small ones first.

    Args:
        filter: shell-style patterns such as "mambaout_*"; one that names no tag takes all of them.
        module: families: "mambaout" or "vit".
        pretrained: only models with trained weights.
        exclude_filters: patterns to leave out.
        name_matches_cfg: of no effect: every model has a ``pretrained_cfg``.
        include_tags: names with the tags of their weights, "mambaout_tiny.in1k"; by default what ``pretrained`` is.
    """
    with_tags = pretrained if include_tags is None else include_tags
    modules = _several(module)
    names = []
    for name, cfg in MODELS.items():
        trained = tags(name)
        if (modules and _family(cfg) not in modules) or (pretrained and not trained):
            continue
        names += [f"{name}.{tag}" for tag in trained] if with_tags and trained else [name]

    def matches(name: str, patterns: str | Sequence[str]) -> bool:
        return any(
            fnmatch.fnmatchcase(name if split_name(pattern)[1] else split_name(name)[0], pattern)
            for pattern in _several(patterns)
        )

    return [name for name in names if (not filter or matches(name, filter)) and not matches(name, exclude_filters)]


def list_pretrained(filter: str | Sequence[str] = "", exclude_filters: str | Sequence[str] = "") -> list[str]:
    """Names with the tags of their trained weights; see :func:`list_models`."""
    return list_models(filter, pretrained=True, exclude_filters=exclude_filters)


def is_model(name: str) -> bool:
    """Whether :func:`create_model` knows the name, with or without a tag."""
    return split_name(name)[0] in MODELS


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return ([value] if value else []) if isinstance(value, str) else value


def _family(cfg: Config) -> str:
    return "vit" if isinstance(cfg, ViTConfig) else "mambaout"


def create_model(
    name: str | Path,
    pretrained: bool = False,
    *,
    checkpoint_path: str | Path | Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    feature_cls: str = "list",
    output_fmt: str = "NCHW",
    token_mixer: str | None = None,
    pretrained_cfg: str | Mapping[str, Any] | None = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by name, or from what a training left.

    Args:
        name: one of :func:`list_models`, perhaps with the tag of its weights ("mambaout_tiny.in1k"); or the folder of a
            training or a file of weights, whose model, number of classes and channels stand in it.
        pretrained: load the released ImageNet weights, or those that this book trained on Fashion-MNIST (of
            "mambaout_fashion" and "visual_mamba_fashion"). With another ``num_classes`` the last layer stays fresh;
            with another ``in_chans`` the first convolution's weights are summed or repeated.
        checkpoint_path: load these weights: whatever :func:`load_weights` takes. The model has their number of classes
            and channels, or those that are asked for; then the weights are adapted as with ``pretrained``.
        num_classes: outputs; 0 returns features before the last layer.
        in_chans: channels of the images.
        features_only: return maps, a list of (B, C, H, W), instead of logits: :class:`Features`.
        out_indices, feature_cls, output_fmt: which maps ``features_only`` returns, and how.
        token_mixer: "gated_cnn", "mamba", "attention", "causal_attention" or "identity" for a MambaOut;
            "attention" or "causal_attention" for a ViT.
        pretrained_cfg, pretrained_cfg_overlay: a tag, or entries that replace those of ``model.pretrained_cfg``, such
            as "file" for a copy of the weights.
        overrides: any other field of the model's configuration
            (:class:`MambaOutConfig`, :class:`ViTConfig`), such as ``drop_path_rate=0.2`` or ``scan="cross"``, or
            ``drop_rate``, timm's name of ``head_dropout``. None stands for the default.

    Returns:
        The model, in training mode, with the attributes and methods of timm's models.

    Raises:
        ValueError: an unknown name (the near ones are listed), an unknown or impossible setting.
        mambaout.WeightsError: weights that cannot be had or do not fit.
    """
    if pretrained and checkpoint_path is not None:
        raise ValueError("choose one of pretrained and checkpoint_path")
    if not is_model(str(name)) and Path(name).exists():
        if pretrained or checkpoint_path is not None:
            raise ValueError(f"{name} brings its own weights: leave out pretrained and checkpoint_path")
        checkpoint = read_checkpoint(name)
        architecture, tag = architecture_of(checkpoint), ""
    else:
        architecture, tag = _known(name)
        checkpoint = None if checkpoint_path is None else read_checkpoint(checkpoint_path)
    if isinstance(pretrained_cfg, str):
        tag, pretrained_cfg = pretrained_cfg, None
    default = MODELS[architecture]
    named: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "token_mixer": token_mixer}
    settings = {ALIASES.get(key, key): value for key, value in (named | overrides).items() if value is not None}
    from_file = {} if checkpoint is None else parse_settings(checkpoint.settings) | shape_of(checkpoint.state)
    info = default_cfg(architecture, tag, default) | dict(pretrained_cfg or {}) | dict(pretrained_cfg_overlay or {})
    from_tag = {"num_classes": info["num_classes"]} if tag else {}
    config = _replace(architecture, from_tag | from_file | settings)
    model = BUILD[type(config)](config)
    model.pretrained_cfg = info
    if checkpoint is not None:
        weights.load_checkpoint(model, checkpoint, adapt=bool({"num_classes", "in_chans"} & settings.keys()))
        model.pretrained_cfg = _trained_cfg(info, checkpoint, config)
    if pretrained:
        weights.load_pretrained(model, info)
    return Features(model, out_indices, output_fmt=output_fmt, feature_cls=feature_cls) if features_only else model


def architecture_of(checkpoint: Checkpoint) -> str:
    """The name of the model that a file belongs to: what the file says, or else whose shapes its weights have.

    Raises:
        WeightsError: it does not say, and none has.
    """
    if checkpoint.architecture in MODELS:
        return str(checkpoint.architecture)
    shapes = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    for name, config in MODELS.items():
        first, width = (
            ("patch_embed", config.dim) if isinstance(config, ViTConfig) else ("stem.conv1", config.dims[0] // 2)
        )
        if shapes.get(f"{first}.weight", (0,))[0] != width:
            continue
        with torch.device("meta"):  # shapes are enough
            model = BUILD[type(config)](dataclasses.replace(config, **shape_of(checkpoint.state)))
        if {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes:
            return name
    raise WeightsError(
        f"{checkpoint.label} does not say what model it belongs to, and its weights have the shapes of none of "
        "mambaout.list_models(): name the model, create_model(NAME, checkpoint_path=...), with its settings"
    )


def default_cfg(architecture: str, tag: str, config: Config) -> dict[str, Any]:
    """A model's ``pretrained_cfg``; see :func:`mambaout.models.pretrained.released_cfg`."""
    rgb = config.in_chans == 3
    build = BUILD[type(config)]
    cfg: dict[str, Any] = {
        "num_classes": config.num_classes,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN if rgb else (0.5,),
        "std": IMAGENET_STD if rgb else (0.5,),
        "first_conv": build.first_conv,
        "classifier": build.classifier,
    }
    side = config.image_size if isinstance(config, ViTConfig) else SIDES.get(architecture, 224)
    cfg["input_size"] = cfg["test_input_size"] = (config.in_chans, side, side)
    cfg = released_cfg(architecture, tag, cfg)
    if isinstance(config, MambaOutConfig):
        reduction = config.stem_stride * 2 ** (len(config.dims) - 1)
        cfg["pool_size"] = tuple(-(-side // reduction) for side in cfg["input_size"][1:])
    return cfg


def get_pretrained_cfg(name: str) -> dict[str, Any]:
    """The ``pretrained_cfg`` of a model by its name, with or without a tag."""
    architecture, tag = _known(name)
    return default_cfg(architecture, tag, MODELS[architecture])


def get_pretrained_cfg_value(name: str, key: str) -> Any:
    """One entry of it; None where it has no such key."""
    return get_pretrained_cfg(name).get(key)


def _trained_cfg(cfg: dict[str, Any], checkpoint: Checkpoint, config: Config) -> dict[str, Any]:
    """What is known of weights of somebody's own: not those of the model's name any more."""
    cfg = {key: value for key, value in cfg.items() if key not in ("url", "file", "hf_hub_id", "tag", "license")}
    side = checkpoint.image_size or cfg["input_size"][1]
    cfg |= {"num_classes": config.num_classes, "input_size": (config.in_chans, side, side)}
    if checkpoint.class_names and len(checkpoint.class_names) == config.num_classes:
        cfg["label_names"] = checkpoint.class_names
    return cfg


def _replace(architecture: str, settings: dict[str, Any]) -> Config:
    default = MODELS[architecture]
    known = [field.name for field in dataclasses.fields(default)]
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise ValueError(f"{architecture} has no setting {', '.join(unknown)}; its settings are {', '.join(known)}")
    return dataclasses.replace(default, **settings)


def _known(name: str | Path) -> tuple[str, str]:
    """Architecture and tag of a name that is in the registry, or a ValueError that helps."""
    architecture, tag = split_name(str(name))
    if architecture in MODELS:
        return architecture, tag
    if Path(name).name != str(name) or Path(name).suffix in (".pt", ".pth", ".safetensors"):
        raise ValueError(f"there is no file or folder {name}, and no model of that name")
    near = difflib.get_close_matches(architecture, MODELS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "known models:"
    raise ValueError(f"unknown model {str(name)!r}: {hint} All names: {', '.join(MODELS)}")
