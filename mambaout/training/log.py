"""What is told and written while a training runs: a progress bar, a line an epoch, a CSV file, TensorBoard."""

import csv
import io
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from mambaout.training.checkpoint import write_whole


@dataclass(frozen=True)
class Epoch:
    """What is known after one epoch; a line of ``metrics.csv``.

    Attributes:
        epoch, step: both counted from 1.
        lr: learning rate of the last step.
        train_loss: mean over the epoch's steps, on augmented images.
        test_loss, top1, top5: on the evaluation images; the accuracies are fractions.
        images_per_second: training images, without evaluation and checkpoints.
        memory_mb: the most that was used so far: the GPU's, or this process's on the CPU.
        seconds: of training and evaluation since the beginning, over all continuations.
        seconds_left: at this speed.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    test_loss: float
    top1: float
    top5: float
    images_per_second: float
    memory_mb: float
    seconds: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: training loss {self.train_loss:.4f}, test loss {self.test_loss:.4f}, "
            f"top-1 {100 * self.top1:.2f} %, {self.images_per_second:.0f} images/s, {self.memory_mb:.0f} MB, "
            f"{duration(self.seconds_left)} left"
        )


def duration(seconds: float) -> str:
    """Such as "2 h 05 min", "3 min" or "40 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


class Stopwatch:
    """Times the steps apart from the evaluations and checkpoints between them.

    Attributes:
        seconds: everything, over all continuations.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._mark = time.perf_counter()
        self.new_epoch()

    def new_epoch(self) -> None:
        """Begin new means."""
        self._steps, self._stepping, self._epoch = 0, 0.0, 0.0

    def start(self) -> None:
        """A step begins."""
        self.pause()

    def stepped(self) -> None:
        """It ends."""
        self._steps += 1
        self._stepping += self.pause()

    def pause(self) -> float:
        """Count what has passed since the last call, and return it."""
        now = time.perf_counter()
        passed = now - self._mark
        self.seconds, self._epoch, self._mark = self.seconds + passed, self._epoch + passed, now
        return passed

    def state(self) -> tuple[float, int, float, float]:
        """For checkpoints."""
        return self.seconds, self._steps, self._stepping, self._epoch

    def restore(self, state: tuple[float, int, float, float]) -> None:
        """From checkpoints."""
        self.seconds, self._steps, self._stepping, self._epoch = state

    @property
    def step_seconds(self) -> float:
        """Mean duration of this epoch's steps."""
        return self._stepping / self._steps

    @property
    def seconds_per_step(self) -> float:
        """The same with what lies between them."""
        return self._epoch / self._steps


class Watcher:
    """Something that follows a training; the methods do nothing here."""

    def begin(self, first_step: int, last_step: int, history: list[Epoch]) -> None:
        """The run begins, or goes on after the epochs of ``history``."""

    def note(self, text: str) -> None:
        """Something to be told, such as what is in a folder or how the model does early on."""

    def step(self, step: int, loss: float, lr: float) -> None:
        """A step is done."""

    def epoch(self, history: list[Epoch]) -> None:
        """An epoch is done, the last of ``history``."""

    def end(self) -> None:
        """The run is over, or has failed."""


class Progress(Watcher):
    """A progress bar in a terminal or a notebook, and a line for each epoch in any case.

    Where the output goes to a file there are the lines only.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.bar: Any = None

    def begin(self, first_step: int, last_step: int, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        from tqdm.auto import tqdm

        hidden = not self.out.isatty() and not _in_notebook()
        self.bar = tqdm(initial=first_step - 1, total=last_step, unit="step", file=self.out, disable=hidden)

    def note(self, text: str) -> None:
        """See :class:`Watcher`."""
        from tqdm.auto import tqdm

        tqdm.write(text, file=self.out)

    def step(self, step: int, loss: float, lr: float) -> None:
        """See :class:`Watcher`."""
        self.bar.set_postfix_str(f"loss {loss:.4f}, lr {lr:.2e}", refresh=False)
        self.bar.update()

    def epoch(self, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        self.bar.write(str(history[-1]), file=self.out)
        self.out.flush()

    def end(self) -> None:
        """See :class:`Watcher`."""
        if self.bar is not None:
            self.bar.close()


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this; old versions of ipywidgets import ipykernel anywhere."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class MetricsFile(Watcher):
    """``metrics.csv``, one row an epoch; written anew each time, so that a run that goes back has no row twice."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"

    def epoch(self, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        text = io.StringIO()
        rows = [asdict(row) for row in history]
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path, lambda file: file.write(text.getvalue().encode()))


class TensorBoard(Watcher):
    """Event files for ``tensorboard --logdir FOLDER``: the loss of the steps, everything of the epochs.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, every: int = 20) -> None:
        self.folder, self.every = folder / "tensorboard", every
        self.writer: Any = None

    def begin(self, first_step: int, last_step: int, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: TensorBoard logs need `pip install 'mambaout[train]'`") from error
        # What a killed run wrote beyond its last checkpoint is taken back.
        self.writer = SummaryWriter(str(self.folder), purge_step=first_step)

    def step(self, step: int, loss: float, lr: float) -> None:
        """See :class:`Watcher`."""
        if step % self.every == 0:
            self.writer.add_scalar("step/loss", loss, step)
            self.writer.add_scalar("step/lr", lr, step)

    def epoch(self, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        row = asdict(history[-1])
        for name in sorted(row.keys() - {"epoch", "step", "seconds_left"}):
            self.writer.add_scalar(f"epoch/{name}", row[name], row["step"])
        self.writer.flush()

    def end(self) -> None:
        """See :class:`Watcher`."""
        if self.writer is not None:
            self.writer.close()


class Several(Watcher):
    """Watchers as one."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self.watchers = list(watchers)

    def begin(self, first_step: int, last_step: int, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        for watcher in self.watchers:
            watcher.begin(first_step, last_step, history)

    def note(self, text: str) -> None:
        """See :class:`Watcher`."""
        for watcher in self.watchers:
            watcher.note(text)

    def step(self, step: int, loss: float, lr: float) -> None:
        """See :class:`Watcher`."""
        for watcher in self.watchers:
            watcher.step(step, loss, lr)

    def epoch(self, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        for watcher in self.watchers:
            watcher.epoch(history)

    def end(self) -> None:
        """See :class:`Watcher`."""
        for watcher in self.watchers:
            watcher.end()
