"""From a recipe to its schedule, its steps, and its time at a given speed."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import base

_RECIPE = {
    "label": base.text,
    "images": base.integer(1),
    "batch_size": base.integer(64, 8192),
    "epochs": base.integer(1, 400),
    "warmup_epochs": base.integer(0, 60),
    "cooldown_epochs": base.integer(0),
    "lr": base.number,
    "lr_batch": base.integer(1),
    "warmup_lr": base.number,
    "min_lr": base.number,
    "weight_decay": base.number,
}
_SPEED = {"label": base.text, "images_per_second": base.number}


class RecipeExplorer(anywidget.AnyWidget):
    """Batch, epochs, warm-up and speed: the learning rate of every step, steps, images seen, time.

    The figure computes by the formulas of :func:`mambaout.training.optim.warmup_cosine` and of the engine.

    Args:
        recipes: One dict a recipe: `label` (unique), `images` of the training set, and the fields of
            :class:`mambaout.training.Recipe` named `batch_size` (a power of two), `epochs`, `warmup_epochs`,
            `cooldown_epochs`, `lr`, `lr_batch`, `warmup_lr`, `min_lr` and `weight_decay`.
        speeds: One dict a speed of one device: `label` (unique; say what was measured, and what is an estimate) and
            `images_per_second`.
        choice: Label of the recipe shown first; the first one if None.

    Raises:
        ValueError: A sentence that names the recipe or speed and the key at fault.

    Example:
        >>> recipe = {"label": "short", "images": 6400, "batch_size": 64, "epochs": 10, "warmup_epochs": 1,
        ...           "cooldown_epochs": 0, "lr": 4e-3, "lr_batch": 64, "warmup_lr": 1e-6, "min_lr": 1e-5,
        ...           "weight_decay": 0.05}
        >>> RecipeExplorer([recipe], [{"label": "measured", "images_per_second": 500.0}]).epochs
        10
    """

    _esm = base.esm("schedule", "recipe_explorer")
    _css = base.css("recipe_explorer")

    recipes = traitlets.List(traitlets.Dict()).tag(sync=True)
    speeds = traitlets.List(traitlets.Dict()).tag(sync=True)
    recipe = traitlets.Unicode().tag(sync=True)
    speed = traitlets.Unicode().tag(sync=True)
    batch_size = traitlets.Int(128).tag(sync=True)
    epochs = traitlets.Int(40).tag(sync=True)
    warmup_epochs = traitlets.Int(2).tag(sync=True)
    devices = traitlets.Int(1).tag(sync=True)

    def __init__(
        self, recipes: Sequence[Mapping[str, Any]], speeds: Sequence[Mapping[str, Any]], *, choice: str | None = None
    ) -> None:
        rows = base.checked_rows(recipes, _RECIPE, "recipe", name="label")
        for row in rows:
            size = row["batch_size"]
            if size & (size - 1):
                raise ValueError(f"Recipe {row['label']}: 'batch_size' must be a power of two; got {size}.")
            if row["images"] < size:
                raise ValueError(f"Recipe {row['label']}: 'images' must be at least one batch; got {row['images']}.")
            if row["warmup_epochs"] >= row["epochs"]:
                raise ValueError(f"Recipe {row['label']}: 'warmup_epochs' must be less than 'epochs'.")
        labels = [row["label"] for row in rows]
        first = rows[labels.index(base.known(labels[0] if choice is None else choice, labels, "recipe"))]
        measured = base.checked_rows(speeds, _SPEED, "speed", name="label")
        super().__init__(
            recipes=rows,
            speeds=measured,
            recipe=first["label"],
            speed=measured[0]["label"],
            **{trait: first[trait] for trait in ("batch_size", "epochs", "warmup_epochs")},
        )
