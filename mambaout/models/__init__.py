"""Models, and how to get them: by name, with or without the released weights, or from what a training left."""

from mambaout.models.contract import VisionModel
from mambaout.models.features import FeatureInfo, Features
from mambaout.models.mambaout import MambaOut, MambaOutConfig
from mambaout.models.mambaout_rw import MambaOutRW, MambaOutRWConfig
from mambaout.models.matching import match_parameters
from mambaout.models.optimize import optimize_for_inference
from mambaout.models.registry import (
    create_model,
    get_pretrained_cfg,
    get_pretrained_cfg_value,
    is_model,
    list_models,
    list_pretrained,
)
from mambaout.models.vit import ViT, ViTConfig
from mambaout.models.weights import WeightsError, from_authors, from_timm, load_weights, to_timm

__all__ = [
    "FeatureInfo",
    "Features",
    "MambaOut",
    "MambaOutConfig",
    "MambaOutRW",
    "MambaOutRWConfig",
    "ViT",
    "ViTConfig",
    "VisionModel",
    "WeightsError",
    "create_model",
    "from_authors",
    "from_timm",
    "get_pretrained_cfg",
    "get_pretrained_cfg_value",
    "is_model",
    "list_models",
    "list_pretrained",
    "load_weights",
    "match_parameters",
    "optimize_for_inference",
    "to_timm",
]
