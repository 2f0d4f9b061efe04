import itertools
import re

import pytest

from mambaout.widgets import BlockDiagram

NAMES = {  # SSM, gate, convolution
    (False, True, True): "Gated CNN block (MambaOut)",
    (True, True, True): "Mamba block",
    (False, True, False): "Gated MLP (no token mixing)",
    (True, True, False): "Mamba block without convolution",
    (False, False, True): "Convolution without gate",
    (True, False, True): "Mamba block without gate",
    (True, False, False): "SSM between two linear layers",
    (False, False, False): "Two linear layers (no token mixing)",
}
MIXERS = {
    (False, True): "TokenMixer(Z) = Conv(Z)(10)",
    (True, True): "TokenMixer(Z) = SSM(σ(Conv(Z)))(11)",
    (True, False): "TokenMixer(Z) = SSM(σ(Z))",
    (False, False): "TokenMixer(Z) = Z",
}


def compact(value):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}\u00a0{unit}"
    return str(value)


def formula(page):
    return [re.sub("Equation | of the paper", "", line) for line in page.locator(".mo-formula p").all_text_contents()]


# Python


def test_first_positions(presets):
    figure = BlockDiagram(presets, preset="MambaOut-Tiny, stage 3", ssm=True)
    assert (figure.preset, figure.ssm, figure.gate, figure.conv) == (
        "MambaOut-Tiny, stage 3",
        True,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"height": 0},
            "Preset 1 (MambaOut-Tiny, stage 2): 'height' must be an integer of at least 1; got 0",
        ),
        (
            {"hidden": 2.5},
            "Preset 1 (MambaOut-Tiny, stage 2): 'hidden' must be an integer of at least 1; got 2.5",
        ),
        ({"conv_channels": 999}, "'conv_channels' must be at most 'hidden' (512); got 999"),
        ({"components": []}, "'components' must be a non-empty list; got []"),
        ({"label": "MambaOut-Tiny, stage 1"}, "'label' must be unique; 'MambaOut-Tiny, stage 1' comes twice"),
    ],
)
def test_a_wrong_value_names_the_preset_and_the_key(presets, change, words):
    presets[1] |= change
    with pytest.raises(ValueError, match=re.escape(words)):
        BlockDiagram(presets)


def test_a_wrong_component_is_named(presets):
    presets[0]["components"][4]["macs"] = 1.5
    with pytest.raises(ValueError, match=r"stage 1\), component 4: 'macs' must be an integer of at least 0; got 1.5"):
        BlockDiagram(presets)
    del presets[0]["components"][4]
    with pytest.raises(ValueError, match="must hold each of norm, fc1_value, fc1_gate, conv, ssm, fc2 once"):
        BlockDiagram(presets)


def test_an_unknown_preset_lists_the_near_ones(presets):
    with pytest.raises(ValueError, match=r"Unknown preset 'MambaOut-Tiny, stage 9'.*stage 1"):
        BlockDiagram(presets, preset="MambaOut-Tiny, stage 9")


# Browser


def test_switches_change_name_formula_and_totals(show, presets):
    page = show(BlockDiagram(presets))
    costs = {part["name"]: part for part in presets[0]["components"]}
    for ssm, gate, conv in itertools.product((False, True), repeat=3):
        for label, position in (("SSM", ssm), ("Gate", gate), ("Convolution", conv)):
            page.get_by_role("switch", name=label).set_checked(position)
        off = {"fc1_gate": not gate, "conv": not conv, "ssm": not ssm}
        used = [part for name, part in costs.items() if not off.get(name)]
        params, macs = sum(part["params"] for part in used), sum(part["macs"] for part in used)
        assert page.locator(".mo-big-head").inner_text() == NAMES[ssm, gate, conv]
        assert page.locator("tfoot").inner_text().split("\t")[1:] == [f"{params:,}", compact(macs)]
        sentence = page.get_by_role("status").inner_text()
        assert sentence.startswith(f"{params:,} parameters, {compact(macs)} MACs.")
        others = sum(part["params"] for part in used if part["name"] != "ssm")
        assert f"{'adds' if ssm else 'would add'} {100 * costs['ssm']['params'] / others:.1f}\u00a0%" in sentence
        for name in costs:
            is_off = bool(off.get(name))
            assert ("mo-off" in page.locator(f"g[data-part={name}]").get_attribute("class")) == is_off
            assert (page.locator(f"tr[data-part={name}] td").first.inner_text() == "–") == is_off
        lines = formula(page)
        assert lines[0] == "X′ = Norm(X)(8)"
        assert lines[1] == ("Y = (TokenMixer(X′W1) ⊙ σ(X′W2)) W3 + X(9)" if gate else "Y = TokenMixer(X′W1) W3 + X")
        assert lines[2] == MIXERS[ssm, conv]


def test_a_preset_sets_shapes_and_costs(show, presets):
    page = show(BlockDiagram(presets))
    page.get_by_label("Block of").select_option("MambaOut-Tiny, stage 4")
    words = page.locator(".mo-drawing text").all_text_contents()
    assert words.count("7\u00a0×\u00a07\u00a0×\u00a01536") == 3  # values, gate, their product
    assert "X: 7\u00a0×\u00a07\u00a0×\u00a0576" in words
    assert "960" in words  # channels that the convolution leaves alone
    params = {part["name"]: part["params"] for part in presets[3]["components"]}
    for name in ("norm", "fc1_value", "fc1_gate", "conv", "fc2"):
        assert page.locator(f"tr[data-part={name}] td").first.inner_text() == f"{params[name]:,}"


def test_shares_of_the_bar_add_up(show, presets):
    page = show(BlockDiagram(presets, ssm=True))
    bar = page.get_by_role("img", name=re.compile("^MACs by part"))
    shares = [float(share) for share in re.findall(r"([\d.]+)\u00a0%", bar.get_attribute("aria-label"))]
    macs = [part["macs"] for part in presets[0]["components"]]
    assert shares == [pytest.approx(100 * value / sum(macs), abs=0.051) for value in macs]


def test_keyboard_switches_and_explains(show, presets):
    page = show(BlockDiagram(presets))
    page.get_by_label("Block of").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("models[0].get('ssm')") is True
    explanation = page.locator(".mo-explain")
    assert "Point at a part" in explanation.inner_text()
    for words in (
        "Gate",
        "Convolution",
        "Normalises",
        "Takes each token",
        "becomes the gate",
        "neighbourhood",
        "Causal",
    ):
        page.keyboard.press("Tab")
        if words not in ("Gate", "Convolution"):
            assert words in explanation.inner_text()
    assert "SSM (Eq. 11)" in explanation.inner_text()
    assert "3,136 tokens" in explanation.inner_text()
    assert "mo-near" in page.locator("tr[data-part=ssm]").get_attribute("class")
    page.keyboard.press("Escape")
    assert "Point at a part" in explanation.inner_text()


def test_touch_switches_and_explains(show, presets):
    page = show(BlockDiagram(presets), width=390, has_touch=True, is_mobile=True)
    page.locator(".mo-switch", has_text="Convolution").tap()
    assert page.evaluate("models[0].get('conv')") is False
    page.locator("g[data-part=fc2]").tap()
    assert "back to 96 channels" in page.locator(".mo-explain").inner_text()


def test_hover_marks_the_row(show, presets):
    page = show(BlockDiagram(presets))
    page.locator("g[data-part=conv]").hover()
    assert "on 96 of the 256 value channels; the other 160 pass" in page.locator(".mo-explain").inner_text()
    assert "mo-near" in page.locator("tr[data-part=conv]").get_attribute("class")


def test_follows_the_model_and_cleans_up(show, presets):
    page = show(BlockDiagram(presets))
    page.evaluate("models[0].set('ssm', true)")
    assert page.get_by_role("switch", name="SSM").is_checked()
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
