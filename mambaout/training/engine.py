"""`train`: a recipe and a machine become a trained model, through any number of interruptions.

>>> run = train("fashion_mnist", folder="runs/first")
>>> run.history[-1].top1
"""

import contextlib
import dataclasses
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.training import checkpoint, optim
from mambaout.training.batches import Batch, FolderBatches, MemoryBatches, Preparation, Share
from mambaout.training.decode import ImageError, find_damaged
from mambaout.training.devices import Devices, keep_freed_memory
from mambaout.training.evaluate import Report, evaluation_batches, measure
from mambaout.training.folders import PHOTO_SIZE, Folder, Photos, read_folder
from mambaout.training.log import Epoch, MetricsFile, Progress, Several, Stopwatch, TensorBoard, Watcher
from mambaout.training.loop import Diverged, fit
from mambaout.training.recipe import RECIPES, Machine, Recipe
from mambaout.training.run_files import WEIGHTS
from mambaout.training.signals import Interrupted
from mambaout.training.sources import Held, Source, generator, source
from mambaout.training.start import first_model
from mambaout.training.state import FIELDS, capture, export, restore

EARLY = 50  # steps after which trained weights are evaluated once, where the first epoch is longer



@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        model: the trained model on its device, in evaluation mode; the moving average where the recipe has one.
        recipe: what was done.
        history: one entry an epoch.
        losses: of every step since the last continuation.
        folder: where the weights and checkpoints lie, if anywhere.
        data: what it learned from, and was evaluated on.
    """

    model: nn.Module
    recipe: Recipe
    history: list[Epoch]
    losses: list[float]
    folder: Path | None
    data: Folder | Source


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
        ImageError: an image of a folder cannot be read; a checkpoint is written first.
        Diverged: the loss is no longer a number; names the last good checkpoint.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written first. Without a folder Ctrl-C breaks off as usual.
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
    with contextlib.nullcontext() if place is None or not devices.first else checkpoint.occupied(place):
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
        chosen = [*watchers, *([Progress()] if progress else [])]
        if folder is not None:
            chosen += [MetricsFile(folder), TensorBoard(folder)]
        self.watchers = Several(chosen if self.devices.first else [])

        self.data = self._find_data(data)
        self.classes = self.data.classes
        torch.manual_seed(recipe.seed)  # the same first weights in every process
        self.model = (self._create() if model is None else model).to(device)
        self.prepare = Preparation.of(self.model)
        self.prepare.check(self.classes)
        if isinstance(self.data, Folder):
            self.prepare = self.prepare.for_photos(self.model)
        if machine.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        torch.manual_seed(generator(recipe.seed, "dropped paths", self.devices.rank).initial_seed())
        self.average = None if recipe.ema is None else optim.MovingAverage(self.model, recipe.ema)
        self.batches = self._batches()

        optimizer = optim.adamw(self.model, recipe.peak_lr, recipe.weight_decay, recipe.betas, recipe.layer_decay)
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
        self.extended: list[list[int]] = []  # of a run that was given more epochs: step, epochs until then

    def _find_data(self, data: Source | None) -> Folder | Held:
        chosen = self.recipe.data
        if data is not None or chosen.name != "folder":
            return Held(source(chosen) if data is None else data, chosen)
        if chosen.holdout or chosen.subset:
            raise ValueError("subset and holdout are for embedded data; put the images into other folders")
        folder = read_folder(chosen)
        if chosen.skip_damaged:
            names = [name for name, _ in (*folder.train, *folder.val)]
            folder = folder.without(self.devices.shared_out(names, self._damaged))
        self.watchers.note(str(folder))
        return folder

    def _damaged(self, names: list[str]) -> list[str]:
        root, threads = self.recipe.data.folder or Path(), max(1, self.machine.workers)
        found = dict(find_damaged(root, names, threads, progress=self.devices.first))
        for problem in found.values():
            self.watchers.note(problem)
        return list(found)

    def _create(self) -> nn.Module:
        chosen = self.recipe.model
        if self.folder is not None and checkpoint.checkpoints(self.folder):  # its weights come from there
            chosen = dataclasses.replace(chosen, pretrained=False, checkpoint=None)
        in_chans = None if isinstance(self.data, Folder) else self.data.test()[0].shape[1]
        return first_model(chosen, self.classes, in_chans)

    def _batches(self) -> MemoryBatches | FolderBatches:
        recipe, devices = self.recipe, self.devices
        share = Share.of(recipe.batch_size, self.machine.micro_batch, devices.rank, devices.processes)
        if not isinstance(self.data, Folder):
            return MemoryBatches(self.data, recipe, self.prepare, share, devices.device)
        from mambaout.training.photos import training_transform

        transform = training_transform(recipe.augment, self.image_size, self.prepare.mean, self.prepare.std)
        images = Photos(self.data.root, self.data.train, transform)
        return FolderBatches(images, recipe, self.prepare, share, devices.device, self.machine.workers)

    @property
    def image_size(self) -> int:
        """Height and width of a folder's crops."""
        return self.recipe.data.image_size or PHOTO_SIZE

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
            with self.devices.signals if self.folder is not None else contextlib.nullcontext():
                losses = self._fit(wrapped)
        except Diverged as error:
            raise Diverged(f"{error} {self._last_good()}") from None
        except ImageError as error:
            raise ImageError(self._after_damage(error)) from None
        finally:
            self.watchers.end()
        final = self._final
        if not _finite(final):  # spoilt in the very last step
            raise Diverged(f"the weights after step {self.step} are no finite numbers. {self._last_good()}")
        if self.folder is not None and self.devices.first:
            export(self, final, self.folder / WEIGHTS)
        final.class_names = tuple(self.classes)  # type: ignore[assignment]  # for evaluation by name
        return Run(final.eval(), self.recipe, self.history, losses, self.folder, self.data)

    def _fit(self, wrapped: Any) -> list[float]:
        if self.step and self.step % self.per_epoch == 0 and len(self.history) < self.step // self.per_epoch:
            self._end_epoch()  # stopped between the checkpoint and the evaluation
            self.watch.start()
        return fit(
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

    def _after(self, step: int, loss: float) -> None:
        """What follows each step: the moving average, the log, the checkpoint, the evaluation."""
        self.step = step
        self.total_loss += loss
        if self.average:
            self.average.update(self.model)
        self.watchers.step(step, loss, self._lr)
        end_of_epoch = step % self.per_epoch == 0
        stop = self.devices.asked_to_stop and step < self.last_step
        self.watch.stepped()
        if self.folder is not None and (end_of_epoch or stop or step % self.machine.checkpoint_steps == 0):
            self._save(self.folder)
        if stop:
            raise Interrupted(self._how_to_go_on(), self.devices.signals.asked or signal.SIGTERM)
        if end_of_epoch:
            self._end_epoch()
        elif step == EARLY < self.per_epoch and (self.recipe.model.pretrained or self.recipe.model.checkpoint):
            early = self._evaluate()
            self.watchers.note(f"after {step} steps: top-1 {100 * early.top1:.2f} % of {early.images} test images")
        self.watch.start()

    @property
    def _final(self) -> nn.Module:
        """What is evaluated and exported: the moving average where the recipe has one."""
        return self.average.model if self.average else self.model

    @property
    def _lr(self) -> float:
        """Of the last step; the schedule itself stands at the next one."""
        return float(self.schedule.base_lrs[0] * self.schedule.lr_lambdas[0](self.step - 1))

    def _evaluate(self) -> Report:
        devices, model = self.devices, self._final
        batches = evaluation_batches(
            self.data,
            self.prepare,
            getattr(model, "pretrained_cfg", None) or {},
            size=self.image_size,
            workers=self.machine.workers,
            rank=devices.rank,
            processes=devices.processes,
        )
        return measure(model, batches, self.classes, devices.device, devices.autocast(), together=True)

    def _end_epoch(self) -> None:
        """Evaluate; the checkpoint of this step is there already, and is written again with what was found."""
        devices, watch = self.devices, self.watch
        with devices.signals.at_once(self._how_to_go_on()):
            report = self._evaluate()
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
        if self.folder is not None:
            self._save(self.folder)

    def _save(self, folder: Path) -> None:
        random = self.devices.random_states()
        self.watch.pause()
        if not self.devices.first or not _finite(self.model):
            return  # without numbers, the next step's loss will tell; the checkpoint before stays the last good one
        checkpoint.save(folder, self.step, capture(self, random))

    def _resume(self, folder: Path) -> None:
        """Go back to the newest good checkpoint, if there is one."""
        state = checkpoint.load_newest(folder, FIELDS)
        self.devices.check_alike(state["step"] if state else 0)
        if state is not None and (note := restore(self, state)):
            self.watchers.note(note)

    def _how_to_go_on(self) -> str:
        return f"stopped after step {self.step} of {self.last_step}; the same command goes on from {self.folder}"

    def _after_damage(self, error: ImageError) -> str:
        advice = f"{error}; put a whole image in its place, or begin anew with --data.skip-damaged"
        if self.folder is None or self.devices.processes > 1:  # the others do not know
            return f"{advice}. {self._last_good()}"
        self._save(self.folder)
        return f"{advice}. The same command goes on after step {self.step} ({self.folder})"

    def _last_good(self) -> str:
        found = checkpoint.checkpoints(self.folder) if self.folder is not None else []
        return f"The last good checkpoint: {found[-1]}." if found else "There is no checkpoint."

def _finite(model: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())
