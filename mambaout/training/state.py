"""What a checkpoint holds of a training, and how the training goes back to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mambaout.training import checkpoint
from mambaout.training.classes import some
from mambaout.training.folders import Folder, check_unchanged
from mambaout.training.log import Epoch
from mambaout.training.recipe import differences, from_json, to_json

if TYPE_CHECKING:
    from mambaout.training.engine import Training

FIELDS = (  # of a checkpoint
    *("step", "recipe", "about", "class_names", "folder", "model", "ema", "optimizer", "schedule"),
    *("scaler", "random", "history", "total_loss", "watch", "extended"),
)


def capture(run: Training, random: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Everything that the next step depends on, and what is told about the steps before."""
    return {
        "step": run.step,  # the place in the order of the images follows from it
        "recipe": to_json(run.recipe),
        "about": about(run),
        "class_names": list(run.classes),
        "folder": run.data.fingerprint() if isinstance(run.data, Folder) else None,
        "model": run.model.state_dict(),
        "ema": run.average.state_dict() if run.average else None,
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "scaler": run.devices.scaler_state(),
        "random": random,
        "history": [dataclasses.asdict(row) for row in run.history],
        "total_loss": run.total_loss,
        "watch": run.watch.state(),
        "extended": run.extended,
    }


def restore(run: Training, state: dict[str, Any]) -> str:
    """Go back to what :func:`capture` found, and return what there is to say about it.

    Raises:
        ValueError: the run follows another recipe, or learns from other data.
    """
    old = from_json(state["recipe"])
    if changed := "; ".join(differences(old, run.recipe)):
        raise ValueError(f"the run in {run.folder} follows another recipe ({changed}): take another folder for this")
    _check_data(run, state)
    run.model.load_state_dict(state["model"])
    if run.average:
        run.average.load_state_dict(state["ema"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.schedule.load_state_dict(state["schedule"])
    run.devices.restore_scaler(state["scaler"])
    run.devices.restore_random_states(state["random"])
    run.history = [Epoch(**row) for row in state["history"]]
    run.step, run.total_loss, run.extended = state["step"], state["total_loss"], state["extended"]
    run.watch.restore(state["watch"])
    return _extend(run, old.epochs) if old.epochs < run.recipe.epochs else ""


def _check_data(run: Training, state: dict[str, Any]) -> None:
    """The images must be those of the run, the classes too; where their order is another, the run's counts."""
    names = state["class_names"]
    if isinstance(run.data, Folder):
        check_unchanged(state["folder"], run.data, run.folder)
    elif sorted(run.classes) != sorted(names):
        raise ValueError(f"the run in {run.folder} tells apart {some(names)}; the data have {some(run.classes)}")
    elif list(run.classes) != names:
        run.data.reorder(names)
        run.classes = run.data.classes


def _extend(run: Training, before: int) -> str:
    """More epochs than the run began with: from here on, the learning rates of a run of that many."""
    run.extended = [*run.extended, [run.step, before]]
    schedule = run.schedule
    for group, peak, share in zip(run.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = peak * share(run.step)
    epochs = run.recipe.epochs
    return (
        f"a run of {before} epochs goes on to {epochs}: after step {run.step} the learning rate is that of a run of "
        f"{epochs} epochs from the beginning"
    )


def about(run: Training) -> dict[str, str]:
    """What the recipe does not tell: the shape of a model that it names, and whether the data were others."""
    told = {} if run.own_data else {"data": "given"}
    config = getattr(run.model, "cfg", None)
    if not run.own_model or config is None:
        return told
    return told | {"num_classes": str(config.num_classes), "in_chans": str(config.in_chans)}


def export(run: Training, model: nn.Module, path: Path) -> None:
    """Write the weights, with the recipe, the names of the classes and the last result in their metadata."""
    told = {"recipe": to_json(run.recipe), "class_names": json.dumps(list(run.classes)), **about(run)}
    if run.extended:
        told["extended"] = json.dumps(run.extended)
    if run.history:
        told["last_epoch"] = json.dumps(dataclasses.asdict(run.history[-1]))
    checkpoint.export(path, model.state_dict(), told)
