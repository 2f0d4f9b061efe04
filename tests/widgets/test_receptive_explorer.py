import base64
import gzip
import math
import re

import numpy as np
import pytest

from mambaout.analysis.receptive_measures import FieldMap
from mambaout.widgets import ReceptiveExplorer
from mambaout.widgets.receptive_explorer import quantise

CELLS = 8  # of the drawn maps; two pixels each


def text(locator):
    return locator.inner_text().replace("\u00a0", " ")


def drawn(receptive, index, location):
    """The map that the page draws, as the library's field with cells for pixels."""
    one = receptive["sets"][index]
    cells = (quantise(one["maps"], 2)[location] / 255.0) ** 2
    row, column = one["centres"][location]
    return FieldMap(cells, ((row - 0.5) / 2, (column - 0.5) / 2))


def index(receptive, model, state, source, stage):
    keys = [(one["model"], one["state"], one["source"], one["stage"]) for one in receptive["sets"]]
    return keys.index((model, state, source, stage))


def table(page):
    lines = page.locator("section table tbody tr").all_inner_texts()
    return {name: values for name, *values in (line.replace("\u00a0", " ").split("\t") for line in lines)}


def enclosed(path):
    """Area inside lines of M x y L x y, by the integral of x over the pieces, whatever their direction."""
    found = re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", path)
    pieces = np.array([[float(number) for number in piece] for piece in found])
    inside = 0
    for y in np.arange(0.01, CELLS, 0.02):  # even and odd crossings of a horizontal line
        cut = pieces[(pieces[:, 1] < y) != (pieces[:, 3] < y)]
        at = np.sort(cut[:, 0] + (y - cut[:, 1]) / (cut[:, 3] - cut[:, 1]) * (cut[:, 2] - cut[:, 0]))
        inside += 0.02 * (at[1::2] - at[::2]).sum()
    return inside


# Python


def test_maps_are_sent_as_roots_in_bytes(receptive):
    figure = ReceptiveExplorer(**receptive)
    sent = np.frombuffer(gzip.decompress(base64.b64decode(figure.maps)), np.uint8)
    sent = sent.reshape(len(receptive["sets"]), 9, CELLS, CELLS)
    for one, cells in zip(receptive["sets"], sent, strict=True):
        pooled = np.asarray(one["maps"]).reshape(9, CELLS, 2, CELLS, 2).mean((2, 4))
        shares = pooled / pooled.max((1, 2), keepdims=True)
        np.testing.assert_allclose(np.sqrt(shares), cells / 255, atol=0.5 / 255 + 1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maps": np.zeros((9, 16, 16))}, "'maps' must not be zero everywhere"),
        ({"maps": -np.ones((9, 16, 16))}, "'maps' must be finite and not negative"),
        ({"maps": np.ones((4, 16, 16))}, "'maps' must be 9 maps of (16, 16) pixels; got (4, 16, 16)"),
        ({"centres": [(0, 0)]}, "'centres' must be 9 x 2 finite numbers"),
        ({"state": "half-trained"}, "'state' must be one of trained, untrained"),
    ],
)
def test_a_wrong_set_is_named(receptive, change, words):
    receptive["sets"][1] |= change
    with pytest.raises(ValueError, match=re.escape("Set 1 (") + ".*" + re.escape(words)):
        ReceptiveExplorer(**receptive)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left": ("Conv", "trained", "3 of 2")}, "There is no set Conv, trained, 3 of 2; the sets are Conv, "),
        ({"location": 9}, "location must be from 0 to 8; got 9"),
        ({"source": "film"}, "Unknown source 'film'"),
        ({"sets": []}, "sets must be a non-empty list"),
        ({"pool": 3}, "must have sides that 3 divides; got 16 x 16"),
    ],
)
def test_a_wrong_choice_is_named(receptive, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        ReceptiveExplorer(**receptive | change)


# Browser


def ready(page):
    page.wait_for_selector("[data-ready]")
    return page


def test_numbers_are_those_of_the_library_for_every_choice(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive)))
    for source, label in (("photo", "this photo"), ("average", "average over images")):
        page.get_by_label(label).check(force=True)
        for model, state, stage in (("Conv", "trained", "2 of 2"), ("Conv", "untrained", "1 of 2"),
                                    ("ViT", "untrained", "all blocks")):  # fmt: skip
            page.get_by_label("Model B", exact=True).nth(1).select_option(model)
            panel = page.locator("section").nth(1)
            panel.get_by_label(state, exact=True).check(force=True)
            panel.get_by_label(stage, exact=True).check(force=True)
            for location in (0, 4, 7):
                page.evaluate(f"models[0].set('location', {location})")
                measures = receptive["sets"][index(receptive, model, state, source, stage)]["measures"][location]
                found = table(page)
                for share in (50, 90, 99):
                    radius = math.sqrt(float(f"{measures[f'area_{share}']:.4g}") / math.pi)
                    assert float(found[f"Radius of {share} %, pixels"][1]) == pytest.approx(radius, abs=0.051)
                assert float(found["Anisotropy"][1]) == pytest.approx(measures["anisotropy"], abs=0.006)
                shown = float(found["Causal asymmetry"][1].replace("−", "-"))
                assert shown == pytest.approx(measures["asymmetry"], abs=0.006)
                place = f"row {location // 3 + 1} of 3, column {location % 3 + 1} of 3, on {label}"
                said = text(page.get_by_role("status"))
                assert place in said and f"B: {model}, {state}, {stage}" in said


@pytest.mark.parametrize("location", [0, 4])
def test_the_contours_hold_the_share_of_the_smoothed_map(show, receptive, location):
    page = ready(show(ReceptiveExplorer(**receptive, location=location)))
    smooth = drawn(receptive, 0, location).smoothed(1.2)
    for share in (50, 90):
        path = page.locator(f"section:first-child .mo-share-{share}").get_attribute("d")
        assert enclosed(path) == pytest.approx(smooth.area(share / 100), rel=0.15, abs=1)


def test_the_profiles_are_the_librarys(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive)))
    middles, values = drawn(receptive, 0, 4).radial_profile()
    values = values / values.max()
    path = page.locator(".mo-curve-a").get_attribute("d")
    points = np.array([[float(n) for n in point] for point in re.findall(r"[ML](\S+) (\S+?)(?=L|$)", path)])
    reach = math.hypot(16, 16) * 0.75
    shown = (2 * middles <= reach) & (values >= 1e-4)
    np.testing.assert_allclose(points[:, 0], 58 + 274 * 2 * middles[shown] / reach, atol=0.1)
    np.testing.assert_allclose(points[:, 1], 8 - 148 * np.log10(values[shown]) / 4, atol=0.1)


def test_the_canvas_is_brightest_where_the_gradient_is_largest(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive)))
    pixels = page.locator("canvas").first.evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    rgba = np.array(pixels).reshape(CELLS, CELLS, 4)
    map_ = drawn(receptive, 0, 4).map
    assert rgba[..., 3].argmax() in np.flatnonzero(rgba[..., 3] == 255)
    bright = rgba[..., :3].sum(-1) * (rgba[..., 3] > 0)
    assert bright.argmax() == map_.argmax()
    assert (rgba[..., 3][map_ == 0] == 0).all()


def test_arrow_keys_walk_and_stop_at_the_border(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive, location=0)))
    page.locator(".mo-board").nth(1).focus()
    for key, expected in [("ArrowLeft", 0), ("ArrowUp", 0), ("ArrowRight", 1), ("ArrowDown", 4), ("End", 8),
                          ("ArrowRight", 8), ("ArrowDown", 8), ("Home", 0)]:  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate("models[0].get('location')") == expected, key


@pytest.mark.parametrize("touch", [False, True])
def test_a_click_or_tap_chooses_the_nearest_output(show, receptive, touch):
    options = {"width": 390, "has_touch": True, "is_mobile": True} if touch else {}
    page = ready(show(ReceptiveExplorer(**receptive), **options))
    board = page.locator(".mo-board").first
    box = board.bounding_box()
    spot = {"x": 0.95 * box["width"], "y": 0.5 * box["height"]}
    board.tap(position=spot) if touch else board.click(position=spot)
    assert page.evaluate("models[0].get('location')") == 5


def test_another_model_keeps_the_state_and_takes_a_stage_that_it_has(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive, left=("Conv", "untrained", "2 of 2"))))
    page.locator("select").first.select_option("ViT")
    assert page.evaluate("models[0].get('left')") == {"model": "ViT", "state": "untrained", "stage": "all blocks"}
    page.locator("select").first.select_option("Conv")
    assert page.evaluate("models[0].get('left')") == {"model": "Conv", "state": "untrained", "stage": "1 of 2"}


def test_the_table_holds_this_place_in_every_model(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive)))
    page.locator("summary").click()
    lines = page.locator("details tbody tr").all_inner_texts()
    assert len(lines) == sum(one["source"] == "photo" for one in receptive["sets"])
    assert page.locator("tr.mo-near").count() == 2
    first = receptive["sets"][0]
    radius = math.sqrt(first["measures"][4]["area_50"] / math.pi)
    assert lines[0].split("\t")[:4] == ["Conv", first["state"], "1 of 2", f"{radius:.1f}"]


def test_cleans_up(show, receptive):
    page = ready(show(ReceptiveExplorer(**receptive)))
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
