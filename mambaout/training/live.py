"""A curve that moves in a notebook while the model learns."""

import time
from typing import Any

from mambaout.training.log import Epoch, Watcher


class LiveCurve(Watcher):
    """Draws the loss of the steps and the accuracy of the epochs, again and again in one place.

    >>> train("fashion_mnist", watchers=[LiveCurve()])

    It serves :func:`mambaout.training.fit` as well: ``fit(..., on_step=LiveCurve())``.

    Args:
        seconds: at least so long between two drawings.
        window: steps over which the loss is averaged for the line in front.
    """

    def __init__(self, seconds: float = 2.0, window: int = 20) -> None:
        self.seconds, self.window = seconds, window
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.history: list[Epoch] = []
        self._place: Any = None
        self._drawn = 0.0

    def __call__(self, step: int, loss: float) -> None:
        """A step is done."""
        self.steps.append(step)
        self.losses.append(loss)
        if time.monotonic() - self._drawn >= self.seconds:
            self.draw()

    def begin(self, first_step: int, last_step: int, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        self.history = list(history)

    def step(self, step: int, loss: float, lr: float) -> None:
        """See :class:`Watcher`."""
        self(step, loss)

    def epoch(self, history: list[Epoch]) -> None:
        """See :class:`Watcher`."""
        self.history = list(history)

    def end(self) -> None:
        """Draw the last state; call it yourself after :func:`~mambaout.training.fit`."""
        if self.losses:
            self.draw()

    def draw(self) -> None:
        """Draw now."""
        from IPython.display import display
        from matplotlib import pyplot as plt

        figure = self.figure()
        if self._place is None:
            self._place = display(figure, display_id=True)
        else:
            self._place.update(figure)
        plt.close(figure)  # or the notebook would show it a second time at the end of the cell
        self._drawn = time.monotonic()

    def figure(self) -> Any:
        """The loss, and beside it the accuracy once there is one: a matplotlib Figure."""
        from matplotlib import pyplot as plt

        from mambaout.figures import accuracy_curve, training_curve

        columns = 2 if self.history else 1
        figure, axes = plt.subplots(1, columns, figsize=(4.5 * columns, 3), squeeze=False, layout="constrained")
        training_curve(self.steps, self.losses, window=min(self.window, len(self.losses)), ax=axes[0, 0])
        if self.history:
            accuracy_curve([row.step for row in self.history], [row.top1 for row in self.history], ax=axes[0, 1])
        return figure
