"""Find the book's data files, and refuse broken ones.

The repository carries every file, so a clone works offline. A package that is installed elsewhere downloads
what is asked for, once, into `$MAMBAOUT_DATA` or the cache. `manifest.csv`, written by
`python -m mambaout.files.manifest`, holds the size and SHA-256 of each file: nothing is returned that
differs from it.
"""

import csv
import json
import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath

from mambaout.files.transfer import DownloadError, StorageError, digest, download

# Written by studies and edited by hand: inside a checkout the file itself is the truth, not the manifest. Rows that
# studies wrote are never overwritten anywhere.
LIVING = ("results/", "claims.yml")
RESULTS = "results/"


class DataError(ValueError):
    """A data file is unknown, missing, truncated or altered. The message says which, and what to do."""


@dataclass(frozen=True)
class Entry:
    """One row of the manifest: a file below `data/`, and its origin (None: only the repository has it)."""

    name: str
    bytes: int
    sha256: str
    url: str | None


@cache
def manifest() -> dict[str, Entry]:
    """All data files of the book by name, such as "paper/imagenet.csv"."""
    with Path(__file__).with_name("manifest.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: Entry(row["name"], int(row["bytes"]), row["sha256"], row["url"] or None)
            for row in csv.DictReader(file)
        }


def repository_root() -> Path | None:
    """The root of the checkout that this package is imported from; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "data").is_dir() else None


def data_dir() -> Path:
    """The folder of the data: the checkout's `data/`, `$MAMBAOUT_DATA`, or a part of torch hub's cache."""
    root = repository_root()
    if root is not None:
        return root / "data"
    if folder := os.environ.get("MAMBAOUT_DATA"):
        return Path(folder).expanduser()
    import torch

    return Path(torch.hub.get_dir()) / "mambaout" / "data"


def find(name: str) -> Path:
    """The path of the verified file `data/<name>`, downloaded first where there is no checkout.

    Args:
        name: the path below `data/`, with forward slashes: "fashion-mnist/train-images-idx3-ubyte.gz".

    Raises:
        DataError: the name is unknown; the file is missing, truncated or altered; or it cannot be downloaded.
    """
    path = data_dir() / _inside(name)
    in_checkout = repository_root() is not None
    if name.startswith(LIVING if in_checkout else RESULTS) and path.is_file():
        return path  # also when the manifest does not list it yet
    entry = _entry(name)
    if not in_checkout and not path.exists():
        return fetch(name)
    if problem := check(entry):
        raise DataError(f"{problem}: run `mambaout fetch {name}`.")
    return path


def check(entry: Entry) -> str | None:
    """What is wrong with this file; None when it is as expected. `fetch` is the cure."""
    path = data_dir() / entry.name
    if not path.is_file():
        return f"{path} is missing"
    if entry.name.startswith(RESULTS if repository_root() is None else LIVING):
        return None
    size = path.stat().st_size
    if size != entry.bytes:
        kind = "truncated" if size < entry.bytes else "too long"
        return f"{path} is {kind}: expected {entry.bytes} bytes, found {size}"
    found = _sha256(path, path.stat().st_mtime_ns)
    if found != entry.sha256:
        return f"{path} was altered: expected SHA-256 {entry.sha256}, found {found}"
    return None


def fetch(name: str, *, progress: bool = True) -> Path:
    """Download `data/<name>` from its origin or the repository, verify it, and put it in place in one step.

    Raises:
        DataError: no address is known, none answers, or none has the expected bytes; the place cannot be written to;
            or a study's rows are there already. An existing file stays.
    """
    entry = _entry(name)
    path = data_dir() / _inside(name)
    if name.startswith(RESULTS) and path.exists():
        raise DataError(f"{path} may hold the rows of a study of yours: move it away to have the book's.")
    addresses = [url for url in (entry.url, _repository_url(name)) if url]
    if not addresses:
        raise DataError(
            f"{name} has no download address, because this package does not know its repository: "
            "get the file from a clone of the repository and set MAMBAOUT_DATA to the clone's data folder."
        )
    failures = []
    for url in addresses:
        try:
            download(url, path, sha256=entry.sha256, size=entry.bytes, progress=progress)
            return path
        except StorageError as error:  # another address would not help
            raise DataError(f"{name} was not downloaded: {error}") from error
        except DownloadError as error:
            failures.append(str(error))
    raise DataError(
        f"{name} could not be downloaded: {'; '.join(failures)}. "
        "Check the connection, or set MAMBAOUT_DATA to the data folder of a clone of the repository."
    )


def _inside(name: str) -> PurePosixPath:
    """The name as a path that stays inside the folder of the data."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise DataError(f"{name!r} is no name of a data file: names are paths below the folder of the data.")
    return path


def _entry(name: str) -> Entry:
    known = manifest()
    if name not in known:
        if name.startswith("results/"):
            raise DataError(f"There is no data file {name!r}: results are written by the book's studies.")
        near = get_close_matches(name, known, n=3) or sorted(known)
        raise DataError(f"There is no data file {name!r}. The nearest names: {', '.join(near)}.")
    return known[name]


@cache
def _sha256(path: Path, modified_ns: int) -> str:
    """SHA-256 of a file; the modification time makes the cache forget a file that has changed."""
    return digest(path)


def _repository_url(name: str) -> str | None:
    """The raw address of `data/<name>` in the GitHub repository that this package comes from, if known."""
    try:
        package = metadata.distribution("mambaout")
    except metadata.PackageNotFoundError:
        return None
    # A package installed with `pip install git+https://...` knows its address and its very commit.
    source = json.loads(package.read_text("direct_url.json") or "{}")
    address, commit = source.get("url", ""), source.get("vcs_info", {}).get("commit_id")
    if commit is None:
        links = (link.partition(",") for link in package.metadata.get_all("Project-URL") or [])
        address, commit = next((url.strip() for label, _, url in links if label == "Repository"), ""), "HEAD"
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    return f"https://raw.githubusercontent.com/{match[1]}/{commit}/data/{name}" if match else None
