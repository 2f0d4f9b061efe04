"""The model in the page: PyTorch's numbers, without a network, by pointer, finger and keyboard."""

import base64
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import axe_violations
from safetensors.torch import save_file

from mambaout import create_model
from mambaout.analysis.receptive_field import effective_receptive_field
from mambaout.datasets import fashion_mnist
from mambaout.export import live_model
from mambaout.export.live import Opened
from mambaout.files.data import find
from mambaout.kernels.scan import parallel_scan
from mambaout.models.weights import OWN
from mambaout.widgets import LiveExplorer, live_explorer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_ext import parcels  # noqa: E402

PAGE = """<!doctype html><html lang="en" data-theme="@THEME@"><head><meta charset="utf-8"><title>Live</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: @THEME@; background: light-dark(#fff, #14181e) }} body {{ margin: 0 auto; padding: 8px;
max-width: 800px; font-family: system-ui }}</style>
<script type="application/vnd.jupyter.widget-state+json">{state}</script><script defer src="widgets.js"></script>
</head><body><main><h1>Live</h1>@GAP@{views}</main></body></html>"""
VIEW = '<script type="application/vnd.jupyter.widget-view+json">{{"model_id": "{id}"}}</script>'
# A second widget of the page, through which the tests read and set the state of the first.
PROBE = "export default { async render({ model }) { globalThis.live = await model.widget_manager.get_model('live'); } }"


@pytest.fixture(scope="module")
def images():
    """20 test images, two of each class: uint8 and labels."""
    test = fashion_mnist("test")
    chosen = [i for label in range(10) for i in (test.labels == label).nonzero().flatten()[:2].tolist()]
    return test.images[chosen], test.labels[chosen].tolist(), test.classes


def normalised(images):
    return ((images[:, None].float() / 255) - 0.5) / 0.5


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two small models with their weights, and what the page gets of them."""
    folder, models = tmp_path_factory.mktemp("small"), {}
    for name, mixer in (("MambaOut", "gated_cnn"), ("With the SSM", "mamba")):
        torch.manual_seed(1)
        model = create_model("mambaout_fashion", token_mixer=mixer, d_state=2, depths=(1, 2), dims=(16, 24)).eval()
        for p in model.parameters():
            p.data += 0.1 * torch.randn_like(p)
        save_file(model.state_dict(), folder / "x.safetensors")
        models[name] = (model, live_model(model, folder / "x.safetensors"))
    return models


@pytest.fixture(scope="module")
def books():
    """The book's own models."""
    models = {}
    for name in OWN:
        model = create_model(name, pretrained=True).eval()
        models[name] = (model, live_model(model, find(OWN[name])))
    return models


def figure(models, images):
    pixels, labels, classes = images
    rows = [{"name": name, "text": "A model.", **vars(live)} for name, (_, live) in models.items()]
    return LiveExplorer(pixels.numpy(), labels, classes, rows)


@pytest.fixture
def open_page(browser, tmp_path):
    """`open_page(figure)`: the page from disk with the network blocked, as the book builds it."""
    contexts, troubles = [], []

    def opened(widget, theme="light", width=1280, gap="", script="", spoil=None, **options):
        state, buffers = widget.get_state(), []
        for key in [key for key, value in state.items() if isinstance(value, bytes)]:
            data = base64.b64encode(state.pop(key)).decode()
            buffers.append({"path": [key], "encoding": "base64", "data": data})
        page_state = {"state": {"live": {"state": state, "buffers": buffers},
                                "probe": {"state": {"_esm": PROBE}}}}  # fmt: skip
        assert parcels.unload(page_state, ROOT / parcels.LIBRARIES, tmp_path / "parcels", "parcels")
        if spoil:
            spoil(tmp_path / "parcels", page_state)
        html = PAGE.format(state=json.dumps(page_state).replace("</", "<\\/"),
                           views=VIEW.format(id="live") + VIEW.format(id="probe"))  # fmt: skip
        (tmp_path / "page.html").write_text(html.replace("@THEME@", theme).replace("@GAP@", gap), "utf-8")
        shutil.copy(ROOT / "book" / "site" / "widgets.js", tmp_path)
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.add_init_script(script)
        # fmt: off
        page.on("console", lambda message: message.type in ("error", "warning")
                and not (spoil and "ERR_FILE_NOT_FOUND" in message.text) and troubles.append(message.text))
        # fmt: on
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        return page

    opened.requests = []
    yield opened
    for context in contexts:
        context.close()
    assert not troubles
    assert not [url for url in opened.requests if not url.startswith(("file:", "blob:", "data:"))]


def settle(page, action=lambda: None):
    """Do something, and wait until the page has answered to it."""
    before = page.evaluate("Number(document.querySelector('.mo-live').dataset.answers ?? 0)")
    action()
    page.wait_for_function(f"Number(document.querySelector('.mo-live').dataset.answers) > {before}")


def started(page):
    page.wait_for_selector(".mo-live[data-answers]")
    page.wait_for_function("globalThis.live")
    return page


def state(page, name):
    """A trait: a number, a text or a list; of bytes the list of numbers."""
    return page.evaluate(
        f"""() => {{ const value = live.get('{name}'); if (!(value instanceof DataView)) return value;
        return [...('{name}' === 'field' ? new Float32Array(value.buffer) : new Uint8Array(value.buffer))] }}"""
    )


def sentence(page):
    return page.get_by_role("status").inner_text().replace("\u00a0", " ")


# The page and PyTorch


def test_probabilities_and_fields_of_20_images_are_pytorchs_and_come_in_time(open_page, books, images):
    page = started(open_page(figure(books, images)))
    places = [(0, 0, 0), (0, 7, 5), (1, 3, 3), (1, 6, 1)]
    for name, (model, _) in books.items():
        if state(page, "model") != name:
            settle(page, lambda name=name: page.get_by_label(name, exact=True).check(force=True))
        with torch.no_grad():
            expected = model(normalised(images[0])).softmax(-1)
        times = []
        for n in range(20):
            stage, row, column = places[n % len(places)]
            page.evaluate(f"Object.assign(live.state, {{ stage: {stage}, location: [{row}, {column}] }})")
            values = images[0][n].flatten().tolist()
            show = f"live.set('pixels', new DataView(Uint8Array.from({values}).buffer))"
            settle(page, lambda show=show: page.evaluate(show))
            np.testing.assert_allclose(state(page, "probabilities"), expected[n], atol=1e-4)
            own = normalised(images[0][n : n + 1])
            field = effective_receptive_field(model, own, stage, (row, column), progress=False)
            found = np.reshape(state(page, "field"), (28, 28))
            np.testing.assert_allclose(found, field.map, atol=1e-4 * max(1, field.map.max()))
            times.append(float(sentence(page).removesuffix(" ms").rpartition(" ")[2]))
        notes = page.locator(".mo-live-row .mo-note").all_inner_texts()
        (note,) = [text for text in notes if text.startswith(f"{name}:")]
        assert f"half of it in {field.area(0.5):.0f} pixels; it reads {int((field.map > 0).sum())} of 784" in note
        assert page.locator(".mo-best th").inner_text() == images[2][int(expected[19].argmax())]
        if name == next(iter(books)):
            assert min(times) < 100  # milliseconds; the least, as other programs may run beside this test


def test_memory_does_not_grow_over_300_inferences(open_page, small, images):
    script = """globalThis.memories = [];
    const Memory = WebAssembly.Memory;
    WebAssembly.Memory = function (options) { const one = new Memory(options); memories.push(one); return one; };
    const instantiate = WebAssembly.instantiate;
    WebAssembly.instantiate = async (...all) => { const result = await instantiate(...all);
      const { exports } = result.instance ?? result;
      memories.push(...Object.values(exports).filter((one) => one instanceof Memory));
      return result; };"""
    page = started(open_page(figure(small, images), script=script))
    client = page.context.new_cdp_session(page)
    client.send("HeapProfiler.enable")

    def used():
        client.send("HeapProfiler.collectGarbage")
        heap = client.send("Runtime.getHeapUsage")["usedSize"]
        return page.evaluate("memories.reduce((sum, one) => sum + one.buffer.byteLength, 0)"), heap

    run = """async (count) => { const root = document.querySelector('.mo-live');
      for (let i = 0; i < count; i++) { const before = root.dataset.answers;
        live.set('pixels', new DataView(Uint8Array.from({length: 784}, (_, k) => (k * (i + 7)) % 256).buffer));
        while (root.dataset.answers === before) await new Promise((done) => setTimeout(done)); } }"""
    page.evaluate(run, 20)
    wasm, heap = used()
    assert wasm > 1e6, "the runtime's memory was found"
    page.evaluate(run, 150)  # each an answer and a gradient
    later_wasm, later_heap = used()
    assert later_wasm == wasm
    assert later_heap < heap + 1e6


# Input


def test_drawing_changes_the_answer_as_one_draws(open_page, small, images):
    page = started(open_page(figure(small, images)))
    settle(page, lambda: page.get_by_role("button", name="Clear").click())
    assert not any(state(page, "pixels")) and page.locator(".mo-gallery input:checked").count() == 0
    box = page.locator(".mo-paper").bounding_box()
    empty = sentence(page)
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, steps=8)
    said = "document.querySelector('[role=status]').innerText.replaceAll('\\u00a0', ' ')"
    page.wait_for_function(f"{said} !== {empty!r}")
    settle(page, page.mouse.up)
    drawn = np.reshape(state(page, "pixels"), (28, 28))
    assert (drawn[13:15, 7:21] > 200).all() and not drawn[:10].any() and not drawn[:, :4].any()
    with torch.no_grad():
        expected = small["MambaOut"][0](normalised(torch.tensor(drawn, dtype=torch.uint8)[None])).softmax(-1)[0]
    np.testing.assert_allclose(state(page, "probabilities"), expected, atol=1e-4)
    page.get_by_label("Erase").check(force=True)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    settle(page, page.mouse.up)
    assert np.reshape(state(page, "pixels"), (28, 28))[13:15, 13:15].max() < 60


def test_drawing_and_choosing_with_the_keyboard(open_page, small, images):
    page = started(open_page(figure(small, images)))
    settle(page, lambda: page.get_by_role("button", name="Clear").press("Enter"))
    page.locator(".mo-paper").focus()
    page.keyboard.press("ArrowRight")
    assert not any(state(page, "pixels")), "arrows alone only move the brush"
    settle(page, lambda: page.keyboard.press("Space"))
    settle(page, lambda: page.keyboard.press("Shift+ArrowDown"))
    drawn = np.reshape(state(page, "pixels"), (28, 28))
    assert drawn[14, 15] == drawn[15, 15] == 255 and not drawn[20:].any()
    page.locator(".mo-board").nth(1).focus()
    for key, place in [("ArrowLeft", [3, 2]), ("ArrowUp", [2, 2]), ("ArrowDown", [3, 2]), ("ArrowRight", [3, 3])]:
        settle(page, lambda key=key: page.keyboard.press(key))
        assert state(page, "location") == place
    for _ in range(5):
        settle(page, lambda: page.keyboard.press("ArrowDown"))
    assert state(page, "location") == [6, 3], "the edge holds"
    page.locator(".mo-gallery input").first.focus()
    settle(page, lambda: page.keyboard.press("ArrowRight"))
    assert state(page, "pixels") == images[0][2].flatten().tolist(), "the second column is the second class"


def test_clicking_an_output_and_changing_the_stage(open_page, small, images):
    page = started(open_page(figure(small, images)))
    board = page.locator(".mo-board").nth(1)
    box = board.bounding_box()
    settle(page, lambda: board.click(position={"x": box["width"] * 5.5 / 7, "y": box["height"] * 1.5 / 7}))
    assert state(page, "location") == [1, 5] and "row 2, column 6 of 7" in page.locator(".mo-live").inner_text()
    settle(page, lambda: page.get_by_label("1: 14").check(force=True))
    assert state(page, "location") == [3, 11] and state(page, "stage") == 0
    model = small["MambaOut"][0]
    expected = effective_receptive_field(model, normalised(images[0][:1]), 0, (3, 11), progress=False).map
    np.testing.assert_allclose(np.reshape(state(page, "field"), (28, 28)), expected, atol=1e-4 * max(1, expected.max()))


def test_switches_change_the_answer_and_come_back(open_page, small, images):
    page = started(open_page(figure(small, images)))
    with_all = state(page, "probabilities")
    assert not page.locator(".mo-switch", has_text="SSM").is_visible(), "this model has none"
    settle(page, lambda: page.get_by_label("Block", exact=True).select_option("1"))
    settle(page, lambda: page.get_by_role("switch", name="Gate").uncheck(force=True))
    settle(page, lambda: page.get_by_label("all blocks").check(force=True))
    settle(page, lambda: page.get_by_role("switch", name="Convolution").uncheck(force=True))
    model = small["MambaOut"][0]
    on = torch.ones(3, 2)
    on[1, 0], on[:, 1] = 0, 0
    with torch.no_grad():
        expected = Opened(model)(normalised(images[0][:1]), on)[0][0]
    np.testing.assert_allclose(state(page, "probabilities"), expected, atol=1e-4)
    assert "the gate multiplies by 1, and the convolution hands on" in page.locator(".mo-live").inner_text()
    assert page.locator(".mo-prob b:visible").count() == 10
    settle(page, lambda: page.get_by_label("With the SSM", exact=True).check(force=True))
    settle(page, lambda: page.get_by_role("switch", name="SSM").uncheck(force=True))
    on = torch.cat((on, torch.zeros(3, 1)), 1)
    with torch.no_grad(), parallel_scan():
        expected = Opened(small["With the SSM"][0])(normalised(images[0][:1]), on)[0][0]
    np.testing.assert_allclose(state(page, "probabilities"), expected, atol=1e-4)
    cells = page.locator(".mo-scroll tbody tr").all()
    assert all("ms" in row.inner_text() for row in cells) and len(cells) == 2
    settle(page, lambda: page.get_by_role("button", name="All on").click())
    settle(page, lambda: page.get_by_label("MambaOut", exact=True).check(force=True))
    np.testing.assert_allclose(state(page, "probabilities"), with_all, atol=1e-6)


def test_a_picture_of_ones_own_and_a_file_that_is_none(open_page, small, images, tmp_path):
    from PIL import Image

    page = started(open_page(figure(small, images)))
    drawing = np.full((60, 120), 255, np.uint8)  # dark on white paper, twice as wide as high
    drawing[20:40, 40:80] = 0
    Image.fromarray(drawing).save(tmp_path / "own.png")
    settle(page, lambda: page.locator("input[type=file]").set_input_files(tmp_path / "own.png"))
    seen = np.reshape(state(page, "pixels"), (28, 28))
    assert seen[14, 14] > 200 and seen[:6].max() == 0 == seen[22:].max(), "white paper became black ground"
    (tmp_path / "text.png").write_text("no picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "text.png")
    page.wait_for_function("document.querySelector('[role=status]').innerText.includes('text.png is no picture')")


def test_touch(open_page, small, images):
    page = started(open_page(figure(small, images), width=390, has_touch=True, is_mobile=True))
    settle(page, lambda: page.get_by_role("button", name="Clear").tap())
    settle(page, lambda: page.locator(".mo-paper").tap())
    assert np.reshape(state(page, "pixels"), (28, 28))[13:15, 13:15].min() > 200
    board = page.locator(".mo-board").nth(1)
    settle(page, lambda: board.tap(position={"x": 4, "y": 4}))
    assert state(page, "location") == [0, 0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# Loading


def test_nothing_is_loaded_before_the_figure_is_seen(open_page, small, images):
    page = open_page(figure(small, images), gap='<div style="height: 1500px"></div>')
    page.wait_for_selector(".mo-live", state="attached")
    page.wait_for_timeout(300)
    assert not [url for url in open_page.requests if "/parcels/" in url]
    assert "when you scroll here, 3." in page.locator(".mo-load").inner_text()
    page.mouse.wheel(0, 1500)
    started(page)
    assert len([url for url in open_page.requests if "/parcels/" in url]) > 7
    assert not page.locator(".mo-load").is_visible()


def test_where_data_are_saved_it_waits_for_a_click(open_page, small, images):
    script = "Object.defineProperty(navigator, 'connection', {value: {saveData: true}})"
    page = open_page(figure(small, images), script=script)
    page.get_by_role("button", name="Load the model").wait_for()
    page.wait_for_timeout(200)
    assert page.locator(".mo-live[data-ready]").count() == 0
    page.get_by_role("button", name="Load the model").click()
    started(page)


@pytest.mark.parametrize(
    ("script", "words"),
    [("delete globalThis.WebAssembly", "no WebAssembly"), ("delete globalThis.DecompressionStream", "too old")],
)
def test_a_browser_that_cannot_says_so(open_page, small, images, script, words):
    page = open_page(figure(small, images), script=script)
    alert = page.locator(".mo-load [role=alert]")
    alert.wait_for()
    assert axe_violations(page) == [], "also before anything was computed"
    assert words in alert.inner_text() and "The rest of the book needs none of this" in alert.inner_text()
    assert not page.locator(".mo-load button").is_visible()


def test_a_part_that_is_missing_can_be_asked_for_again(open_page, small, images, tmp_path):
    def hide(folder, _):
        (tmp_path / "kept").mkdir()
        for file in folder.glob("*.js"):
            shutil.move(file, tmp_path / "kept")

    page = open_page(figure(small, images), spoil=hide)
    alert = page.locator(".mo-load [role=alert]")
    alert.wait_for()
    assert "could not be loaded" in alert.inner_text()
    for file in (tmp_path / "kept").iterdir():
        shutil.move(file, tmp_path / "parcels")
    page.get_by_role("button", name="Try again").click()
    started(page)


# Appearance


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_accessible_and_within_the_page(open_page, small, images, width, theme):
    page = started(open_page(figure(small, images), theme=theme, width=width))
    settle(page, lambda: page.get_by_role("switch", name="Gate").uncheck(force=True))
    assert axe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# Python


def test_a_kernel_sends_the_runtime_when_it_is_asked_for(small, images, monkeypatch, tmp_path):
    shown = figure(small, images)
    assert not shown.runtime_wasm and not shown.runtime_js
    shown.wanted = "runtime_wasm"
    assert shown.runtime_wasm[:2] == b"\x1f\x8b" and not shown.runtime_js
    monkeypatch.setattr(live_explorer, "LIBRARIES", tmp_path)
    shown.wanted = "runtime_js"
    assert "comes with a clone of the book's repository" in shown.missing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pictures": np.zeros((2, 28, 28))}, "pictures must be .* of uint8"),
        ({"labels": [0]}, "a label for each of the 20 pictures; got 1"),
        ({"picture": 20}, "picture must be from 0 to 19; got 20"),
        ({"models": []}, "models must be a non-empty list"),
    ],
)
def test_wrong_arguments_are_named(small, images, change, words):
    pixels, labels, classes = images
    rows = [{"name": name, "text": "A model.", **vars(live)} for name, (_, live) in small.items()]
    given = {"pictures": pixels.numpy(), "labels": labels, "classes": classes, "models": rows} | change
    with pytest.raises(ValueError, match=words):
        LiveExplorer(**given)
