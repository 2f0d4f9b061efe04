"""`train`: a recipe and a machine become a trained model, through any number of interruptions.

>>> run = train("fashion_mnist", folder="runs/first")
>>> run.history[-1].top1
"""

import dataclasses
import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.models import create_model
from mambaout.training import checkpoint, optim
from mambaout.training.batches import Batch, FolderBatches, MemoryBatches, Preparation, Share
from mambaout.training.devices import Devices, keep_freed_memory
from mambaout.training.evaluate import WEIGHTS, evaluation_batches, measure
from mambaout.training.log import Epoch, MetricsFile, Progress, Several, Stopwatch, TensorBoard, Watcher
from mambaout.training.loop import Diverged, fit
from mambaout.training.recipe import RECIPES, Machine, Recipe, differences, from_json, to_json
from mambaout.training.sources import PHOTO_SIZE, Held, Source, class_names, generator, image_folder, source

STATE = (  # what a checkpoint holds
    *("step", "recipe", "about", "model", "ema", "optimizer", "schedule"),
    *("scaler", "random", "history", "total_loss", "seconds"),
)


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        model: the trained model on its device, in evaluation mode; the moving average where the recipe has one.
        recipe: what was done.
        history: one entry an epoch.
        losses: of every step since the last continuation.
        folder: where the weights and checkpoints lie, if anywhere.
    """

    model: nn.Module
    recipe: Recipe
    history: list[Epoch]
    losses: list[float]
    folder: Path | None


def train(
    recipe: Recipe | str = "fashion_mnist",
    machine: Machine | None = None,
    *,
    folder: str | Path | None = None,
    model: nn.Module | None = None,
    data: Source | None = None,
    watchers: Iterable[Watcher] = (),
    progress: bool = True,
) -> Run:
    """Train a model, or go on where the run in ``folder`` stopped.

    Args:
        recipe: what to do, or a name of ``RECIPES``.
        machine: where; see :class:`Machine`.
        folder: for checkpoints, metrics.csv, TensorBoard logs and the weights; nothing is written without it.
        model: train this one instead of ``recipe.model``, in place; its ``num_classes`` says how many outputs it has.
        data: learn from these instead of ``recipe.data``.
        watchers: follow the run, such as :class:`LiveCurve`.
        progress: show a bar and a line for each epoch.

    Raises:
        ValueError: a recipe that cannot be followed, or that differs from the one in the folder.
        CheckpointError: the folder cannot be written to, another run is in it, or none of its checkpoints is whole.
        Diverged: the loss is no longer a number; names the last good checkpoint.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    place = None if folder is None else Path(folder)
    machine = machine or Machine()
    devices = Devices(machine)
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    with nullcontext() if place is None or not devices.first else checkpoint.occupied(place):
        return Training(recipe, machine, devices, place, model, data, watchers, progress).run()


class Training:
    """The parts of a run, and what happens after each step. Use :func:`train`."""

    def __init__(
        self,
        recipe: Recipe,
        machine: Machine,
        devices: Devices,
        folder: Path | None,
        model: nn.Module | None,
        data: Source | None,
        watchers: Iterable[Watcher],
        progress: bool,
    ) -> None:
        self.recipe, self.machine, self.folder = recipe, machine, folder
        self.own_model, self.own_data = model is None, data is None
        self.devices = devices
        device = self.devices.device
        if device.type == "cpu":
            keep_freed_memory()
        if data is None and recipe.data.name != "folder":
            data = source(recipe.data)
        held = None if data is None else Held(data, recipe.data)

        torch.manual_seed(recipe.seed)  # the same first weights in every process
        self.classes = class_names(recipe.data, "train") if held is None else held.classes
        self.model = self._create(model, held).to(device)
        self._check_classes(held)
        if machine.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        torch.manual_seed(generator(recipe.seed, "dropped paths", self.devices.rank).initial_seed())
        self.average = None if recipe.ema is None else optim.MovingAverage(self.model, recipe.ema)
        self._load_data(held)

        optimizer = optim.adamw(self.model, recipe.peak_lr, recipe.weight_decay, recipe.betas)
        self.per_epoch = self.batches.order.steps_per_epoch
        steps = recipe.epochs * self.per_epoch
        self.last_step = steps + recipe.cooldown_epochs * self.per_epoch
        warmup = round(recipe.warmup_epochs * self.per_epoch)
        start, end = (min(1.0, lr / recipe.peak_lr) for lr in (recipe.warmup_lr, recipe.min_lr))
        self.schedule = optim.warmup_cosine(optimizer, steps, warmup, start=start, end=end)
        self.optimizer = optimizer

        self.step, self.total_loss = 0, 0.0
        self.history: list[Epoch] = []
        self.watch = Stopwatch()
        chosen = [*watchers, *([Progress()] if progress else [])]
        if folder is not None:
            chosen += [MetricsFile(folder), TensorBoard(folder)]
        self.watchers = Several(chosen if self.devices.first else [])

    def _create(self, model: nn.Module | None, held: Source | None) -> nn.Module:
        if model is not None:
            return model
        shape = {"num_classes": len(self.classes)}
        if held is not None:
            shape["in_chans"] = held.test()[0].shape[1]
        chosen = self.recipe.model
        return create_model(chosen.name, chosen.pretrained, **shape | chosen.options())

    def _check_classes(self, held: Source | None) -> None:
        """Find out now, not after an epoch."""
        self.prepare = Preparation.of(self.model)
        self.prepare.check(self.classes)
        if held is None and (other := class_names(self.recipe.data, "val")) != self.classes:
            only = sorted(set(other) ^ set(self.classes))
            raise ValueError(f"train and val must have the same class folders; only in one of them: {', '.join(only)}")

    def _load_data(self, held: Source | None) -> None:
        recipe, devices = self.recipe, self.devices
        share = Share.of(recipe.batch_size, self.machine.micro_batch, devices.rank, devices.processes)
        self.test_data: Any = held or recipe.data
        self.batches: MemoryBatches | FolderBatches
        if held is not None:
            self.batches = MemoryBatches(held, recipe, self.prepare, share, devices.device)
            return
        from mambaout.training.photos import training_transform

        if recipe.data.holdout or recipe.data.subset:
            raise ValueError("subset and holdout are for embedded data; put the images into other folders")
        size = recipe.data.image_size or PHOTO_SIZE
        images = image_folder(
            recipe.data, "train", training_transform(recipe.augment, size, self.prepare.mean, self.prepare.std)
        )
        self.batches = FolderBatches(images, recipe, self.prepare, share, devices.device, self.machine.workers)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross-entropy with label smoothing, of images and class probabilities."""
        x, target = batch
        return F.cross_entropy(model(x), target, label_smoothing=self.recipe.label_smoothing)

    def run(self) -> Run:
        """Train to the end."""
        forward: Any = torch.compile(self.model) if self.machine.compile else self.model
        wrapped = self.devices.prepare(forward, self.optimizer, self.loss)
        if self.folder is not None:
            self._resume(self.folder)
        self.watchers.begin(self.step + 1, self.last_step, self.history)
        self.watch.start()
        try:
            losses = fit(
                self.devices.model,
                self.batches(self.step + 1, self.last_step),
                self.loss,
                wrapped,
                self.schedule,
                clip_norm=self.recipe.clip_norm,
                on_step=self._after,
                backend=self.devices,
                first_step=self.step + 1,
            )
        except Diverged as error:
            raise Diverged(f"{error} {self._last_good()}") from None
        finally:
            self.watchers.end()
        final = self._final
        if not _finite(final):  # spoilt in the very last step
            raise Diverged(f"the weights after step {self.step} are no finite numbers. {self._last_good()}")
        if self.folder is not None and self.devices.first:
            self._export(final, self.folder)
        return Run(final.eval(), self.recipe, self.history, losses, self.folder)

    def _after(self, step: int, loss: float) -> None:
        """What follows each step: the moving average, the log, the evaluation, the checkpoint."""
        self.step = step
        self.total_loss += loss
        if self.average:
            self.average.update(self.model)
        self.watchers.step(step, loss, self._lr)
        end_of_epoch = step % self.per_epoch == 0
        self.watch.stepped()
        if end_of_epoch:
            self._evaluate()
        if self.folder is not None and (end_of_epoch or step % self.machine.checkpoint_steps == 0):
            self._save(self.folder)
        self.watch.start()

    @property
    def _final(self) -> nn.Module:
        """What is evaluated and exported: the moving average where the recipe has one."""
        return self.average.model if self.average else self.model

    @property
    def _lr(self) -> float:
        """Of the last step; the schedule itself stands at the next one."""
        return float(self.schedule.base_lrs[0] * self.schedule.lr_lambdas[0](self.step - 1))

    def _evaluate(self) -> None:
        devices, watch = self.devices, self.watch
        model = self._final
        batches, classes = evaluation_batches(
            self.test_data,
            self.prepare,
            getattr(model, "pretrained_cfg", None) or {},
            workers=self.machine.workers,
            rank=devices.rank,
            processes=devices.processes,
        )
        report = measure(model, batches, classes, devices.device, devices.autocast(), together=True)
        watch.pause()
        self.history.append(
            Epoch(
                epoch=self.step // self.per_epoch,
                step=self.step,
                lr=self._lr,
                train_loss=self.total_loss / self.per_epoch,
                test_loss=report.loss,
                top1=report.top1,
                top5=report.top5,
                images_per_second=self.recipe.batch_size / watch.step_seconds,
                memory_mb=devices.memory(),
                seconds=watch.seconds,
                seconds_left=(self.last_step - self.step) * watch.seconds_per_step,
            )
        )
        self.total_loss = 0.0
        watch.new_epoch()
        self.watchers.epoch(self.history)

    def _save(self, folder: Path) -> None:
        random = self.devices.random_states()
        self.watch.pause()
        if not self.devices.first or not _finite(self.model):
            return  # without numbers, the next step's loss will tell; the checkpoint before stays the last good one
        state: dict[str, Any] = {
            "step": self.step,  # the place in the order of the images follows from it
            "recipe": to_json(self.recipe),
            "about": self._about(),
            "model": self.model.state_dict(),
            "ema": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.devices.scaler_state(),
            "random": random,
            "history": [dataclasses.asdict(row) for row in self.history],
            "total_loss": self.total_loss,
            "seconds": self.watch.seconds,
        }
        checkpoint.save(folder, self.step, state)

    def _resume(self, folder: Path) -> None:
        """Go back to the newest good checkpoint, if there is one."""
        state = checkpoint.load_newest(folder, STATE)
        self.devices.check_alike(state["step"] if state else 0)
        if state is None:
            return
        if changed := "; ".join(differences(from_json(state["recipe"]), self.recipe)):
            raise ValueError(f"the run in {folder} follows another recipe ({changed}): take another folder for this")
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.devices.restore_scaler(state["scaler"])
        self.devices.restore_random_states(state["random"])
        self.history = [Epoch(**row) for row in state["history"]]
        self.step, self.total_loss, self.watch.seconds = state["step"], state["total_loss"], state["seconds"]

    def _about(self) -> dict[str, str]:
        """What the recipe does not tell: the shape of a model that it names, and whether the data were others."""
        about = {} if self.own_data else {"data": "given"}
        config = getattr(self.model, "cfg", None)
        if not self.own_model or config is None:
            return about
        return about | {"num_classes": str(config.num_classes), "in_chans": str(config.in_chans)}

    def _last_good(self) -> str:
        found = checkpoint.checkpoints(self.folder) if self.folder is not None else []
        return f"The last good checkpoint: {found[-1]}." if found else "There is no checkpoint."

    def _export(self, model: nn.Module, folder: Path) -> None:
        told = {"recipe": to_json(self.recipe), **self._about()}
        if self.history:
            told["last_epoch"] = json.dumps(dataclasses.asdict(self.history[-1]))
        checkpoint.export(folder / WEIGHTS, model.state_dict(), told)


def _finite(model: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())
