"""Shows figures as the built book does, without a kernel: page.html hosts the Python object's state."""

import copy
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from playwright.sync_api import Browser, Page

PAGE = (Path(__file__).parent / "page.html").read_text("utf-8")


@pytest.fixture
def show(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """`show(*widgets, width=1280, theme="light", **context)` gives the page; it fails if the page met an error."""
    contexts = []

    def open_page(*widgets: "AnyWidget", width: int = 1280, theme: str = "light", **context: Any) -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        states = [widget.get_state() for widget in widgets]
        data = json.dumps(states, default=str).replace("</", "<\\/")
        html = PAGE.replace("THEME", theme).replace("STATES", data)
        page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto("http://figures.test/")
        page.wait_for_selector("body[data-ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("errors") == []
        context.close()


def read(name: str) -> list[dict[str, str]]:
    """The rows of a table of the paper (data/paper)."""
    path = Path(__file__).parents[2] / "data" / "paper" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Table 1, every row."""
    return [
        {
            "model": row["model"],
            "size_group": row["size_group"],
            "token_mixing": row["token_mixing"],
            "params_M": float(row["params_M"]),
            "macs_G": float(row["macs_G"]) if row["macs_G"] else None,
            "top1_224": float(row["top1_224"]),
            "note": row["note"] or None,
        }
        for row in read("imagenet")
    ]


@pytest.fixture(scope="session")
def _costs() -> dict[str, Any]:
    from mambaout.analysis.cost import architecture, block_preset

    variants = []
    for row in read("models"):
        paper = {"params_M": float(row["params_M"]), "macs_G": float(row["macs_G"]), "top1": float(row["top1_224"])}
        name = row["model"].lower().replace("-", "_")
        variants.append({**architecture(name), "label": row["model"], "paper": paper})
    stages = enumerate(variants[2]["dims"])
    presets = [block_preset(f"MambaOut-Tiny, stage {i + 1}", dim, 56 >> i, 56 >> i) for i, dim in stages]
    return {"presets": presets, "variants": variants}


@pytest.fixture
def presets(_costs: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of MambaOut-Tiny's four stages, counted on the modules."""
    return copy.deepcopy(_costs["presets"])


@pytest.fixture
def variants(_costs: dict[str, Any]) -> list[dict[str, Any]]:
    """The five variants (Femto, Kobe, Tiny, Small, Base), counted on the models."""
    return copy.deepcopy(_costs["variants"])
