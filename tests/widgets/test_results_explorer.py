import math
import re
from itertools import pairwise

import pandas as pd
import pytest

from mambaout.widgets import ResultsExplorer

COSTS = {"macs_G": ("MACs", "MACs"), "params_M": ("Parameters", "parameters")}


def beaten(rows, name, x):
    """The names that beat `name`, tie with it and are beaten by it, by pandas."""
    table = pd.DataFrame(rows).dropna(subset=[x])
    row = table.set_index("model").loc[name]
    others = table[table.model != name]
    better = others[(others[x] <= row[x]) & (others.top1_224 >= row.top1_224)]
    worse = others[(others[x] >= row[x]) & (others.top1_224 <= row.top1_224)]
    ties = set(better.model) & set(worse.model)
    return set(better.model) - ties, ties, set(worse.model) - ties


def listed(page, kind):
    items = page.locator(f"section[data-list={kind}] li")
    return {items.nth(i).get_attribute("data-model") for i in range(items.count())}


def point(page, name):
    return page.locator(f".mo-point[data-model='{name}']")


def centre(page, name):
    box = point(page, name).locator("path").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


# Python


def test_keeps_the_rows_and_only_the_keys_it_shows(rows):
    figure = ResultsExplorer([row | {"source": "elsewhere"} for row in rows])
    assert len(figure.rows) == 82
    assert set(figure.rows[0]) == {
        "model",
        "size_group",
        "token_mixing",
        "params_M",
        "macs_G",
        "top1_224",
        "note",
    }


def test_missing_values_of_pandas_are_missing(rows):
    figure = ResultsExplorer(pd.DataFrame(rows).to_dict("records"))
    assert [row["model"] for row in figure.rows if row["macs_G"] is None] == ["Mamba-2D-S", "Mamba-2D-B"]
    assert all(isinstance(row["note"], str) for row in figure.rows)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("params_M", "27", "'params_M' must be a positive number; got '27'"),
        ("params_M", math.nan, "'params_M' must be a positive number; got nan"),
        ("macs_G", -1.0, "'macs_G' must be a positive number or None; got -1.0"),
        ("top1_224", True, "'top1_224' must be a positive number; got True"),
        (
            "token_mixing",
            "RNN",
            "'token_mixing' must be one of Conv, Attn, Conv+Attn, Conv+SSM, Pool; got 'RNN'",
        ),
        ("note", 3, "'note' must be a string or None; got 3"),
        ("model", "DeiT-S", "'model' must be unique; 'DeiT-S' comes twice"),
    ],
)
def test_a_wrong_value_names_the_row_and_the_key(rows, key, value, words):
    rows[40][key] = value
    with pytest.raises(ValueError, match=r"^Row 40.*" + re.escape(words)):
        ResultsExplorer(rows)


def test_a_missing_key_names_the_row_and_the_key(rows):
    del rows[3]["top1_224"]
    with pytest.raises(ValueError, match=r"Row 3 \(InceptionNeXt-A\) lacks the key 'top1_224'"):
        ResultsExplorer(rows)


@pytest.mark.parametrize("rows", [None, [], "rows", {"model": 1}])
def test_rows_must_be_a_list(rows):
    with pytest.raises(ValueError, match="rows must be a non-empty list of dicts"):
        ResultsExplorer(rows)


def test_unknown_names_list_the_near_ones(rows):
    with pytest.raises(ValueError, match=r"Unknown model 'MambaOut-Tinny'.*MambaOut-Tiny"):
        ResultsExplorer(rows, selected="MambaOut-Tinny")
    with pytest.raises(ValueError, match=r"Unknown model 'Mambaout-Base'.*MambaOut-Base"):
        ResultsExplorer(rows, highlight=["Mambaout-Base"])
    with pytest.raises(ValueError, match=r"Unknown cost 'flops'.*macs_G"):
        ResultsExplorer(rows, x="flops")


# Browser


@pytest.mark.parametrize("x", COSTS)
def test_who_beats_whom_is_what_pandas_finds(show, rows, x):
    page = show(ResultsExplorer(rows, x=x))
    names = [row["model"] for row in rows if row[x] is not None]
    said = page.evaluate(
        """names => names.map(name => {
            const control = document.querySelectorAll("select")[1];
            control.value = name;
            control.dispatchEvent(new Event("change"));
            const items = kind => [...document.querySelectorAll(`[data-list=${kind}] li`)];
            const lists = ["better", "ties", "worse"].map(kind => items(kind).map(item => item.dataset.model));
            return [document.querySelector("[role=status]").innerText, ...lists];
        })""",
        names,
    )
    for name, (sentence, *lists) in zip(names, said, strict=True):
        better, ties, worse = beaten(rows, name, x)
        assert [set(one) for one in lists] == [better, ties, worse]
        assert sentence.startswith(name)
        assert re.findall(r"(\d+) models?\b", sentence)[1:] == [str(len(better)), str(len(worse))]
        assert all(tie in sentence for tie in ties)


def test_there_are_ties_to_name(rows):
    assert beaten(rows, "CSWin-S", "params_M")[1] == {"MViTv2-S"}


def test_every_row_is_shown_or_named(show, rows):
    page = show(ResultsExplorer(rows))
    assert page.locator(".mo-point").count() == 80
    assert page.get_by_text("Not shown, no MACs published: Mamba-2D-S, Mamba-2D-B.").is_visible()
    page.get_by_label("Parameters", exact=True).check(force=True)
    assert page.locator(".mo-point").count() == 82
    assert page.get_by_text("Not shown").count() == 0
    page.get_by_label("Compare").select_option("Mamba-2D-S")
    page.get_by_label("MACs", exact=True).check(force=True)
    assert "Mamba-2D-S has no published MACs" in page.get_by_role("status").inner_text()
    assert page.locator("section[data-list]").count() == 0


def test_filters_limit_points_comparison_and_table(show, rows):
    page = show(ResultsExplorer(rows, selected="MambaOut-Small"))
    for name in ("Conv", "Attn", "Conv+Attn", "Pool"):
        page.get_by_label(name, exact=True).uncheck(force=True)
    ssm = [row for row in rows if row["token_mixing"] == "Conv+SSM"]
    reference = next(row for row in rows if row["model"] == "MambaOut-Small")
    better, _, worse = beaten([*ssm, reference], "MambaOut-Small", "macs_G")
    assert (listed(page, "better"), listed(page, "worse")) == (better, worse)
    assert point(page, "MambaOut-Small").count() == 1  # the reference stays in view
    assert page.locator(".mo-point").count() == 1 + sum(row["macs_G"] is not None for row in ssm)
    page.get_by_label("Model size").select_option("small")
    small = [row for row in ssm if row["size_group"] == "small"]
    assert page.locator(".mo-point").count() == 1 + len(small)
    page.get_by_text(f"Data table ({len(small)} of 82").click()
    assert page.locator("tbody tr").count() == len(small)
    page.get_by_label("Compare").select_option("")
    page.get_by_label("Conv+SSM").uncheck(force=True)
    assert page.locator("svg", has_text="No model passes the filters.").is_visible()


def test_the_table_repeats_the_rows(show, rows):
    page = show(ResultsExplorer(rows))
    page.get_by_text("Data table").click()
    cells = page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [cell[0] for cell in cells] == [row["model"] for row in rows]
    assert [float(cell[3]) for cell in cells] == [row["params_M"] for row in rows]
    assert [None if cell[4] == "–" else float(cell[4]) for cell in cells] == [row["macs_G"] for row in rows]
    assert [float(cell[5]) for cell in cells] == [row["top1_224"] for row in rows]


def test_points_lie_where_their_numbers_say(show, rows):
    page = show(ResultsExplorer(rows))
    shown = [row for row in rows if row["macs_G"]]
    where = {row["model"]: centre(page, row["model"]) for row in shown}
    across = sorted(shown, key=lambda row: row["macs_G"])
    for a, b in pairwise(across):
        assert where[a["model"]][0] <= where[b["model"]][0] + 1.5
    low, middle, high = (where[name] for name in ("MambaOut-Femto", "MambaOut-Tiny", "MambaOut-Small"))
    ratio = (middle[0] - low[0]) / (high[0] - low[0])
    assert ratio == pytest.approx(math.log(4.5 / 1.2) / math.log(9.0 / 1.2), abs=0.01)
    assert (low[1] - middle[1]) / (low[1] - high[1]) == pytest.approx((82.7 - 78.9) / (84.1 - 78.9), abs=0.01)


def test_hover_shows_the_row_and_a_click_chooses_it(show, rows):
    page = show(ResultsExplorer(rows, selected=None))
    assert "Choose one" in page.get_by_role("status").inner_text()
    page.mouse.move(*centre(page, "DeiT-S"))
    tip = page.locator(".mo-tip")
    for words in ("DeiT-S", "Attn", "22 M", "4.6 G", "79.8 %", "official repo README: 79.9"):
        assert words in tip.inner_text()
    page.mouse.click(*centre(page, "DeiT-S"))
    assert point(page, "DeiT-S").get_attribute("aria-pressed") == "true"
    assert page.evaluate("models[0].get('selected')") == "DeiT-S"
    assert page.get_by_label("Compare").input_value() == "DeiT-S"
    page.mouse.click(*centre(page, "DeiT-S"))
    assert page.evaluate("models[0].get('selected')") is None
    page.mouse.move(5, 5)
    assert tip.is_hidden()


def test_tap_chooses_the_nearest_point(show, rows):
    page = show(ResultsExplorer(rows, selected=None), width=390, has_touch=True, is_mobile=True)
    x, y = centre(page, "PVTv2-B0")
    page.touchscreen.tap(x + 12, y + 12)
    assert page.evaluate("models[0].get('selected')") == "PVTv2-B0"
    assert "70.5 %" in page.locator(".mo-tip").inner_text()


def test_the_plot_works_from_the_keyboard(show, rows):
    page = show(ResultsExplorer(rows))
    page.get_by_label("Pool", exact=True).focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.dataset.model"
    assert page.evaluate(focused) == "MambaOut-Tiny"
    shown = [row for row in rows if row["macs_G"]]
    order = [row["model"] for row in sorted(shown, key=lambda row: (row["macs_G"], row["top1_224"]))]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == order[order.index("MambaOut-Tiny") + 1]
    page.keyboard.press("Home")
    assert page.evaluate(focused) == order[0]
    assert order[0] in page.locator(".mo-tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".mo-tip").is_hidden()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == order[-1]
    page.keyboard.press("Enter")
    assert page.evaluate("models[0].get('selected')") == order[-1]
    assert page.evaluate(focused) == order[-1]  # focus survives the redrawing
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_follows_the_model_and_cleans_up(show, rows):
    page = show(ResultsExplorer(rows))
    page.evaluate("models[0].set('selected', 'Swin-T'); models[0].set('x', 'params_M')")
    assert page.get_by_role("status").inner_text().startswith("Swin-T (81.3 %, 29 M parameters)")
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
