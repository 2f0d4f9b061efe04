"""Ctrl-C and SIGTERM: a training finishes its step, writes a checkpoint and says how to go on."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

ASKING = (signal.SIGINT, signal.SIGTERM)
GRACE = 30  # seconds that a worker goes on after SIGTERM


class Interrupted(KeyboardInterrupt):
    """A signal stopped a training; the message says how to go on.

    Attributes:
        signum: which.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class Signals:
    """While it is entered, the first signal is noted and the second one breaks off at once.

    Attributes:
        asked: the signal, or None.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._at_once: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            self._before = {number: signal.signal(number, self._note) for number in ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Here the first signal breaks off too: nothing would be lost, as ``message`` says."""
        self._at_once = message
        try:
            yield
        finally:
            self._at_once = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._at_once is not None:
            raise Interrupted(self._at_once, number)
        if self.asked is not None:
            raise Interrupted("broken off at once; the last checkpoint stands", number)
        self.asked = number


def leave_to_parent(_: int = 0) -> None:
    """In a worker process: a signal to all processes of a terminal or a job is for the training's own to answer.

    SIGTERM takes effect a while later, because a training ends workers by it too, if they are stuck.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
