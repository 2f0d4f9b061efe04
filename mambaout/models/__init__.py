"""Models, and how to get them: by name, with or without the released weights."""

from mambaout.models.mambaout import MambaOut, MambaOutConfig
from mambaout.models.matching import match_parameters
from mambaout.models.optimize import optimize_for_inference
from mambaout.models.registry import Features, create_model, list_models
from mambaout.models.vit import ViT, ViTConfig
from mambaout.models.weights import WeightsError, from_authors, from_timm, load_weights, to_timm

__all__ = [
    "Features",
    "MambaOut",
    "MambaOutConfig",
    "ViT",
    "ViTConfig",
    "WeightsError",
    "create_model",
    "from_authors",
    "from_timm",
    "list_models",
    "load_weights",
    "match_parameters",
    "optimize_for_inference",
    "to_timm",
]
