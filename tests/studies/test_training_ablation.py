"""A variant of the ablation lacks one ingredient and nothing else; a run measures what its rows say."""

import dataclasses

import pytest
import torch

from mambaout.studies import training_ablation
from mambaout.studies.training_ablation import FULL, LEFT_OUT, STUDY, AblationConfig, run, without
from mambaout.training import RECIPES, Data, Machine, Model, Tensors, Watcher, train
from mambaout.training.batches import MemoryBatches, Preparation, Share
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
    class Rates(Watcher):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def step(self, step: int, loss: float, lr: float) -> None:
            self.seen.append(lr)

    x, y = torch.zeros(128, 28, 28, dtype=torch.uint8), torch.arange(128) % 10
    watcher = Rates()
    recipe = dataclasses.replace(STUDY.variants["no_cosine"].recipe(0), data=Data("fashion_mnist"))
    tiny = Model("mambaout_zepto", 0.0, ("dims=(8, 16)", "depths=(1, 1)"))
    data, machine = Tensors(x, y, x, y, [str(i) for i in range(10)]), Machine(device="cpu")
    train(dataclasses.replace(recipe, model=tiny), machine, data=data, watchers=[watcher], progress=False)
    warmup = round(recipe.warmup_epochs * 2)
    assert len(watcher.seen) == 2 * recipe.epochs and watcher.seen[0] == pytest.approx(recipe.warmup_lr)
    assert watcher.seen[warmup:] == pytest.approx([recipe.peak_lr] * (len(watcher.seen) - warmup))


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
