"""Run a compiled function on several threads, each with a share of the work.

Numba brings thread pools of its own, but each has a place where it fails: GNU OpenMP's ends a forked process, the
built-in one ends a process in which two threads call it at once. Python's threads do not: the compiled functions give
up the interpreter's lock, so that the shares run side by side, and a forked process makes a pool of its own.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked process has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def share(work: Callable[[int, int, int], None], items: int, least: int = 1) -> None:
    """Call ``work(thread, first, stop)`` so that the ranges cover ``range(items)``, on PyTorch's number of threads.

    Args:
        work: a function that gives up the interpreter's lock. ``thread`` counts from 0.
        items: how many there are.
        least: items below which a thread is not worth its start.
    """
    threads = max(1, min(threads_for(items), items // max(1, least)))
    bounds = [items * i // threads for i in range(threads + 1)]
    others = [_submit(work, i, bounds[i], bounds[i + 1]) for i in range(1, threads)]
    try:
        work(0, bounds[0], bounds[1])
    finally:  # the others write to arrays that must live until they are done
        for other in others:
            other.result()


def threads_for(items: int) -> int:
    """The largest number of threads that `share` will use."""
    return max(1, min(torch.get_num_threads(), items))


def _submit(work: Callable[[int, int, int], None], *arguments: int) -> "Future[None]":
    """Queue one share. It waits for nothing but a free thread, so several callers may share one pool."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="mambaout-kernel")
    return _pool.submit(work, *arguments)
