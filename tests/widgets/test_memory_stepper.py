import base64
import re

import numpy as np
import pytest

from mambaout.analysis import memory
from mambaout.widgets import MemoryStepper
from mambaout.widgets.memory_stepper import quantise


def found(memories, **wanted):
    """The record with these values."""
    return next(one for one in memories["records"] if wanted.items() <= one.items())


def whole(share):
    return f"{np.floor(100 * share + 0.5):.0f}\u00a0%"


def costs(page):
    """Bytes, MACs of the token and MACs so far, exactly, for each mixer of the table."""
    rows = page.locator("tr[data-mixer]")
    return {
        rows.nth(i).get_attribute("data-mixer"): [
            int(cell.get_attribute("value")) for cell in rows.nth(i).locator("data").all()
        ]
        for i in range(rows.count())
    }


def shading(page, side):
    """How strongly each token is shown: the opacity of its patch."""
    return page.locator(f"section:nth-child({side}) .mo-tokens b").evaluate_all("all => all.map(b => +b.style.opacity)")


# Python


def test_shares_survive_the_packing(memories):
    figure = MemoryStepper(**memories)
    record = found(memories, source="photo", length=9, d_state=6, trained=True)
    packed = next(r for r in figure.records if {k: r[k] for k in ("source", "length", "d_state", "trained")} ==
                  {"source": "photo", "length": 9, "d_state": 6, "trained": True})  # fmt: skip
    for key in ("kept", "weight"):
        values = (np.frombuffer(base64.b64decode(packed[key]), np.uint8) / 255) ** 2
        np.testing.assert_allclose(values, record[key][np.tril_indices(9)], atol=0.004)
    assert len(base64.b64decode(packed["state"])) == 9 * 6


def test_quantise_stays_within_its_promise():
    values = np.linspace(0, 3, 10_001)
    back = 3 * (np.frombuffer(base64.b64decode(quantise(values, 3)), np.uint8) / 255) ** 2
    assert np.abs(back - values).max() <= 0.004 * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kept": np.eye(3)}, "(photo, 4 tokens, N = 2): 'kept' must be 4 x 4 numbers, not negative; got (3, 3)"),
        ({"kept": np.ones((4, 4))}, "'kept' must hold shares from 0 to 1, and 0 for tokens that are still to come"),
        ({"weight": 2 * np.eye(4)}, "'weight' must hold shares from 0 to 1"),
        ({"state": -np.ones((4, 2))}, "'state' must be 4 x 2 numbers, not negative"),
        ({"source": "song"}, "Record 0: 'source' must be one of photo, sentence; got 'song'"),
        ({"d_state": 0}, "Record 0: 'd_state' must be an integer of at least 1; got 0"),
    ],
)
def test_a_wrong_record_is_named(memories, change, words):
    memories["records"][0] |= change
    with pytest.raises(ValueError, match=re.escape(words)):
        MemoryStepper(**memories)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": "short"}, "text must have at least 9 characters; got 5"),
        ({"widths": (64, 100), "heads": (1, 8)}, "every width; 8 does not divide 100"),
        ({"photo": np.zeros((4, 5, 3), np.uint8)}, "square image (S, S, 3); got (4, 5, 3)"),
        ({"d_state": 3}, "'d_state' must be one of 2, 6; got 3"),
        ({"source": "foto"}, "Unknown source 'foto'; did you mean one of photo"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(memories, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        MemoryStepper(**memories | change)


def test_every_combination_must_be_there(memories):
    with pytest.raises(ValueError, match="d_state and trained once: expected 16, got 15"):
        MemoryStepper(**memories | {"records": memories["records"][1:]})


# Browser


def test_bytes_and_macs_are_the_librarys(show, memories):
    page = show(MemoryStepper(**memories))
    for width, d_state, length in ((64, 2, 9), (384, 6, 9), (768, 6, 4), (192, 2, 4)):
        page.get_by_label("Width D").select_option(str(width))
        page.locator("fieldset", has_text="State size N").get_by_label(str(d_state), exact=True).check(force=True)
        page.locator("fieldset", has_text="Tokens L").get_by_label(str(length), exact=True).check(force=True)
        for token in range(1, length + 1):
            page.evaluate(f"models[0].set('token', {token})")
            steps = {
                "attention": [memory.attention_step(t, width) for t in range(1, token + 1)],
                "ssm": [memory.ssm_step(width, d_state)] * token,
                "conv": [memory.causal_conv_step(t, width, 7) for t in range(1, token + 1)],
            }
            assert costs(page) == {
                name: [all_[-1].nbytes(), all_[-1].macs, sum(step.macs for step in all_)]
                for name, all_ in steps.items()
            }
    for heads in (2, 8):  # they share the width
        before = costs(page)
        page.locator("fieldset", has_text="Heads").get_by_label(str(heads), exact=True).check(force=True)
        assert costs(page) == before
        assert f"cut into {heads} heads of {192 // heads}" in page.locator(".mo-memory").inner_text()
        assert page.locator(".mo-store line").count() == 2 * (heads - 1)


@pytest.mark.parametrize("trained", ["fresh", "trained"])
def test_the_shading_is_the_record(show, memories, trained):
    page = show(MemoryStepper(**memories))
    page.get_by_label(trained, exact=True).check(force=True)
    record = found(memories, source="photo", length=9, d_state=6, trained=trained == "trained")
    for token in (1, 5, 9):
        page.evaluate(f"models[0].set('token', {token})")
        row = record["kept"][token - 1]
        assert shading(page, 1) == [1] * token + [0] * (9 - token)  # attention has lost nothing
        assert shading(page, 2) == pytest.approx(row.tolist(), abs=0.005)
        sentence = page.get_by_role("status").inner_text()
        assert sentence.startswith(f"Token {token} of 9. Attention holds all {token} unchanged.")
        shares = [int(share) for share in re.findall(r"(\d+)\u00a0%", sentence)]
        assert shares == pytest.approx([100 * row[0], 100 * row[:token].mean()], abs=1)
    page.get_by_label("share of the state").check(force=True)
    row = record["weight"][8]
    assert shading(page, 2) == pytest.approx((row / row.max()).tolist(), abs=0.01)


def test_what_piles_up_and_what_does_not(show, memories):
    page = show(MemoryStepper(**memories))
    for token in (1, 4, 9):
        page.evaluate(f"models[0].set('token', {token})")
        bars = page.locator("section .mo-store")
        assert bars.first.locator("rect").count() == 2 * token  # a key and a value each
        assert bars.last.locator("rect").count() == 6  # numbers of state a channel
    slots = "all => all.map(one => +one.querySelector('rect').getAttribute('width'))"
    widths = page.locator(".mo-store").evaluate_all(slots)
    assert widths[0] == widths[1]  # to one scale


def test_a_sentence_arrives_character_by_character(show, memories):
    page = show(MemoryStepper(**memories, source="sentence"))
    page.evaluate("models[0].set('token', 5)")
    assert page.locator("section:nth-child(2) .mo-tokens").inner_text() == "Read me, "
    assert page.locator("section:nth-child(2) .mo-ahead").count() == 4
    assert page.locator("section:nth-child(2) .mo-new").inner_text() == " "
    assert "“␣”" in page.get_by_label("Token", exact=True).get_attribute("aria-valuetext")


def test_the_table_has_every_token(show, memories):
    page = show(MemoryStepper(**memories, d_state=2))
    page.get_by_text("Data table").click()
    record = found(memories, source="photo", length=9, d_state=2, trained=True)
    cells = page.locator("details tbody td").all_inner_texts()
    shown = [float(cell.removesuffix("\u00a0%")) for cell in cells]
    expected = 100 * np.stack((record["kept"][8], record["weight"][8]), axis=1)
    assert shown == pytest.approx(expected.ravel().tolist(), abs=0.45)


def test_pointing_asks_what_is_left(show, memories):
    page = show(MemoryStepper(**memories))
    page.evaluate("models[0].set('token', 6)")
    record = found(memories, source="photo", length=9, d_state=6, trained=True)
    ask = page.locator(".mo-ask")
    assert "Point at a token" in ask.inner_text()
    page.locator("section:nth-child(2) [data-token='2']").hover()
    assert ask.inner_text().startswith("Token 2 (row 1, column 2): attention holds its key and value")
    left, part = (int(share) for share in re.findall(r"(\d+)\u00a0%", ask.inner_text()))
    assert left == pytest.approx(100 * record["kept"][5, 1], abs=1)
    assert part == pytest.approx(100 * record["weight"][5, 1], abs=1)
    page.locator("section:nth-child(1) [data-token='7']").hover()
    assert ask.inner_text() == "Token 7 (row 3, column 1) is still to come."
    page.mouse.move(2, 2)
    assert "Point at a token" in ask.inner_text()


def test_tap_asks_too(show, memories):
    page = show(MemoryStepper(**memories), width=390, has_touch=True, is_mobile=True)
    page.locator("section:nth-child(2) [data-token='4']").tap()
    assert page.locator(".mo-ask").inner_text().startswith("Token 4 (row 2, column 1)")


def test_step_scrub_and_keyboard(show, memories):
    page = show(MemoryStepper(**memories))
    token = lambda: page.evaluate("models[0].get('token')")  # noqa: E731
    assert token() == 9
    page.get_by_role("button", name="Step").click()
    assert token() == 9  # there is no further one
    page.get_by_role("button", name="Back").click()
    assert token() == 8
    slider = page.get_by_label("Token", exact=True)
    slider.focus()
    page.keyboard.press("Home")
    assert token() == 1
    page.keyboard.press("ArrowRight")
    assert token() == 2 and slider.get_attribute("aria-valuetext") == "2 of 9: row 1, column 2"
    page.keyboard.press("End")
    page.locator("fieldset", has_text="Tokens L").get_by_label("4", exact=True).check(force=True)
    assert token() == 4  # the shorter sequence ends there


def test_play_runs_to_the_end_quietly_and_stops(show, memories):
    page = show(MemoryStepper(**memories))
    page.clock.install()
    play = page.locator(".mo-player button").first
    play.click()  # at the end: starts anew
    status = page.get_by_role("status")
    assert (page.evaluate("models[0].get('token')"), play.inner_text()) == (1, "Pause")
    assert status.get_attribute("aria-live") == "off"
    page.clock.run_for(12_000 / 9 * 3 + 50)
    assert page.evaluate("models[0].get('token')") == 4
    play.focus()
    page.keyboard.press("Space")
    page.clock.run_for(20_000)
    assert (page.evaluate("models[0].get('token')"), play.inner_text()) == (4, "Play")
    play.click()
    page.clock.run_for(20_000)
    assert (page.evaluate("models[0].get('token')"), play.inner_text()) == (9, "Play")
    assert status.get_attribute("aria-live") == "polite"


def test_nothing_plays_when_less_motion_is_asked(show, memories):
    page = show(MemoryStepper(**memories), reduced_motion="reduce")
    assert page.get_by_role("button", name="Play").count() == 0
    page.get_by_role("button", name="Back").click()
    assert page.evaluate("models[0].get('token')") == 8


def test_follows_the_model_and_cleans_up(show, memories):
    page = show(MemoryStepper(**memories))
    page.evaluate("models[0].set('trained', false); models[0].set('heads', 4)")
    assert page.get_by_label("fresh", exact=True).is_checked()
    page.locator(".mo-player button").first.click()
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
