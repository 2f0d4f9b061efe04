"""Released checkpoints: into torch hub's folder, once, whole, and verified whenever they are asked for."""

import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch

from mambaout.files.transfer import LIMIT, TIMEOUT, Check, DownloadError, digest, download, why


@dataclass(frozen=True)
class Announced:
    """What a server says about a file without sending it.

    Attributes:
        url: where this very revision of it is.
        sha256: its digest, if told.
    """

    url: str
    sha256: str | None


def announced(url: str) -> Announced:
    """The SHA-256 and the revision of a file on Hugging Face; elsewhere the URL itself and no digest.

    Hugging Face sends them in the headers ``X-Linked-ETag`` and ``X-Repo-Commit`` of the redirect to its storage, so
    the redirect must not be followed.

    Raises:
        DownloadError: no connection, or no such file.
    """

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object, **kwargs: object) -> None:
            return None

    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "mambaout"})
    try:
        headers = urllib.request.build_opener(Stay).open(request, timeout=TIMEOUT).headers
    except urllib.error.HTTPError as answer:  # a redirect that was not followed arrives as an error
        if answer.code >= 400:
            raise DownloadError(f"{url} answered {answer.code} {why(answer)}") from answer
        headers = answer.headers
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} cannot be reached ({why(error)})") from error
    tag, commit = (headers.get("X-Linked-ETag") or "").strip('"'), headers.get("X-Repo-Commit") or ""
    if re.fullmatch(r"[0-9a-f]{40}", commit):
        url = url.replace("/resolve/main/", f"/resolve/{commit}/")
    return Announced(url, tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None)


@dataclass(frozen=True)
class Record:
    """What a downloaded checkpoint was when it was verified; kept beside it, as NAME.json."""

    url: str
    bytes: int
    sha256: str


def checkpoint_path(url: str) -> Path:
    """Where a checkpoint's copy lies: torch hub's ``checkpoints`` folder, under a name that is unique to the URL."""
    name = re.sub(r"[^\w.-]+", "_", urlparse(url).netloc + urlparse(url).path).lstrip("._")
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def fetch_checkpoint(
    url: str, sha256: str | None = None, *, limit: int = LIMIT, check: Check | None = None, replace: bool = False
) -> Path:
    """Path of the verified file; the network is asked only when it is not there yet.

    Args:
        url: where the file is.
        sha256: its digest. Without it the digest that the server announces is used, if it announces one.
        limit: the most bytes that it may have.
        check: looks at the file before it is kept, and at a copy that is already there.
        replace: download it again where the copy that is there is damaged.

    Raises:
        DownloadError: no connection, no such file, or not the file that was asked for.
    """
    path = checkpoint_path(url)
    if path.is_file():
        problem = altered(path, sha256, check)
        if problem is None:
            return path
        if not replace:
            raise DownloadError(f"{problem}: delete it to download it again")
    source = Announced(url, sha256) if sha256 else announced(url)
    download(source.url, path, sha256=source.sha256, limit=limit, check=check)
    record = Record(source.url, path.stat().st_size, source.sha256 or digest(path))
    _record_path(path).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    return path


def altered(path: Path, sha256: str | None = None, check: Check | None = None) -> str | None:
    """What is wrong with a downloaded checkpoint, by its digest, its record and ``check``; None where nothing is."""
    record = _read_record(path)
    expected = sha256 or (record.sha256 if record else None)
    if expected and (found := digest(path)) != expected:
        return f"{path} has SHA-256 {found}, expected {expected}"
    try:
        if check is not None:
            check(path)
    except ValueError as error:
        return f"{path}: {error}"
    return None


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_record(path: Path) -> Record | None:
    """None where there is none, as for a file that was put there by hand, or none that can be read."""
    try:
        return Record(**json.loads(_record_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
