"""The script that shows the book's figures without a kernel, on pages as myst-nb writes them."""

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

from book_ext import parcels

HOST = (Path(__file__).parents[1] / "book" / "site" / "widgets.js").read_text("utf-8")

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title>
<script type="application/vnd.jupyter.widget-state+json">{state}</script>
<script defer src="widgets.js"></script></head><body>{body}</body></html>"""
VIEW = '<script type="application/vnd.jupyter.widget-view+json">{{"model_id": "{id}"}}</script>'
GAP = '<div style="height: 5000px"></div>'

TEXT = "export default { render({ model, el }) { el.textContent = model.get('text'); } };"


@pytest.fixture
def show(browser: "Browser", tmp_path: Path) -> Iterator[Callable[..., "Page"]]:
    """`show(models, body)` opens a page from disk, where the rules for scripts are strictest."""
    context = browser.new_context(viewport={"width": 800, "height": 600})
    context.set_default_timeout(10_000)

    def open_page(models: dict[str, dict[str, Any]], body: str) -> "Page":
        state = {"version_major": 2, "version_minor": 0, "state": models}
        (tmp_path / "widgets.js").write_text(HOST, "utf-8")
        html = PAGE.format(state=json.dumps(state).replace("</", "<\\/"), body=body)
        (tmp_path / "page.html").write_text(html, "utf-8")
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    context.close()


def model(esm: str, buffers: list[dict[str, Any]] | None = None, **state: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"model_name": "AnyModel", "model_module": "anywidget"}
    return {**entry, "state": {"_esm": esm, **state}, "buffers": buffers or []}


def view(model_id: str) -> str:
    return VIEW.format(id=model_id)


def test_a_figure_far_below_starts_when_it_comes_near(show: Callable[..., "Page"]) -> None:
    page = show({"a": model(TEXT, text="near"), "b": model(TEXT, text="far")}, view("a") + GAP + view("b"))
    near, far = page.locator(".widget-host").all()
    page.wait_for_selector(".widget-host[data-state=shown]")
    assert near.inner_text() == "near"
    assert far.get_attribute("data-state") is None
    page.mouse.wheel(0, 4600)
    page.wait_for_function("document.querySelectorAll('[data-state=shown]').length === 2")
    assert far.inner_text() == "far"


def test_printing_starts_every_figure(show: Callable[..., "Page"]) -> None:
    page = show({"a": model(TEXT, text="far")}, GAP + view("a"))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_selector(".widget-host[data-state=shown]")


def test_two_views_of_one_model_follow_each_other(show: Callable[..., "Page"]) -> None:
    esm = """export default { render({ model, el }) {
      const input = document.createElement("input");
      const update = () => { input.value = model.get("value"); };
      input.addEventListener("input", () => { model.set("value", input.value); model.save_changes(); });
      model.on("change:value", update);
      update();
      el.append(input);
    } };"""
    page = show({"a": model(esm, value="old")}, view("a") * 2)
    page.wait_for_function("document.querySelectorAll('[data-state=shown]').length === 2")
    first, second = page.locator("input").all()
    first.fill("new")
    assert second.input_value() == "new"


def test_listeners_hear_changes_only_and_can_be_taken_off(show: Callable[..., "Page"]) -> None:
    esm = """export default { render({ model }) {
      window.heard = [];
      const listener = (from, value) => heard.push([from === model, value]);
      model.on("change:x", listener);
      model.set("x", 1); model.set("x", 1); model.set("y", 5); model.set("x", 2);
      model.off("change:x", listener);
      model.set("x", 3);
    } };"""
    page = show({"a": model(esm, x=0, y=0)}, view("a"))
    page.wait_for_selector("[data-state=shown]", state="attached")
    assert page.evaluate("heard") == [[True, 1], [True, 2]]


def test_binary_traits_arrive_as_bytes(show: Callable[..., "Page"]) -> None:
    esm = """export default { render({ model, el }) {
      const { buffer } = model.get("data").pixels;
      el.textContent = [...new Uint8Array(buffer)].join(" ");
    } };"""
    data = base64.b64encode(bytes([0, 127, 255])).decode()
    buffers = [{"path": ["data", "pixels"], "encoding": "base64", "data": data}]
    page = show({"a": model(esm, buffers, data={"pixels": None})}, view("a"))
    page.wait_for_selector("[data-state=shown]")
    assert page.locator(".widget-host").inner_text() == "0 127 255"


def test_what_is_loaded_on_demand_comes_whole_in_parts_and_once(
    show: Callable[..., "Page"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From disk, two figures asking at once for the same bytes, of which one trait is a file below book/lib."""
    esm = """export default { async render({ model, el }) {
      const before = typeof model.get("own"), steps = [];
      const [own, file] = await Promise.all([model.get("own")((done, total) => steps.push(`${done}/${total}`)),
        model.get("file")()]);
      el.textContent = [before, model.get("own").bytes, steps, [...new Uint8Array(own.buffer)].join(""),
        new TextDecoder().decode(file)].join(" ");
    } };"""
    monkeypatch.setattr(parcels, "PART", 3)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.txt").write_text("from a file")
    state = {"state": {}}  # type: dict[str, dict[str, Any]]
    for name in "ab":
        own = {"path": ["own"], "encoding": "base64", "data": base64.b64encode(bytes(range(8))).decode()}
        buffers = [own, {"path": ["file"], "encoding": "base64", "data": ""}]
        state["state"][name] = model(esm, buffers, on_demand={"own": "", "file": "a.txt"})
    assert parcels.unload(state, tmp_path / "lib", tmp_path / "parts", "parts")
    assert "data" not in state["state"]["a"]["buffers"][0]
    page = show(state["state"], view("a") + view("b"))
    page.wait_for_function("document.querySelectorAll('[data-state=shown]').length === 2")
    expected = "function 8 0/8,3/8,6/8,8/8 01234567 from a file"
    assert page.locator(".widget-host").all_inner_texts() == [expected] * 2
    assert len(list((tmp_path / "parts").iterdir())) == 3 + 4, "equal bytes are written once"
    assert page.locator("script[src*=parts]").count() == 0, "scripts that have done their work are gone"


def test_only_what_a_figure_names_leaves_the_page(tmp_path: Path) -> None:
    state = {"state": {"a": model(TEXT, [{"path": ["own"], "encoding": "base64", "data": "AA=="}])}}
    before = json.dumps(state)
    assert not parcels.unload(state, tmp_path, tmp_path / "parts", "parts")
    assert json.dumps(state) == before


def test_the_licence_of_a_library_goes_where_its_files_go(tmp_path: Path) -> None:
    (tmp_path / "lib" / "x").mkdir(parents=True)
    for name in ("x.bin", "LICENSE", "ThirdPartyNotices.txt.gz", "other.js"):
        (tmp_path / "lib" / "x" / name).write_text(name)
    buffers = [{"path": ["file"], "encoding": "base64", "data": ""}]
    state = {"state": {"a": model(TEXT, buffers, on_demand={"file": "x/x.bin"})}}
    assert parcels.unload(state, tmp_path / "lib", tmp_path / "parts", "parts")
    assert {path.name for path in (tmp_path / "parts/x").iterdir()} == {"LICENSE", "ThirdPartyNotices.txt.gz"}


def test_a_figure_reaches_the_model_it_refers_to(show: Callable[..., "Page"]) -> None:
    esm = """export default { async render({ model, el }) {
      const source = await model.widget_manager.get_model(model.get("source").slice(10));
      el.textContent = source.get("text");
    } };"""
    models = {"a": model(esm, source="IPY_MODEL_b"), "b": model("", text="shared")}
    page = show(models, view("a"))
    page.wait_for_selector("[data-state=shown]")
    assert page.locator(".widget-host").inner_text() == "shared"


def test_a_module_is_imported_once_and_initialised_once_a_model(show: Callable[..., "Page"]) -> None:
    esm = """window.imports = (window.imports ?? 0) + 1;
    export default () => ({
      initialize({ model }) { model.set("count", model.get("count") + 1); },
      render({ model, el }) { el.textContent = `${imports} ${model.get("count")}`; },
    });"""
    entry = model(esm, count=0, _css="p { color: red }")
    page = show({"a": entry, "b": entry}, view("a") * 2 + view("b"))
    page.wait_for_function("document.querySelectorAll('[data-state=shown]').length === 3")
    assert page.locator(".widget-host").all_inner_texts() == ["1 1"] * 3
    assert page.locator("style").count() == 1


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a": model("export default { render() { throw new Error('no such stage'); } };")}, "no such stage"),
        ({"a": model("this is no JavaScript")}, "SyntaxError|Unexpected"),
        ({"a": {"model_name": "IntSlider", "state": {"value": 3}}}, "not a widget of this book"),
        ({}, "not a widget of this book"),
    ],
    ids=["throws", "does not parse", "core widget", "no state"],
)
def test_a_failing_figure_says_so_and_leaves_the_others_alone(
    show: Callable[..., "Page"], models: dict[str, Any], message: str
) -> None:
    page = show({**models, "ok": model(TEXT, text="fine")}, view("a") + view("ok"))
    alert = page.locator(".widget-host [role=alert]")
    alert.wait_for()
    assert alert.inner_text().startswith("This interactive figure could not be shown: ")
    assert re.search(message, alert.inner_text())
    page.wait_for_selector("[data-state=shown]")
    assert page.locator("[data-state=shown]").inner_text() == "fine"


def test_leaving_the_page_cleans_up(show: Callable[..., "Page"]) -> None:
    esm = "export default { render() { return () => { window.cleaned = true; }; } };"
    page = show({"a": model(esm)}, view("a"))
    page.wait_for_selector("[data-state=shown]", state="attached")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert page.evaluate("window.cleaned") is None, "a page in the back-forward cache comes back alive"
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: false }))")
    assert page.evaluate("window.cleaned") is True
