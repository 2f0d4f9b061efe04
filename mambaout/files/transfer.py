"""Downloads: whole and verified, or not there at all.

A file is written beside its place and moved there only when its length, its digest and whatever else the caller
checks are right. Where a digest is known, a transfer that broke off goes on where it stopped; where none is, it begins
anew, since nothing would tell whether the two parts belong together.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

TIMEOUT = 30.0  # seconds to connect, and of silence
ATTEMPTS = 3
BLOCK = 2**18  # bytes
LIMIT = 2**33  # bytes of a file about whose size nothing is known

Check = Callable[[Path], None]  # raises ValueError where a file is not what it should be


class DownloadError(OSError):
    """A file that could not be downloaded, or that is not what was announced."""


class StorageError(DownloadError):
    """The place for a download cannot be written to, or is full."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    limit: int = LIMIT,
    check: Check | None = None,
    progress: bool = True,
) -> None:
    """Put the file at ``url`` in ``path``; whatever lies there stays until the new file is whole and verified.

    Args:
        url: where it is; http and https, and file for a copy on this computer.
        path: where it goes. Its folder is made. Processes that download into one folder take turns.
        sha256: its digest.
        size: its length in bytes.
        limit: the most bytes that it may have, where the length is not known.
        check: looks at the whole file before it is kept.
        progress: show a bar.

    Raises:
        DownloadError: no answer, or another one than a file of that length, digest and content. Nothing is kept.
        StorageError: the folder cannot be written to, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    with _alone(path.parent):
        try:
            _receive(url, partial, sha256, size, limit, progress)
            if check is not None:
                check(partial)
            os.replace(partial, path)
        except ValueError as error:
            partial.unlink(missing_ok=True)
            raise DownloadError(f"{url} is not what it should be: {error}") from error
        except BaseException as error:
            broken_off = isinstance(error, _BrokenOffError | KeyboardInterrupt)
            if not (broken_off and sha256):
                partial.unlink(missing_ok=True)
            raise


class _BrokenOffError(DownloadError):
    """The transfer stopped, and may go on in another attempt."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else downloads into the folder meanwhile; what was left unfinished a day ago is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".download.lock")
        lock.acquire()
    except OSError as error:
        raise StorageError(f"cannot write to the folder {folder} ({error.strerror}): choose another") from error
    try:
        for left in folder.glob(".*.partial"):
            if time.time() - left.lstat().st_mtime > 24 * 3600:
                left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _receive(url: str, partial: Path, sha256: str | None, size: int | None, limit: int, progress: bool) -> None:
    """Fill ``partial`` in up to `ATTEMPTS` attempts; each goes on where the one before stopped if a digest is known."""
    for attempt in range(1, ATTEMPTS + 1):
        resumed = partial.stat().st_size if sha256 and partial.is_file() else 0
        try:
            _transfer(url, partial, resumed, size, limit, progress)
        except _BrokenOffError:
            if attempt == ATTEMPTS:
                raise
            continue
        if sha256 is None or digest(partial) == sha256:
            return
        partial.unlink()
        if not resumed:
            raise DownloadError(f"{url} has other bytes than expected (SHA-256 {sha256})")
    raise DownloadError(f"{url} has other bytes than expected (SHA-256 {sha256})")


def _transfer(url: str, partial: Path, start: int, size: int | None, limit: int, progress: bool) -> None:
    """One attempt: append to ``partial`` from byte ``start`` on, or begin anew where the server does not go on."""
    from tqdm.auto import tqdm

    with _open(url, start) as answer:
        start = start if getattr(answer, "status", None) == 206 else 0
        total = _announced_length(url, answer, start)
        most = limit if size is None else size
        if total is not None and (total > most or (size is not None and total != size)):
            raise DownloadError(f"{url} has {total} bytes, expected {'at most ' if size is None else ''}{most}")
        name = partial.name[1:].removesuffix(".partial")
        with (
            _written(partial, "ab" if start else "wb") as write,
            tqdm(total=total or size, initial=start, unit="B", unit_scale=True, desc=name, disable=not progress) as bar,
        ):
            got = start
            while content := _read(url, answer):
                got += len(content)
                if got > most:
                    raise DownloadError(f"{url} sends more than the expected {most} bytes")
                write(content)
                bar.update(len(content))
    if total is not None and got < total:
        raise _BrokenOffError(f"{url} was cut short: {got} of {total} bytes came")
    if got < (size or 1):
        raise DownloadError(f"{url} has {got} bytes, expected {size or 'more'}")


def _open(url: str, start: int) -> Any:
    """The answer to a request for the bytes from ``start`` on, once it is known to be a plain file."""
    headers = {"User-Agent": "mambaout", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        kind = _BrokenOffError if error.code >= 500 or error.code in (408, 416, 429) else DownloadError
        raise kind(f"{url} answered {error.code} {why(error)}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"{url} cannot be reached ({why(error)})") from error
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DownloadError(f"{url} answered in {encoding} encoding, expected the plain file")
    if answer.headers.get_content_type() == "text/html":
        raise DownloadError(f"{url} answered with a web page, expected a file")
    return answer


def _announced_length(url: str, answer: Any, start: int) -> int | None:
    length = answer.headers.get("Content-Length")
    if length is None:
        return None
    if not re.fullmatch(r"\d{1,18}", length):
        raise DownloadError(f"{url} announces a length of {length!r} bytes")
    return start + int(length)


def _read(url: str, answer: Any) -> bytes:
    try:
        content: bytes = answer.read(BLOCK)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"{url} broke off ({why(error)})") from error
    return content


@contextmanager
def _written(partial: Path, mode: str) -> Iterator[Callable[[bytes], object]]:
    """A function that writes to the file; at the end all of it is on the disk."""

    def to_disk(do: Callable[..., Any], *arguments: object) -> Any:
        try:
            return do(*arguments)
        except OSError as error:
            raise StorageError(f"cannot write {partial} ({error.strerror}): choose another folder") from error

    file = to_disk(open, partial, mode)
    try:
        yield lambda content: to_disk(file.write, content)
        to_disk(file.flush)
        to_disk(os.fsync, file.fileno())
    finally:
        to_disk(file.close)


def why(error: Exception) -> str:
    """The reason in one printable line: what a server says goes into messages, not into the terminal's controls."""
    words = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:200]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
