"""Run a compiled function on several threads, each with a share of the work.

Numba brings thread pools of its own, but each has a place where it fails: GNU OpenMP's ends a forked process, the
built-in one ends a process in which two threads call it at once. Here the shares run on PyTorch's own OpenMP threads,
where its library is GNU's: after an operation these spin for a while, and others would have to share the cores with
them (a step with four scans takes 1.25 times as long). Elsewhere, and in a forked process, whose parent's OpenMP
threads are gone, they run on Python's threads; the compiled functions give up the interpreter's lock.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

Work = Callable[[int, int, int], None]

_pool: ThreadPoolExecutor | None = None
_forked = False


def _after_fork() -> None:
    """A forked process has none of its parent's threads."""
    global _pool, _forked
    _pool, _forked = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def share(work: Work, items: int, least: int = 1) -> None:
    """Call ``work(thread, first, stop)`` so that the ranges cover ``range(items)``, on PyTorch's number of threads.

    Args:
        work: a function that gives up the interpreter's lock. ``thread`` counts from 0.
        items: how many there are.
        least: items below which a thread is not worth its start.
    """
    threads = min(threads_for(items), max(1, items // max(1, least)))
    bounds = [items * i // threads for i in range(threads + 1)]
    shares = [(i, bounds[i], bounds[i + 1]) for i in range(threads)]
    if threads == 1:
        work(*shares[0])
    elif _openmp() is None or _forked:
        _on_python_threads(work, shares)
    else:
        _on_openmp_threads(work, shares)


def threads_for(items: int) -> int:
    """The largest number of threads that `share` will use."""
    return max(1, min(torch.get_num_threads(), items))


@cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP library, if it is the one that PyTorch has loaded."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*"):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        except (OSError, AttributeError):  # not loaded, or a system that cannot tell
            pass
    return None


def _on_openmp_threads(work: Work, shares: list[tuple[int, int, int]]) -> None:
    library = _openmp()
    assert library is not None
    errors: list[BaseException] = []

    def run(_: object) -> None:
        try:  # there may be fewer threads than asked for
            for i in range(library.omp_get_thread_num(), len(shares), library.omp_get_num_threads()):
                work(*shares[i])
        except BaseException as error:
            errors.append(error)

    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run)
    library.GOMP_parallel(callback, None, len(shares), 0)
    if errors:
        raise errors[0]


def _on_python_threads(work: Work, shares: list[tuple[int, int, int]]) -> None:
    others = [_submit(work, *part) for part in shares[1:]]
    try:
        work(*shares[0])
    finally:  # the others write to arrays that must live until they are done
        for other in others:
            other.result()


def _submit(work: Work, *part: int) -> "Future[None]":
    """Queue one share. It waits for nothing but a free thread, so several callers may share one pool."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="mambaout-kernel")
    return _pool.submit(work, *part)
