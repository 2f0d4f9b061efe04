"""Checkpoints: written whole or not at all, read without running code, checked before they are trusted."""

import contextlib
import os
import platform
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout

from mambaout.files.archive import check_archive
from mambaout.files.transfer import why

KEPT = 2  # the newest, and one before it
PATIENCE = 10.0  # seconds in which a killed run's workers notice that it is gone, and let go of its folder


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or is not one."""


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"checkpoint-{step:08d}.pt"


def checkpoints(folder: Path) -> list[Path]:
    """All of a folder, the oldest first."""
    return sorted(folder.glob("checkpoint-*.pt"))


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Make the folder, find out now whether it can be written to, and keep other runs out of it.

    The lock is the system's: it falls with the process that holds it, however that ends.

    Raises:
        CheckpointError: it cannot be written to, or another run is in it; says which.
    """
    holder = folder / ".run"
    lock = FileLock(folder / ".run.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE)
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    except Timeout as error:
        with contextlib.suppress(OSError):
            who = holder.read_text(encoding="utf-8", errors="replace")[:100]
            raise CheckpointError(f"{folder} is in use by {who}: wait for it, or choose another folder") from error
        raise CheckpointError(f"{folder} is in use by another process: choose another folder") from error
    except OSError as error:
        lock.release()
        raise CheckpointError(f"cannot write to the folder {folder}: {error.strerror}; choose another") from error
    try:
        for left in folder.glob(".*.partial"):  # of a run that was killed while it wrote
            left.unlink(missing_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the checkpoint of a step beside the others, and delete all but the newest two.

    The file gets its name only when all of it is on the disk: whatever happens before, the earlier ones stay.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written to.
    """
    path = path_of(folder, step)
    write_whole(path, lambda file: torch.save(state, file))
    found = checkpoints(folder)
    here = found.index(path)
    for left in found[: max(0, here + 1 - KEPT)] + found[here + 1 :]:  # later ones: damaged, a run went back past them
        left.unlink(missing_ok=True)
    return path


def write_whole(path: Path, write: Any) -> None:
    """Let ``write`` fill an open file, bring it to the disk, and only then give it its name.

    Raises:
        CheckpointError: that failed; whatever was at ``path`` still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            sink = _Sink(file)
            try:
                write(sink)
            except RuntimeError as error:  # torch's writer hides what the system said
                raise sink.failure or error from error
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # a folder that cannot be written to
            partial.unlink(missing_ok=True)
        older = [good.name for good in checkpoints(path.parent) if good != path]
        kept = f"; the last good checkpoint is {path.with_name(older[-1])}" if older else ""
        raise CheckpointError(f"cannot write {path}: {error.strerror}{kept}") from error


def export(path: Path, weights: dict[str, torch.Tensor], told: dict[str, str]) -> None:
    """Write weights alone, as safetensors with ``told`` in their metadata.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written to.
    """
    content = safetensors.torch.save({name: t.contiguous() for name, t in weights.items()}, {"format": "pt", **told})
    write_whole(path, lambda file: file.write(content))


class _Sink:
    """A file that remembers why it could not be written."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def load(path: Path, fields: Iterable[str] = ("step",)) -> dict[str, Any]:
    """Read a checkpoint: tensors, numbers and text, nothing that could run.

    Args:
        path: the file.
        fields: what it must hold.

    Raises:
        CheckpointError: there is none, it is damaged, it holds other objects, or a field is missing.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        check_archive(path)
    except ValueError as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no plain state raises one of many types
        raise CheckpointError(f"{path} is damaged or holds more than tensors; not loaded: {why(error)}") from error
    missing = sorted(set(fields) - state.keys()) if isinstance(state, dict) else list(fields)
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of a training: it has no {', '.join(missing)}")
    return state


def load_newest(folder: Path, fields: Iterable[str] = ("step",)) -> dict[str, Any] | None:
    """The newest checkpoint of a folder that is whole; None where there is none at all. Damaged ones are named.

    Args:
        folder: of the run.
        fields: what a whole one holds.

    Raises:
        CheckpointError: there are some, and all of them are damaged.
    """
    found = checkpoints(folder)
    problems = []
    for path in reversed(found):
        try:
            return load(path, fields)
        except CheckpointError as error:
            problems.append(str(error))
            warnings.warn(f"{error}. Trying the one before it.", stacklevel=2)
    if problems:
        raise CheckpointError(f"no checkpoint of {folder} can be read: {'; '.join(problems)}")
    return None


def _sync_folder(folder: Path) -> None:
    """Bring the folder's entry to the disk too, where the system has folders that can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
