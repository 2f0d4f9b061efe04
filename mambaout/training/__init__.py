"""Training: recipes, the one loop, the engine around it, evaluation.

>>> from mambaout.training import train, evaluate
>>> run = train("fashion_mnist", folder="runs/first")
>>> print(evaluate("runs/first"))
"""

from mambaout.training.checkpoint import CheckpointError
from mambaout.training.decode import ImageError
from mambaout.training.engine import Run, train
from mambaout.training.evaluate import Report, evaluate
from mambaout.training.live import LiveCurve
from mambaout.training.log import Epoch, Watcher
from mambaout.training.loop import Diverged, fit
from mambaout.training.recipe import RECIPES, Augment, Data, Machine, Model, Recipe
from mambaout.training.signals import Interrupted
from mambaout.training.sources import Source, Tensors

__all__ = [
    "RECIPES",
    "Augment",
    "CheckpointError",
    "Data",
    "Diverged",
    "Epoch",
    "ImageError",
    "Interrupted",
    "LiveCurve",
    "Machine",
    "Model",
    "Recipe",
    "Report",
    "Run",
    "Source",
    "Tensors",
    "Watcher",
    "evaluate",
    "fit",
    "train",
]
