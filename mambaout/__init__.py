"""Gated CNN blocks, Mamba blocks, and MambaOut: the models of *MambaOut: Do We Really Need Mamba for Vision?*

>>> import mambaout
>>> model = mambaout.create_model("mambaout_tiny", pretrained=True)
"""

from mambaout.models import (
    WeightsError,
    create_model,
    is_model,
    list_models,
    list_pretrained,
    load_weights,
    optimize_for_inference,
)

__version__ = "0.1.0"

__all__ = [
    "WeightsError",
    "__version__",
    "create_model",
    "is_model",
    "list_models",
    "list_pretrained",
    "load_weights",
    "optimize_for_inference",
]
