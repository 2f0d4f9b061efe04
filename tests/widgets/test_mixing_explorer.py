import base64
import re

import numpy as np
import pytest

from mambaout.widgets import MixingExplorer

H, W = 4, 5
L = H * W


def rectangles(path):
    """The cells (row, column) of a path of runs."""
    found = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path or "")
    assert "".join(f"M{x} {y}h{n}v1h-{m}z" for x, y, n, m in found) == (path or "")
    return {(int(y), int(x) + i) for x, y, n, _ in found for i in range(int(n))}


def dark(page):
    """Raster indices of the tokens that the veil covers."""
    return {row * W + column for row, column in rectangles(page.locator(".mo-veil").get_attribute("d"))}


def sentence(page):
    return page.get_by_role("status").inner_text().replace("\u00a0", " ")


# Python


def test_masks_are_packed_once_each(mixing):
    figure = MixingExplorer(**mixing)
    views = [view for mixer in mixing["mixers"] for view in mixer["views"]]
    sent = [view for mixer in figure.mixers for view in mixer["views"]]
    assert len(views) == len(sent) and len(figure.masks) == len({view["reads"].tobytes() for view in views})
    for view, one in zip(views, sent, strict=True):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(figure.masks[one["mask"]]), np.uint8), count=L * L)
        assert np.array_equal(bits.reshape(L, L).astype(bool), view["reads"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reads": np.ones((L, L))}, "'reads' must be 20 x 20 of bool; got (20, 20) of float64"),
        ({"reads": np.ones((L, 3), bool)}, "'reads' must be 20 x 20 of bool; got (20, 3)"),
        ({"order": [0] * L}, "'order' must hold each token from 0 to 19 once"),
        ({"label": ""}, "'label' must be a non-empty string"),
    ],
)
def test_a_wrong_view_is_named(mixing, change, words):
    mixing["mixers"][1]["views"][2] |= change
    with pytest.raises(ValueError, match=re.escape(f"Mixer (Causal), view 2: {words}")):
        MixingExplorer(**mixing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mixer": "Vom"}, "Unknown mixer 'Vom'; did you mean one of Vim"),
        ({"mixer": "Vim", "view": 3}, "view must be from 0 to 2, as Vim has 3; got 3"),
        ({"token": 20}, "token must be from 0 to 19; got 20"),
        ({"direction": "read"}, "Unknown direction 'read'; did you mean one of reads"),
        ({"photo": np.zeros((4, 4))}, "an image must be (H, W, 3) of uint8"),
    ],
)
def test_a_wrong_choice_is_named(mixing, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        MixingExplorer(**mixing | change)


# Browser


def test_every_view_shows_its_mask_for_any_token_in_both_directions(show, mixing):
    page = show(MixingExplorer(**mixing))
    for mixer in mixing["mixers"]:
        page.get_by_label("Token mixer").select_option(mixer["name"])
        for view in mixer["views"]:
            page.get_by_label(view["label"], exact=True).check(force=True)
            matrix = view["reads"]
            cells = rectangles(page.locator(".mo-cells").get_attribute("d"))
            assert cells == {tuple(pair) for pair in np.argwhere(matrix).tolist()}
            for token in (0, 7, 19):
                page.evaluate(f"models[0].set('token', {token})")
                for words, row in (("what it reads", matrix[token]), ("who reads it", matrix[:, token])):
                    page.get_by_label(words).check(force=True)
                    assert dark(page) == set(np.flatnonzero(~row).tolist())
                assert f"row {token // W + 1}, column {token % W + 1} reads {matrix[token].sum()} of" in sentence(page)
                assert f"read by {matrix[:, token].sum()}. Of all pairs, {100 * matrix.mean():.1f} %" in sentence(page)


def test_the_path_follows_the_route(show, mixing):
    page = show(MixingExplorer(**mixing, mixer="PlainMamba", view=2, token=6))
    order = next(m for m in mixing["mixers"] if m["name"] == "PlainMamba")["views"][2]["order"]
    number = order.index(6) + 1

    def points(kind):
        text = page.locator(kind).get_attribute("points")
        return [tuple(float(part) for part in pair.split(",")) for pair in text.split()]

    places = [(token % W + 0.5, token // W + 0.5) for token in order]
    assert points(".mo-path:not(.mo-ahead)") == places[:number]
    assert points(".mo-path.mo-ahead") == places[number - 1 :]
    assert f"number {number} of 20 on this route" in page.locator(".mo-about").last.inner_text()
    page.get_by_role("switch", name="Path").set_checked(False)
    assert points(".mo-path:not(.mo-ahead)") == [] and page.locator(".mo-start").get_attribute("visibility") == "hidden"
    page.get_by_label("all routes").check(force=True)
    assert "choose a single one" in page.locator(".mo-about").last.inner_text()
    page.get_by_label("Token mixer").select_option("Fully-visible")
    assert "has no order" in page.locator(".mo-about").last.inner_text()


def test_choosing_another_mixer_starts_at_its_first_form(show, mixing):
    page = show(MixingExplorer(**mixing, mixer="VMamba", view=4))
    page.get_by_label("Token mixer").select_option("Mamba's SSM")
    assert page.get_by_label("raster order").is_checked()
    page.evaluate("models[0].set('view', 0); models[0].set('mixer', 'LocalMamba')")
    assert page.get_by_label("Token mixer").input_value() == "LocalMamba"
    assert page.get_by_label("all routes").is_checked()


def test_arrow_keys_walk_over_the_photo_and_along_the_matrix(show, mixing):
    page = show(MixingExplorer(**mixing, token=0))
    token = lambda: page.evaluate("models[0].get('token')")  # noqa: E731
    page.locator(".mo-board").first.focus()
    for key, expected in [("ArrowLeft", 0), ("ArrowUp", 0), ("ArrowRight", 1), ("ArrowDown", 6), ("End", 19),
                          ("ArrowRight", 19), ("ArrowDown", 19), ("ArrowUp", 14), ("Home", 0)]:  # fmt: skip
        page.keyboard.press(key)
        assert token() == expected, key
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "mo-board mo-matrix"
    for key, expected in [("ArrowUp", 0), ("ArrowDown", 1), ("ArrowRight", 2), ("End", 19), ("ArrowDown", 19)]:
        page.keyboard.press(key)
        assert token() == expected, key
    assert "row 4, column 5" in sentence(page)


def test_the_mouse_previews_and_a_click_chooses(show, mixing):
    page = show(MixingExplorer(**mixing, token=0))
    photo, matrix = page.locator(".mo-board").first, page.locator(".mo-matrix")
    box = photo.bounding_box()
    middle = {"x": box["width"] * 2.5 / W, "y": box["height"] * 1.5 / H}  # row 2, column 3
    photo.hover(position=middle)
    assert "row 2, column 3" in sentence(page) and page.evaluate("models[0].get('token')") == 0
    page.mouse.move(2, 2)
    assert "row 1, column 1" in sentence(page)
    photo.click(position=middle)
    page.mouse.move(2, 2)
    assert "row 2, column 3" in sentence(page) and page.evaluate("models[0].get('token')") == 7
    side = matrix.bounding_box()["width"]
    spot = {"x": side * 3.5 / L, "y": side * 12.5 / L}  # row 13, column 4 of the matrix
    matrix.click(position=spot)
    assert page.evaluate("models[0].get('token')") == 12
    page.get_by_label("who reads it").check(force=True)
    matrix.click(position=spot)
    assert page.evaluate("models[0].get('token')") == 3


def test_touch_chooses(show, mixing):
    page = show(MixingExplorer(**mixing, token=0), width=390, has_touch=True, is_mobile=True)
    photo = page.locator(".mo-board").first
    box = photo.bounding_box()
    photo.tap(position={"x": box["width"] * 4.5 / W, "y": box["height"] * 3.5 / H})
    assert page.evaluate("models[0].get('token')") == 19


def test_the_table_counts_for_the_chosen_token(show, mixing):
    page = show(MixingExplorer(**mixing, mixer="Vim", view=1, token=3))
    page.locator("summary").click()
    lines = [re.split(r"\t", line) for line in page.locator("tbody").inner_text().splitlines()]
    expected = []
    for mixer in mixing["mixers"]:
        for view in mixer["views"]:
            row, column, share = view["reads"][3].sum(), view["reads"][:, 3].sum(), 100 * view["reads"].mean()
            expected.append([mixer["name"], view["label"], str(row), str(column), f"{share:.1f}\u00a0%"])
    assert lines == expected
    assert page.locator("tr.mo-near").inner_text().startswith("Vim\tforward")


def test_follows_the_model_and_cleans_up(show, mixing):
    page = show(MixingExplorer(**mixing))
    page.evaluate("models[0].set('direction', 'read_by')")
    assert page.get_by_label("who reads it").is_checked()
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
