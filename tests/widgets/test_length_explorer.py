import itertools
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from mambaout import widgets
from mambaout.analysis import complexity
from mambaout.widgets import LengthExplorer

FORMULAS = Path(widgets.__file__).with_name("complexity.js").read_text("utf-8")


@pytest.fixture
def figure(lengths):
    return lambda **choice: LengthExplorer(**lengths, **choice)


def printed(ratio):
    """As the figure prints r_L: halves are rounded up."""
    return str(Decimal(ratio).quantize(Decimal("0.001" if ratio < 0.1 else "0.01"), ROUND_HALF_UP))


def tiles(page):
    return page.locator(".mo-totals dd b").all_inner_texts()


def verdict(page):
    return page.get_by_role("status").inner_text().replace("\u00a0", " ")


def table(page, caption):
    found = page.locator("table", has=page.locator("caption", has_text=caption))
    rows = found.locator("tbody tr").evaluate_all("all => all.map(one => one.textContent ? [...one.cells] "
                                                  ".map(cell => cell.textContent) : [])")  # fmt: skip
    return {row[0]: [cell.replace("\u00a0", " ") for cell in row[1:]] for row in rows}


def choose(page, label):
    page.get_by_label("Input").select_option(label=label)


# Python


def test_first_choice(figure):
    one = figure(choice="ADE20K", model="ViT-B", causal=True)
    assert (one.kind, one.height, one.width, one.patch) == ("image", 512, 2048, 16)
    assert (one.dim, one.depth, one.causal) == (768, 12, True)
    text = figure(choice="Text, 8K tokens")
    assert (text.kind, text.length, text.dim) == ("text", 8192, 192)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "Input 1 (COCO): 'height' must be an integer of at least 1 and at most 4096; got 0"),
        ({"patch": 15}, "Input 1 (COCO): 'patch' must be one of 4, 8, 14, 16, 32; got 15"),
        ({"length": "many"}, "Input 1 (COCO): 'length' must be an integer of at least 1"),
        ({"label": "ImageNet"}, "'label' must be unique; 'ImageNet' comes twice"),
    ],
)
def test_a_wrong_input_names_itself_and_the_key(lengths, change, words):
    lengths["inputs"][1].update(change)
    with pytest.raises(ValueError, match=re.escape(words)):
        LengthExplorer(**lengths)


def test_wrong_widths_parameters_and_choices(lengths, figure):
    with pytest.raises(ValueError, match="Unknown input 'COCOS'; did you mean one of COCO"):
        figure(choice="COCOS")
    with pytest.raises(ValueError, match="Unknown model 'ViT-L'; did you mean"):
        figure(model="ViT-L")
    lengths["widths"][0]["dim"] = 0
    with pytest.raises(ValueError, match=r"Width 0 \(ViT-Ti\): 'dim' must be an integer"):
        LengthExplorer(**lengths)
    lengths["widths"][0]["dim"] = 192
    del lengths["parameters"]["d_state"]
    with pytest.raises(ValueError, match="The figure's 'parameters' lacks the key 'd_state'"):
        LengthExplorer(**lengths)


# The formulas


def test_the_figures_formulas_are_pythons_over_a_grid(browser):
    """Every number of the figure follows from these."""
    page = browser.new_page()
    grid = list(itertools.product((1, 7, 196, 4000, 32_400, 131_072), (1, 48, 97, 192, 384, 768, 4096), (False, True)))
    script = "([source, grid, p]) => new Function('grid', 'p', source + `;" \
        "return grid.map(([length, dim, causal]) => " \
        "[blockFlops(length, dim, p, causal), lengthThreshold(dim, p, causal)]);`)(grid, p)"  # fmt: skip
    found = page.evaluate(script, [FORMULAS, grid, complexity.PARAMETERS])
    page.close()
    assert len(found) == len(grid) == 84
    for (length, dim, causal), (blocks, threshold) in zip(grid, found, strict=True):
        transformer = complexity.transformer_block(length, dim, causal=causal)
        gated, ssm = complexity.gated_cnn_block(length, dim), complexity.ssm(length, dim)
        assert blocks == {
            "transformer_block": {
                "linear": sum(transformer.linear.values()),
                "quadratic": sum(transformer.quadratic.values()),
            },
            "mamba_block": {"gated_cnn": gated.total, "ssm": ssm.total},
            "gated_cnn_block": {"gated_cnn": gated.total},
        }
        assert gated.total + ssm.total == complexity.mamba_block(length, dim).total
        assert threshold == complexity.threshold(dim, causal=causal)


def test_tokens_of_an_image_are_pythons(browser):
    page = browser.new_page()
    sizes = list(itertools.product((1, 16, 17, 224, 800, 4096), (15, 224, 1280), (4, 14, 16, 32)))
    script = "([source, sizes]) => new Function('sizes', source + " \
        "'; return sizes.map((size) => imageTokens(...size));')(sizes)"  # fmt: skip
    assert page.evaluate(script, [FORMULAS, sizes]) == [complexity.tokens(*size) for size in sizes]
    page.close()


# Browser


@pytest.mark.parametrize("causal", [False, True])
def test_every_input_at_every_width(show, figure, causal):
    page = show(figure(causal=causal))
    for place, width in itertools.product(complexity.INPUTS, complexity.WIDTHS):
        choose(page, place["label"])
        page.get_by_label(width["label"], exact=True).check(force=True)
        length = place.get("length") or complexity.tokens(place["height"], place["width"], place["patch"])
        ratio = complexity.ratio(length, width["dim"], causal=causal)
        share = complexity.transformer_block(length, width["dim"], causal=causal).quadratic_share
        assert tiles(page) == [f"{length:,}", printed(ratio), f"{100 * share:.1f}\u00a0%"]
        word = "Long" if ratio > 1 else "Not long"
        assert verdict(page).startswith(f"{word} for {width['label']}: {length:,} tokens")
        assert f"{12 if causal else 6}D = {int(complexity.threshold(width['dim'], causal=causal)):,}" in verdict(page)


def test_the_papers_fine_print(show, figure):
    """4K tokens lie above ViT-S's threshold and just under ViT-B's."""
    page = show(figure(choice="COCO", model="ViT-S"))
    assert "more than 6D = 2,304" in verdict(page)
    assert "The verdict depends on the width" in verdict(page)
    assert "not long for ViT-B (0.87, just under)" in verdict(page)
    page.get_by_label("ViT-B", exact=True).check(force=True)
    assert "just fewer than 6D = 4,608" in verdict(page)
    choose(page, "ImageNet")
    assert "The other widths agree" in verdict(page)


def test_costs_are_those_of_all_blocks(show, figure):
    page = show(figure(choice="COCO", model="ViT-S"))
    page.get_by_label("Blocks", exact=True).fill("3")
    rows = table(page, "One forward pass through 3 blocks")
    gated = complexity.gated_cnn_block(4000, 384).total
    for name, flops in (
        ("Transformer block", complexity.transformer_block(4000, 384)),
        ("Mamba block", complexity.mamba_block(4000, 384)),
        ("Gated CNN block", complexity.gated_cnn_block(4000, 384)),
    ):
        assert rows[name][0] == f"{3 * flops.total / 1e9:.1f} G"
        assert rows[name][2] == f"{flops.total / gated:.2f} ×"
    assert rows["Transformer block"][1] == "63.5 % L²"


def test_data_tables_hold_every_ratio(show, figure):
    page = show(figure())
    page.locator("summary").click()
    for place in complexity.INPUTS:
        length = place.get("length") or complexity.tokens(place["height"], place["width"], place["patch"])
        ratios = [complexity.ratio(length, width["dim"]) for width in complexity.WIDTHS]
        assert table(page, "of every input")[place["label"]] == [f"{length:,}", *map(printed, ratios)]
    assert [row[-1] for row in table(page, "tokens at every width").values()] == ["not long"] * 3


def test_height_and_width_give_way_to_a_length(show, figure):
    page = show(figure())
    assert page.get_by_label("Height (pixels)", exact=True).is_visible()
    assert page.get_by_label("Length (tokens)", exact=True).count() == 0
    choose(page, "Text, 8K tokens")
    assert page.get_by_label("Height (pixels)", exact=True).count() == 0
    page.get_by_label("Length (tokens)", exact=True).fill("1152")
    assert tiles(page)[:2] == ["1,152", "1.00"]
    assert "Not long for ViT-Ti: 1,152 tokens, exactly 6D" in verdict(page)
    assert page.get_by_label("Input").input_value() == ""  # no preset any more
    choose(page, "ImageNet")
    assert tiles(page)[0] == "196"


def test_sliders_and_numbers_from_the_keyboard(show, figure):
    page = show(figure())
    slider = page.get_by_role("slider", name="Height (pixels), slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("models[0].get('height')") == 225
    assert slider.get_attribute("aria-valuetext") == "225"
    assert tiles(page)[0] == str(15 * 14)
    box = page.get_by_label("Height (pixels)", exact=True)
    box.fill("9999")  # out of range: the figure waits, and takes the nearest on leaving
    assert page.evaluate("models[0].get('height')") == 225
    page.keyboard.press("Tab")
    assert page.evaluate("models[0].get('height')") == 4096
    box.fill("")
    page.keyboard.press("Tab")
    assert box.input_value() == "4096"
    page.get_by_label("Channels D").fill("100")
    assert verdict(page).startswith("Long for a width of 100")
    assert page.locator(".mo-segments input:checked").count() == 1  # no model, only the mode of attention


def test_the_plot_marks_threshold_inputs_and_place(show, figure):
    page = show(figure(choice="COCO", model="ViT-S"))
    plot = page.locator(".mo-length-plot")
    assert plot.locator(".mo-tau text").text_content() == "6D = 2,304"
    assert plot.locator(".mo-mark text").all_text_contents() == [
        "ImageNet",
        "COCO, ADE20K",
        "Text, 8K tokens",
        "4K photo",
    ]
    here = plot.locator(".mo-spot").evaluate_all("all => all.map(one => one.getAttribute('cx'))")
    assert len(set(here)) == 1 and len(here) == 3
    # The two parts of the Transformer block cross where the threshold stands.
    lines = {
        part: json.loads(f"[[{points.replace(' ', '],[')}]]")
        for part in ("linear", "quadratic")
        for points in [plot.locator(f"[data-part={part}]").get_attribute("points")]
    }
    cross = next(a[0] for a, b in zip(lines["linear"], lines["quadratic"], strict=True) if b[1] <= a[1])
    tau = float(re.match(r"M([\d.]+)", plot.locator(".mo-tau path").get_attribute("d"))[1])
    step = lines["linear"][1][0] - lines["linear"][0][0]
    assert tau <= cross < tau + step


def test_touch(show, figure):
    page = show(figure(), width=390, has_touch=True, is_mobile=True)
    page.locator(".mo-segments label", has_text="ViT-B").tap()
    page.locator(".mo-segments label", has_text="Causal").tap()
    assert "12D = 9,216" in verdict(page)


def test_follows_the_model_and_cleans_up(show, figure):
    page = show(figure())
    page.evaluate("models[0].set('patch', 4); models[0].set('dim', 384)")
    assert tiles(page)[0] == "3,136"
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
