"""The book's own Sphinx extension: what jupyter-book leaves to do, one small module a task."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from . import accessibility, address, execution, ledger, parcels


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the modules to Sphinx."""
    # Early: the theme reads the address right after the configuration.
    app.connect("config-inited", address.configure, priority=100)
    execution.setup(app)
    ledger.setup(app)
    # Late: the theme and other extensions have had their say on the page by then.
    app.connect("html-page-context", accessibility.rewrite_page, priority=900)
    app.connect("html-page-context", parcels.unload_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
