"""Compile a function with numba, once for a machine, and say so where somebody waits."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit

from .vectors import FAST_MATH

PATIENCE = 1.0  # seconds after which a person on a terminal is told what is going on


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile the decorated function for these argument types, now, or take it from the cache on disk.

    The cache lies beside the source, or in the user's cache folder where that cannot be written. Where no folder can
    be written, or the cache is damaged, the function is compiled in memory. The result gives up the interpreter's
    lock while it runs.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(FAST_MATH)}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        with _announced():
            try:
                return njit(signature, cache=True, **options)(function)
            except Exception:  # of a cache that cannot be written or read; an error in the code comes again
                return njit(signature, **options)(function)

    return decorate


@contextmanager
def _announced() -> Iterator[None]:
    """Print a line when this takes long, on a terminal."""

    def tell() -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            print("mambaout: compiling a kernel for this processor (once, some seconds) ...", file=sys.stderr)

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
