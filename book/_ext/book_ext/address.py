"""The repository's address: everything in the book that links to it follows from here."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

COLAB = "https://colab.research.google.com"


def find_repository(root: Path) -> str | None:
    """Return the repository's address, or None when it is not known.

    On GitHub Actions it is the repository that runs the workflow, so that a fork's book points at the fork;
    elsewhere it is `[project.urls] Repository` of pyproject.toml, which `make repository URL=...` writes.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def configure(app: Sphinx, config: Config) -> None:
    """Point the repository and Colab buttons at the address, or leave them out."""
    options = config.html_theme_options
    url = find_repository(Path(app.srcdir))
    if url is None:
        # jupyter-book's default is its own repository.
        for key in ("repository_url", "repository_branch", "launch_buttons"):
            options.pop(key, None)
        return
    # Colab opens committed notebooks. The workflow pushes a branch whose chapters know the address.
    branch = "colab" if os.environ.get("GITHUB_ACTIONS") == "true" else "main"
    options.update(
        repository_url=url,
        repository_branch=branch,
        use_repository_button=True,
        launch_buttons={"colab_url": COLAB},
    )
