"""A variant of the ablation lacks one ingredient and nothing else; a run measures what its rows say."""

import dataclasses

import pytest
import torch
from torch import nn

from mambaout.studies import training_ablation
from mambaout.studies.training_ablation import FULL, LEFT_OUT, STUDY, AblationConfig, run, without
from mambaout.training import RECIPES, Tensors
from mambaout.training.batches import MemoryBatches, Preparation, Share
from mambaout.training.optim import warmup_cosine
from mambaout.training.recipe import differences
from mambaout.training.sources import Held, source


def test_the_full_recipe_has_the_ingredients_of_the_longer_one() -> None:
    changed = differences(RECIPES["fashion_mnist"], FULL.recipe(0))
    kept = {"augment", "weight_decay", "label_smoothing", "ema", "clip_norm", "model.drop_path_rate", "min_lr"}
    assert not [line for line in changed if line.partition(":")[0].split(".")[0] in kept or line.split(":")[0] in kept]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_variant_lacks_its_ingredient_alone(name: str) -> None:
    config = STUDY.variants[f"no_{name}"]
    changed = {field for field, value in dataclasses.asdict(config).items() if value != getattr(FULL, field)}
    assert changed == set(LEFT_OUT[name])
    assert not any(dataclasses.asdict(config)[field] for field in changed if name != "cosine")


def test_none_lacks_them_all() -> None:
    bare = STUDY.variants["none"]
    for change in LEFT_OUT.values():
        assert all(getattr(bare, field) == value for field, value in change.items())
    assert without() == FULL


def test_without_cosine_the_rate_stays_at_its_peak() -> None:
    recipe = STUDY.variants["no_cosine"].recipe(0)
    steps, warmup = 40, 8
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=recipe.peak_lr)
    end = min(1.0, recipe.min_lr / recipe.peak_lr)  # as the engine has it
    schedule = warmup_cosine(optimizer, steps, warmup, end=end)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] < rates[warmup - 1] < recipe.peak_lr
    assert rates[warmup:] == pytest.approx([recipe.peak_lr] * (steps - warmup))


def first_batch(config: AblationConfig, seed: int) -> torch.Tensor:
    recipe = config.recipe(seed)
    held = Held(source(recipe.data), recipe.data)
    batches = MemoryBatches(held, recipe, Preparation((0.5,), (0.5,), 10), Share(), torch.device("cpu"))
    return next(batches(1, 1))[0][0]


def test_variants_are_paired() -> None:
    assert first_batch(FULL, 3).equal(first_batch(STUDY.variants["no_warmup"], 3))
    assert not first_batch(FULL, 3).equal(first_batch(FULL, 4))
    plain, erased = first_batch(STUDY.variants["no_erasing"], 3), first_batch(FULL, 3)
    same = (plain == erased).flatten(1).all(1).float().mean().item()
    assert 0.5 < same < 1, "most images are alike, some have a rectangle of noise"


def test_a_run_is_repeatable_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = source(FULL.recipe(0).data)
    (x, y), (test_x, test_y) = whole.train(0, 0), whole.test()
    part = Tensors(x[:1200], y[:1200], test_x[:400], test_y[:400], whole.classes)
    monkeypatch.setattr(training_ablation, "source", lambda data: part)
    small = dataclasses.replace(FULL, images=320, holdout=50, epochs=2)
    first, again = (run(small, 1, torch.device("cpu")) for _ in range(2))
    assert first == again
    assert {"accuracy", "loss", "train_accuracy", "train_loss", "holdout_1", "holdout_2"} == set(first)
    longer = run(dataclasses.replace(small, images=1024, epochs=3, ema=None), 1, torch.device("cpu"))
    assert longer["accuracy"] > max(0.2, first["accuracy"]), "ten classes: 0.1 by chance"
