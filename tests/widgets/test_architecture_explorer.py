import math
import re

import pytest

from mambaout.widgets import ArchitectureExplorer


def macs(layer, resolution):
    if layer["halvings"] is None:
        return layer["macs_per_position"]
    side = math.ceil(resolution / 2 ** layer["halvings"])  # equals halving and rounding up one by one
    return layer["macs_per_position"] * side * side


def totals(page):
    return page.locator(".mo-totals dd b").all_inner_texts()


def choose(page, group, value):
    page.locator(f".{group} input[value='{value}']").check(force=True)


# Python


def test_first_choice(variants):
    figure = ArchitectureExplorer(variants, variant="mambaout_base", resolution=384)
    assert (figure.variant, figure.resolution) == ("mambaout_base", 384)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"depths": [3, 3, 9]},
            "Variant 2 (mambaout_tiny): 'depths' must be a list of 4 values; got [3, 3, 9]",
        ),
        ({"dims": "96"}, "Variant 2 (mambaout_tiny): 'dims' must be a list of 4 values; got '96'"),
        ({"depths": [3, 3, 8, 3]}, "must hold the blocks 0 to 7 of stage 2, as 'depths' says"),
        (
            {"paper": {"params_M": 26.5, "macs_G": 4.5}},
            "Variant (mambaout_tiny), 'paper' lacks the key 'top1'",
        ),
        ({"name": "mambaout_femto"}, "'name' must be unique; 'mambaout_femto' comes twice"),
    ],
)
def test_a_wrong_value_names_the_variant_and_the_key(variants, change, words):
    variants[2] |= change
    with pytest.raises(ValueError, match=re.escape(words)):
        ArchitectureExplorer(variants)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"params": -1},
            "Variant (mambaout_femto), layer 4: 'params' must be an integer of at least 0; got -1",
        ),
        ({"halvings": "2"}, "layer 4: 'halvings' must be an integer of at least 0 or None; got '2'"),
        ({"group": "neck"}, "layer 4: 'group' must be one of stem, downsample, block, head; got 'neck'"),
        ({"stage": None}, "layer 4: 'stage' must be an integer in a block; got None"),
        ({"block": None}, "layer 4: 'block' must be an integer in a block; got None"),
    ],
)
def test_a_wrong_layer_is_named(variants, change, words):
    variants[0]["layers"][4] |= change
    with pytest.raises(ValueError, match=re.escape(words)):
        ArchitectureExplorer(variants)


@pytest.mark.parametrize("resolution", [31, 1025, 224.5, "224"])
def test_resolution_is_bounded(variants, resolution):
    with pytest.raises(ValueError, match="'resolution' must be an integer of at least 32 and at most 1024"):
        ArchitectureExplorer(variants, resolution=resolution)


def test_an_unknown_variant_lists_the_near_ones(variants):
    with pytest.raises(ValueError, match=r"Unknown variant 'mambaout_tny'.*mambaout_tiny"):
        ArchitectureExplorer(variants, variant="mambaout_tny")


# Browser


def test_totals_are_sums_over_the_layers(show, variants):
    page = show(ArchitectureExplorer(variants))
    for variant in variants:
        choose(page, "mo-segments", variant["name"])
        for resolution in (32, 224, 225, 257, 1024):
            page.get_by_role("spinbutton").fill(str(resolution))
            params = sum(layer["params"] for layer in variant["layers"]) / 1e6
            cost = sum(macs(layer, resolution) for layer in variant["layers"]) / 1e9
            assert totals(page)[:2] == [f"{params:.1f}", f"{cost:.{2 if cost < 0.95 else 1}f}"]


def test_equal_to_the_printed_digits_at_224(show, variants):
    page = show(ArchitectureExplorer(variants))
    for variant in variants:
        choose(page, "mo-segments", variant["name"])
        paper = variant["paper"]
        assert totals(page) == [f"{paper[key]:.1f}" for key in ("params_M", "macs_G", "top1")]
        assert page.locator(".mo-totals").inner_text().count("(equal)") == 2


def test_a_difference_is_told(show, variants):
    variants[0]["paper"]["params_M"] = 8.0
    variants[0]["paper"]["top1"] = None
    page = show(ArchitectureExplorer(variants, resolution=256))
    words = page.locator(".mo-totals").inner_text()
    assert "8.0\u00a0M (differs)" in words
    assert "Published at 224\u00a0×\u00a0224: 1.2\u00a0G" in words
    assert "(equal)" not in words
    assert "Not published" in words


def test_resolution_by_slider_and_number(show, variants):
    page = show(ArchitectureExplorer(variants))
    slider, box = page.get_by_role("slider", name="Image height and width"), page.get_by_role("spinbutton")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("models[0].get('resolution')") == 256
    assert box.input_value() == "256"
    assert slider.get_attribute("aria-valuetext") == "256 by 256 pixels"
    box.fill("225")
    assert page.evaluate("models[0].get('resolution')") == 225
    assert "57\u00a0×\u00a057" in page.locator(".mo-stage").nth(1).inner_text()
    box.fill("7")  # out of range: the figure waits, and takes the nearest on leaving
    assert page.evaluate("models[0].get('resolution')") == 225
    page.keyboard.press("Tab")
    assert page.evaluate("models[0].get('resolution')") == 32
    box.fill("")
    page.keyboard.press("Tab")
    assert box.input_value() == "32"


def test_stages_show_size_channels_and_blocks(show, variants):
    page = show(ArchitectureExplorer(variants, variant="mambaout_small"))
    for stage, (depth, dim) in enumerate(zip((3, 4, 27, 3), (96, 192, 384, 576), strict=True)):
        size = 56 >> stage
        assert page.locator(".mo-stage").nth(stage + 1).inner_text().split("\n") == [
            f"Stage {stage + 1}",
            f"{size}\u00a0×\u00a0{size}",
            f"{dim} channels",
            f"{depth} blocks",
        ]


def test_layers_of_a_block(show, variants):
    page = show(ArchitectureExplorer(variants, variant="mambaout_tiny", resolution=224))
    layers = variants[2]["layers"]
    for part, block, group in [
        (3, "8", "block"),
        (3, "down", "downsample"),
        (0, None, "stem"),
        (5, None, "head"),
    ]:
        choose(page, "mo-stages", part)
        if block:
            choose(page, "mo-blocks", block)
        own = [layer for layer in layers if layer["group"] == group and (not block or layer["stage"] == part - 1)]
        if group == "block":
            own = [layer for layer in own if layer["block"] == int(block)]
        cells = page.locator(".mo-layers tbody tr").evaluate_all("rows => rows.map(row => row.innerText.split('\\t'))")
        assert [cell[0].split()[0] for cell in cells] == [layer["layer"] for layer in own]
        assert [int(cell[2].replace(",", "")) for cell in cells] == [layer["params"] for layer in own]
        total = sum(layer["params"] for layer in own)
        assert page.locator(".mo-layers tfoot td").nth(1).inner_text() == f"{total:,}"
    choose(page, "mo-stages", 4)
    fc1 = page.locator(".mo-layers tbody tr", has_text="fc1").inner_text().split("\t")
    assert fc1[1:] == ["7\u00a0×\u00a07 ×\u00a03072", "1,772,544", "86.7\u00a0M"]


def test_share_of_a_stage(show, variants):
    page = show(ArchitectureExplorer(variants, variant="mambaout_tiny"))
    choose(page, "mo-stages", 3)
    layers = variants[2]["layers"]
    own = [layer for layer in layers if layer["group"] in ("block", "downsample") and layer["stage"] == 2]
    params = 100 * sum(layer["params"] for layer in own) / sum(layer["params"] for layer in layers)
    cost = 100 * sum(macs(layer, 224) for layer in own) / sum(macs(layer, 224) for layer in layers)
    sentence = page.get_by_role("status").inner_text()
    assert f"{params:.1f}\u00a0% of the parameters and {cost:.1f}\u00a0% of the MACs" in sentence


def test_keyboard_walks_from_variant_to_block(show, variants):
    page = show(ArchitectureExplorer(variants))
    page.locator(".mo-segments input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("models[0].get('variant')") == "mambaout_kobe"
    for _ in range(3):  # slider, number, parts
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert "stage 2" in page.get_by_role("status").inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator(".mo-layers caption").inner_text() == "Stage 2, block 2"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".mo-layers caption").inner_text() == "Stage 2, downsample"


def test_touch(show, variants):
    page = show(ArchitectureExplorer(variants), width=390, has_touch=True, is_mobile=True)
    page.locator(".mo-segments label", has_text="Base").tap()
    page.locator(".mo-stages label", has_text="Stage 4").tap()
    page.locator(".mo-blocks label", has_text="3").tap()
    assert page.locator(".mo-layers caption").inner_text() == "Stage 4, block 3"


def test_follows_the_model_and_cleans_up(show, variants):
    page = show(ArchitectureExplorer(variants))
    page.evaluate("models[0].set('variant', 'mambaout_base'); models[0].set('resolution', 32)")
    assert totals(page)[0] == "84.8"
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
