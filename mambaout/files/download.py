"""Download a checkpoint into torch hub's folder, once, whole, and checked against its digest."""

import hashlib
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import torch


class DownloadError(OSError):
    """A file that could not be downloaded, or that is not what was announced."""


def checkpoint_path(url: str) -> Path:
    """Where a checkpoint's copy lies: torch hub's ``checkpoints`` folder, under a name that is unique to the URL."""
    name = re.sub(r"[^\w.-]+", "_", urlparse(url).netloc + urlparse(url).path).lstrip("._")
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def fetch_checkpoint(url: str, sha256: str | None = None) -> Path:
    """Path of the downloaded file; the network is asked only when it is not there yet.

    Args:
        url: where the file is.
        sha256: its digest. Without it the digest that the server announces is used, if it announces one:
            Hugging Face sends the SHA-256 of large files in the header ``X-Linked-ETag``.

    Raises:
        DownloadError: no connection, no such file, or a digest that differs.
    """
    path = checkpoint_path(url)
    if path.is_file():
        if sha256 and digest(path) != sha256:
            raise DownloadError(f"{path} has SHA-256 {digest(path)}, expected {sha256}: delete it to download it again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        expected = sha256 or announced_sha256(url)
        # Writes to a temporary file, shows a progress bar, checks the digest and only then renames.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=expected, progress=True)
    except RuntimeError as error:  # torch hub's word for a digest that differs
        raise DownloadError(f"{url} is not the file that was announced: {error}") from error
    except (urllib.error.URLError, OSError) as error:
        raise DownloadError(
            f"could not download {url} ({error}). Without internet, fetch the file elsewhere and pass its path to "
            f"mambaout.load_weights(model, path), or put it at {path}"
        ) from error
    return path


def announced_sha256(url: str) -> str | None:
    """The SHA-256 in the server's ``X-Linked-ETag`` header, or None.

    The header comes with the redirect to the storage, so the redirect must not be followed.
    """

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object, **kwargs: object) -> None:
            return None

    request = urllib.request.Request(url, method="HEAD")
    try:
        headers = urllib.request.build_opener(Stay).open(request, timeout=30).headers
    except urllib.error.HTTPError as answer:  # a redirect that was not followed arrives as an error
        if answer.code >= 400:
            raise
        headers = answer.headers
    tag = (headers.get("X-Linked-ETag") or "").strip('"')
    return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
