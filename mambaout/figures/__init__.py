"""Static figures: arrays in, matplotlib axes out. They know numbers only, never a model."""

from __future__ import annotations

from mambaout.figures.classification import confusion_matrix, image_grid
from mambaout.figures.growth import growth
from mambaout.figures.overlay import map_over_image
from mambaout.figures.seeds import seed_curves, seed_dots
from mambaout.figures.training import accuracy_curve, training_curve
from mambaout.figures.tuning import rate_curves

__all__ = [
    "accuracy_curve",
    "confusion_matrix",
    "growth",
    "image_grid",
    "map_over_image",
    "rate_curves",
    "seed_curves",
    "seed_dots",
    "training_curve",
]
