"""Recipes: the paper's, and how they are written, read and compared."""

import csv
import dataclasses
from pathlib import Path

import pytest
from tiny import tiny_recipe

import mambaout
from mambaout.cli import main
from mambaout.datasets import find
from mambaout.training import RECIPES, Augment, Data, Model, Recipe
from mambaout.training.recipe import DESCRIPTIONS, DROP_PATH, differences, from_json, to_json


def table():
    with find("paper/recipe.csv").open(newline="") as file:
        return {r["item"]: r["value"] for r in csv.DictReader(file) if r["task"] == "ImageNet classification"}


def test_imagenet_is_the_papers():
    paper, recipe = table(), RECIPES["imagenet"]
    augment = recipe.augment
    assert paper["optimizer"] == "AdamW" and paper["input resolution"] == "224x224"
    assert recipe.data.image_size is None  # 224
    for item, value in {
        "epochs": recipe.epochs,
        "batch size": recipe.batch_size,
        "learning rate": recipe.peak_lr,
        "warm-up epochs": recipe.warmup_epochs,
        "weight decay": recipe.weight_decay,
        "CutMix": augment.cutmix,
        "Mixup": augment.mixup,
        "CutMix-Mixup switch probability": augment.switch,
        "random erasing probability": augment.erase,
        "label smoothing": recipe.label_smoothing,
        "color jitter": augment.color_jitter,
    }.items():
        assert float(paper[item]) == value, item
    assert paper["RandAugment"].startswith(f"rand-m{augment.rand_augment:g}-mstd{augment.rand_augment_std:g}-")
    assert paper["Adam betas"] == str(recipe.betas)
    assert (paper["gradient clipping"], paper["EMA"]) == ("none", "none")
    assert recipe.clip_norm is None and recipe.ema is None
    warmup, end, cooldown = (float(v) for v in paper["warm-up lr / min lr / cooldown epochs"].split("/"))
    assert (recipe.warmup_lr, recipe.min_lr, recipe.cooldown_epochs) == (warmup, end, cooldown)
    assert paper["learning-rate rule"].startswith("lr = batchsize/1024 * 1e-3")
    assert dataclasses.replace(recipe, batch_size=1024).peak_lr == pytest.approx(1e-3)


def test_drop_path_is_the_papers():
    prefix = "stochastic depth (drop path), "
    paper = {f"mambaout_{k.removeprefix(prefix)}": float(v) for k, v in table().items() if k.startswith(prefix)}
    assert paper == DROP_PATH
    assert Model("mambaout_tiny").options() == {"drop_path_rate": 0.2}
    assert Model("mambaout_tiny", 0.3).options() == {"drop_path_rate": 0.3}


def test_settings_of_the_model():
    options = Model("mambaout_zepto", settings=("dims=(8, 16)", "token_mixer=mamba")).options()
    assert options == {"drop_path_rate": 0.0, "dims": (8, 16), "token_mixer": "mamba"}
    assert mambaout.create_model("mambaout_zepto", **options).cfg.dims == (8, 16)
    with pytest.raises(ValueError, match="written name=value"):
        Model(settings=("dims",)).options()


@pytest.mark.parametrize("recipe", [*RECIPES.values(), tiny_recipe(data=Data("folder", Path("a/b")))])
def test_recipes_survive_text(recipe):
    assert from_json(to_json(recipe)) == recipe


def test_differences_are_named():
    a, b = tiny_recipe(), tiny_recipe(epochs=5, augment=Augment(shift=3), data=Data("tiny", Path("elsewhere")))
    found = differences(a, b)
    assert "epochs: 3 -> 5" in found and "augment.shift: 1 -> 3" in found
    assert not any("folder" in line for line in found)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"warmup_epochs": 3, "epochs": 3}, {"lr": 0.0}, {"ema": 1.0}, {"label_smoothing": 1.0}],
)
def test_impossible_recipes(wrong):
    with pytest.raises(ValueError, match="must"):
        Recipe(**wrong)


def test_every_recipe_is_described_and_its_model_exists():
    assert RECIPES.keys() == DESCRIPTIONS.keys()
    for recipe in RECIPES.values():
        mambaout.create_model(recipe.model.name, **recipe.model.options())


# the command line


def chosen(monkeypatch, *args):
    got = []
    monkeypatch.setattr("mambaout.commands.train.run_training", lambda *a: got.append(a))
    assert main(["train", *args]) == 0
    return got[0]


def test_every_field_can_be_changed(monkeypatch):
    recipe, machine, out, threads = chosen(
        monkeypatch, "imagenet", "--out", "runs/a", "--epochs", "3", "--warmup-epochs", "0.5", "--augment.mixup", "0",
        "--model.name", "mambaout_tiny", "--model.settings", "kernel_size=5", "--data.folder", "photos",
        "--ema", "0.99", "--precision", "bf16", "--micro-batch", "64", "--threads", "2",
    )  # fmt: skip
    assert recipe == dataclasses.replace(
        RECIPES["imagenet"],
        epochs=3,
        warmup_epochs=0.5,
        ema=0.99,
        augment=dataclasses.replace(RECIPES["imagenet"].augment, mixup=0),
        model=Model("mambaout_tiny", settings=("kernel_size=5",)),
        data=Data(folder=Path("photos")),
    )
    assert (machine.precision, machine.micro_batch, out, threads) == ("bf16", 64, Path("runs/a"), 2)


def test_options_may_stand_before_the_recipe(monkeypatch):
    recipe, _, out, _ = chosen(monkeypatch, "--out", "b", "fashion_mnist")
    assert recipe == RECIPES["fashion_mnist"] and out == Path("b")


def test_help_teaches(capsys):
    for args, words in (
        (["train", "--help"], ["mambaout train fashion_mnist --out", "torchrun", "ImageNet", "Table 5"]),
        (["train", "imagenet", "--help"], ["--augment.rand-augment", "peak learning rate", "(default: 4096)"]),
        (["evaluate", "--help"], ["mambaout evaluate runs/a", "--architecture"]),
    ):
        with pytest.raises(SystemExit) as exit:
            main(args)
        text = capsys.readouterr().out
        assert exit.value.code == 0 and all(word in text for word in words), args
