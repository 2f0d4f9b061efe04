"""Make the book follow everything that it is made from, and nothing be computed twice.

jupyter-cache looks at a notebook's cells alone: after an edit of the library or of the data it would show the results
of the old code. So the cache lies in a folder named by a hash of both. Sphinx looks at the pages alone: so the
hash of our extension, templates and static files is a setting, and a change of it renders every page anew.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

COMPUTED_WITH = ("mambaout", "data", "requirements.txt")
RENDERED_WITH = ("book/_ext", "book/_templates", "book/lib", "book/site")


def hash_of(root: Path, sources: tuple[str, ...]) -> str:
    """Return a short hash of the names and contents of all files in these places."""
    digest = hashlib.sha256()
    for source in sources:
        path = root / source
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(root)}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def setup(app: Sphinx) -> None:
    """Add the setting that holds the hash of what renders the pages."""
    app.add_config_value("book_rendered_with", "", "env")
    # Early: myst-nb reads the cache's path right after the configuration.
    app.connect("config-inited", configure, priority=100)


def configure(app: Sphinx, config: Config) -> None:
    """Set both hashes, and drop the caches of older sources."""
    root = Path(app.srcdir)
    config.book_rendered_with = hash_of(root, RENDERED_WITH)
    caches = root / "_build" / ".jupyter_cache"
    current = caches / hash_of(root, COMPUTED_WITH)
    for old in caches.glob("*"):
        if old != current and old.is_dir():
            shutil.rmtree(old)
    config.nb_execution_cache_path = str(current)
