"""A headless Chromium for the tests that look at pages, and the rules of accessibility that pages must keep."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# No GPU, no sandbox (containers run as root), and none of the browser's own network chatter.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"


def executable() -> str | None:
    """The Chromium to use: $CHROMIUM, or the first one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A running headless Chromium. Without one the test is skipped, with the reason; in CI ($CI) it fails."""
    path = executable()
    if path is None:
        reason = "These tests need Chromium: install it (apt-get install chromium) or set $CHROMIUM."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def axe_violations(page: "Page", include: str = "html") -> list[str]:
    """What axe-core finds below the CSS selector `include`: one line a violation, with the first elements."""
    page.evaluate(AXE.read_text("utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        "async (root) => (await axe.run(root, {resultTypes: ['violations']})).violations", include
    )
    return [
        f"{rule['id']}: {rule['help']} ({'; '.join(node['html'][:160] for node in rule['nodes'][:3])})"
        for rule in found
    ]
