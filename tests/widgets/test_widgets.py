"""What holds for every figure: light import, accessibility, themes, small screens, several on a page."""

import re
import subprocess
import sys

import pytest
from browser import axe_violations

from mambaout import widgets

NAMES = {
    "ResultsExplorer": "rows",
    "BlockDiagram": "presets",
    "ArchitectureExplorer": "variants",
    "LengthExplorer": "lengths",
    "MemoryStepper": "memories",
    "MixingExplorer": "mixing",
    "ReceptiveExplorer": "receptive",
    "RecipeExplorer": "training_recipes",
}


@pytest.fixture
def figure(request):
    def build(name):
        data = request.getfixturevalue(NAMES[name])
        return getattr(widgets, name)(**data) if isinstance(data, dict) else getattr(widgets, name)(data)

    return build


def test_importing_the_package_leaves_anywidget_alone():
    code = "import sys, mambaout.widgets; sys.exit('anywidget' in sys.modules or 'IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # The live explorer brings a runtime along and has its own tests.
    assert sorted(dir(widgets)) == sorted([*NAMES, "LiveExplorer"])
    with pytest.raises(AttributeError, match="has no attribute 'Explorer'; it has ArchitectureExplorer"):
        _ = widgets.Explorer


@pytest.mark.parametrize("name", NAMES)
def test_modules_stand_alone_and_stay_small(figure, name):
    state = figure(name).get_state()
    assert not re.search(r"^\s*import\b|\bimport\(", state["_esm"], re.MULTILINE)
    assert len(state["_esm"]) + len(state["_css"]) < 40_000  # they repeat in every page that shows a figure


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_accessible(show, figure, name, width, theme):
    page = show(figure(name), width=width, theme=theme)
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert axe_violations(page) == []


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("name", NAMES)
def test_fits_a_phone(show, figure, name, width):
    page = show(figure(name), width=width, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inner = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.className)"
    assert page.locator(".mo, .mo-columns > *, .mo-layers").evaluate_all(inner) == []
    floating = "all => all.filter(one => getComputedStyle(one).float !== 'none' || one.offsetLeft > 60).length"
    assert page.locator(".mo legend, .mo dl div:first-child dd").evaluate_all(floating) == 0
    controls = page.locator("select, .mo-switch, input[type=range], input[type=number], summary, label:has(input)")
    sizes = controls.evaluate_all("all => all.map(one => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])")
    assert len(sizes) >= 4
    assert [html for html, box in sizes if box["height"] < 40 or box["width"] < 40] == []


THEMES = [  # what the host sets, where; what the system prefers; is the figure dark?
    ("data-theme", "dark", "documentElement", "light", True),
    ("data-theme", "light", "documentElement", "dark", False),
    ("data-jp-theme-light", "false", "body", "light", True),
    ("data-jp-theme-light", "true", "body", "dark", False),
    (None, None, None, "dark", True),
    (None, None, None, "light", False),
]


@pytest.mark.parametrize("name", NAMES)
def test_follows_the_theme(show, figure, name):
    page = show(figure(name))
    page.evaluate("delete document.documentElement.dataset.theme")
    colour = "one => getComputedStyle(one).backgroundColor.match(/[\\d.]+/g).map(Number)"
    for attribute, value, element, system, dark in THEMES:
        page.emulate_media(color_scheme=system)
        if attribute:
            page.evaluate(f"document.{element}.setAttribute('{attribute}', '{value}')")
        assert (max(page.locator(".mo").evaluate(colour)[:3]) < 80) == dark
        if attribute:
            page.evaluate(f"document.{element}.removeAttribute('{attribute}')")


def test_several_on_a_page_do_not_clash(show, figure):
    page = show(*[figure(name) for name in NAMES for _ in range(2)])
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    page.locator(".mo-results").first.get_by_label("Parameters", exact=True).check(force=True)
    assert page.locator(".mo-results").last.get_by_label("MACs", exact=True).is_checked()
    page.locator(".mo-block").first.get_by_role("switch", name="SSM").check()
    assert page.locator(".mo-block .mo-big-head").all_inner_texts() == [
        "Mamba block",
        "Gated CNN block (MambaOut)",
    ]
    page.locator(".mo-architecture .mo-segments").first.get_by_label("Base").check(force=True)
    assert page.locator(".mo-architecture").last.get_by_label("Femto").is_checked()
    assert axe_violations(page) == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_when_less_motion_is_asked(show, figure, name):
    page = show(figure(name), reduced_motion="reduce")
    durations = "all => [...new Set(all.map(one => getComputedStyle(one).transitionDuration))]"
    assert page.locator(".mo *").evaluate_all(durations) == ["0s"]
