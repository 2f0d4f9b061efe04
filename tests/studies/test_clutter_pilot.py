"""The pilot compares arms of equal size, and sees no test image."""

import dataclasses
from pathlib import Path

import pytest
import torch

from mambaout.analysis.cost import count_parameters
from mambaout.studies import clutter_pilot, sets
from mambaout.studies.clutter_pilot import ARMS, STUDY, PilotConfig, fresh, run
from mambaout.studies.runner import read_results

CARD = Path(__file__).parents[2] / "data/clutter/README.md"


def test_arms_have_equally_many_parameters() -> None:
    counts = [count_parameters(fresh(PilotConfig(**settings), 0)) for settings in ARMS.values()]
    assert max(counts) / min(counts) < 1.01 and counts[0] in range(120_000, 130_000)


def test_a_run_learns_from_train_and_is_scored_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []
    for module in (clutter_pilot, sets):
        original = module.clutter  # type: ignore[attr-defined]

        def watched(split: str, *arguments: object, original=original, **options: object) -> object:  # type: ignore[no-untyped-def]
            splits.append((split, options["level"]))
            return original(split, *arguments, **options)

        monkeypatch.setattr(module, "clutter", watched)
    monkeypatch.setattr(clutter_pilot, "SCORED", 50)
    config = dataclasses.replace(STUDY.variants["turned/gated_cnn@0.004"], images=64, epochs=2, batch_size=32)
    values = run(config, 0, torch.device("cpu"))
    assert sorted(splits) == [("train", "turned")] * 2 + [("val", "turned")]
    assert set(values) == {"validation_accuracy", "train_loss", "params"} and 0 <= values["validation_accuracy"] <= 1
    assert values == run(config, 0, torch.device("cpu"))


def test_the_card_tells_every_run() -> None:
    """`data/clutter/README.md` has a row for each run that was recorded, and no other."""
    told = {line for line in CARD.read_text(encoding="utf-8").splitlines() if "@" in line}
    runs: dict[tuple[str, int], dict[str, float]] = {}
    for row in read_results("clutter_pilot"):
        assert row.variant in STUDY.variants
        runs.setdefault((row.variant, row.seed), {})[row.metric] = row.value
    assert told == {
        f"| `{name}` | {seed} | {100 * values['validation_accuracy']:.1f} % | {values['train_loss']:.2f} |"
        for (name, seed), values in runs.items()
    }
