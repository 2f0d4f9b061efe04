"""The readers behind the chapter on memory: step and whole agree, nothing shown was trained on, weights come back."""

import dataclasses
import itertools
from typing import get_args

import pytest
import torch

from mambaout.datasets import list_photos, moby_dick, photo
from mambaout.studies import kept as kept_models
from mambaout.studies import retention
from mambaout.studies.retention import VARIANTS, RetentionConfig

SMALL = {"dim": 8, "side": 4, "steps": 3, "batch_size": 2}


@pytest.mark.parametrize("source", ["photo", "sentence"])
@torch.no_grad()
def test_step_equals_the_parallel_form(source):
    model = retention.fresh(RetentionConfig(source, 4, dim=16))
    tokens = retention.shown(source, 5)[None]
    state, outputs = None, []
    for token in tokens.unbind(1):
        y, state = model.step(token, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), model(tokens), rtol=1e-5, atol=1e-5)


def test_everything_a_reader_knows_of_the_past_has_come_through_the_state():
    """Causal, and blind to the past once the state is cleared."""
    model = retention.fresh(RetentionConfig("photo", 4, dim=8)).eval()
    tokens = retention.shown("photo", 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0].sum(1), tokens)  # (t, s, 192)
    reads = jacobian.abs().amax(2) > 0
    assert torch.equal(reads, torch.ones(16, 16, dtype=torch.bool).tril())
    with torch.no_grad():
        model.block.ssm.A_log.fill_(40.0)  # exp(-Delta e^40) = 0: no token outlives the next
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0].sum(1), tokens)
    assert torch.equal(jacobian.abs().amax(2) > 0, torch.eye(16, dtype=torch.bool))


def test_what_is_shown_was_not_trained_on(monkeypatch):
    book, config = moby_dick(), RetentionConfig("sentence", 4)
    assert book.index(retention.shown_text(100)) > retention.HELD_OUT * len(book)
    assert book.count(retention.held_out_text(10_000)) == 1
    draw = torch.Generator().manual_seed(0)
    borders = [0, *(int(share * len(book)) for share in (retention.VALIDATION, retention.HELD_OUT)), len(book)]
    pieces = dict(zip(get_args(retention.Part), (book[a:b] for a, b in itertools.pairwise(borders)), strict=True))
    for part in pieces:
        for row in retention.sequences(config, draw, part):
            text = "".join(retention.alphabet()[i] for i in row)
            assert [other for other, piece in pieces.items() if text in piece] == [part]
    seen = {part: set() for part in pieces}
    for part, names in seen.items():
        monkeypatch.setattr(retention, "_photo", lambda name, names=names: names.add(name) or photo(name))
        for _ in range(4):
            retention.sequences(RetentionConfig("photo", 4), draw, part)
    held = {retention.SHOWN_PHOTO, retention.VALIDATION_PHOTO}
    assert seen["train"] == set(list_photos()) - held
    assert (seen["validation"], seen["test"]) == ({retention.VALIDATION_PHOTO}, {retention.SHOWN_PHOTO})


def test_patches_are_the_photo_cut_up():
    image = torch.randint(0, 256, (3, 16, 24), dtype=torch.uint8)
    cut = retention.patches(image)
    assert cut.shape == (6, 192) and -1 <= cut.min() and cut.max() <= 1
    torch.testing.assert_close(cut[4], image[:, 8:16, 8:16].flatten() / 127.5 - 1)  # second row, second column


def test_a_character_outside_the_book_is_named():
    with pytest.raises(ValueError, match="the book has no 'é'"):
        retention.encode("café")
    with pytest.raises(ValueError, match="source must be one of photo, sentence; got 'song'"):
        retention.fresh(RetentionConfig("song", 4))


@pytest.mark.parametrize("source", ["photo", "sentence"])
def test_a_run_measures_trains_and_keeps_the_weights_of_seed_0(source, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_models, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(kept_models, "find", lambda name: tmp_path / name)
    small = RetentionConfig(source, 2, **SMALL)
    other = dataclasses.replace(small, d_state=3)
    monkeypatch.setattr(retention, "VARIANTS", {small.name: small, other.name: other})
    assert retention.validate(small, 0, torch.device("cpu")).keys() == {"validation_loss"}
    assert not (tmp_path / retention.WEIGHTS).exists(), "tuning keeps nothing"
    values = retention.run(small, 0, torch.device("cpu"))
    assert set(values) == {"loss_fresh", "loss_trained", "kept_10_fresh", "kept_10_trained"}
    assert values["loss_trained"] < values["loss_fresh"] and 0 < values["kept_10_trained"] < 1
    retention.run(other, 0, torch.device("cpu"))  # stands beside the first
    before = (tmp_path / retention.WEIGHTS).read_bytes()
    retention.run(small, 1, torch.device("cpu"))
    retention.run(dataclasses.replace(small, steps=1), 0, torch.device("cpu"))  # none of the study's
    assert (tmp_path / retention.WEIGHTS).read_bytes() == before
    retention.run(dataclasses.replace(other, lr=1e-3), 0, torch.device("cpu"))  # the study's, at another rate
    assert (tmp_path / retention.WEIGHTS).read_bytes() != before
    model = retention.trained(small)
    kept = model.remembered(retention.shown(source, 4))["kept"].diagonal(-10).mean().item()
    assert kept == pytest.approx(values["kept_10_trained"], abs=2e-3)  # weights are kept in float16


def test_the_records_are_those_of_the_committed_weights():
    records = retention.records(sides=(4,))
    assert len(records) == 2 * len(VARIANTS)
    for record in records:
        kept, weight = record["kept"], record["weight"]
        assert kept.shape == weight.shape == (16, 16) and record["state"].shape == (16, record["d_state"])
        assert (kept.diagonal() == 1).all() and weight.sum(1) == pytest.approx(1)


def test_the_trained_reader_clears_its_state_between_words():
    """What the chapter says of its table."""
    text = retention.held_out_text(5_000)
    for d_state in retention.STATES:
        config = VARIANTS[f"sentence_n{d_state}"]
        for build, spread in ((retention.fresh, 0.01), (retention.trained, 0.2)):
            survives = build(config).survival(retention.encode(text))
            letters = survives[[c.isalpha() for c in text]].mean()
            spaces = survives[[c == " " for c in text]].mean()
            assert (letters - spaces > spread) == (build is retention.trained)
