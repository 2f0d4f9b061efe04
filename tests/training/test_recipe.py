"""Recipes: the paper's, and how they are written, read and compared."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest
from tiny import tiny_recipe

import mambaout
from mambaout.cli import main
from mambaout.datasets import find
from mambaout.training import RECIPES, Augment, Data, Machine, Model, Recipe
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


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"model": {"size": 3}, "data": {}, "augment": {}}', "{", "3"])
def test_what_is_no_recipe_is_said(text):
    with pytest.raises(ValueError, match="no recipe of this version|Expecting"):
        from_json(text)


def test_differences_are_named():
    a, b = tiny_recipe(), tiny_recipe(epochs=2, augment=Augment(shift=3), data=Data("tiny", Path("elsewhere")))
    found = differences(a, b)
    assert "epochs: 3 -> 2" in found and "augment.shift: 1 -> 3" in found
    assert not any("folder" in line for line in found)
    assert not any("epochs" in line for line in differences(b, a)), "more of them only continue the run"


NAN, MANY = float("nan"), 100_000


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (Recipe, {"epochs": [0, -1], "batch_size": [0, -8], "lr": [0.0, NAN, float("inf")], "lr_batch": [0]}),
        (Recipe, {"warmup_epochs": [300, -1, NAN], "cooldown_epochs": [-1], "ema": [0.0, 1.0, NAN]}),
        (Recipe, {"layer_decay": [0.0, 1.1, NAN]}),
        (Recipe, {"warmup_lr": [-1.0, NAN], "min_lr": [-1.0, NAN], "weight_decay": [-0.1, NAN], "clip_norm": [0, NAN]}),
        (Recipe, {"label_smoothing": [1.0, -0.1, NAN], "betas": [(0.9, 1.0), (NAN, 0.9)], "seed": [-1, 2**63]}),
        (Data, {"subset": [0, -1], "holdout": [-1], "division": [-1], "image_size": [0, -64, MANY]}),
        (Model, {"drop_path_rate": [-0.1, 1.0, NAN]}),
        (Augment, {"flip": [-0.1, 1.1, NAN], "erase": [-0.1, 1.1, NAN], "color_jitter": [-0.1, 1.1, NAN]}),
        (Augment, {"crop": [0, 1.1, NAN], "switch": [-0.1, 1.1, NAN], "mixup": [-1, NAN], "cutmix": [-1, NAN]}),
        (Augment, {"rand_augment_std": [-1, NAN], "shift": [-1]}),
        (Augment, {"zoom": [1.0, -0.1, NAN], "rotate": [181, -1, NAN], "rand_augment": [11], "shift": [MANY]}),
        (Machine, {"threads": [0, -1, MANY], "workers": [-1, MANY], "micro_batch": [0, -1], "checkpoint_steps": [0]}),
    ],
)
def test_impossible_settings_are_named(part, wrong):
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name} must lie in [\[(].*[\])], got {re.escape(str(value))}$"):
                part(**{name: value})


@pytest.mark.parametrize(
    "args",
    [["--threads", "0"], ["--threads", "100000"], ["--batch-size", "-1"], ["--lr", "nan"], ["--data.subset", "-1"]],
)
def test_the_command_line_refuses_them_before_anything_starts(args, tmp_path, capsys):
    try:
        code = main(["train", "fashion_mnist", "--out", str(tmp_path / "run"), *args])
    except SystemExit as exit:
        code = exit.code
    told = capsys.readouterr()
    words = " ".join((told.out + told.err).split())
    assert code != 0 and f"{args[0].rpartition('.')[2].lstrip('-').replace('-', '_')} must lie in" in words, words
    assert "Traceback" not in words and not (tmp_path / "run").exists()


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
    recipe, machine, out, compare = chosen(
        monkeypatch, "imagenet", "--out", "runs/a", "--epochs", "3", "--warmup-epochs", "0.5", "--augment.mixup", "0",
        "--model.name", "mambaout_tiny", "--model.settings", "kernel_size=5", "--data.folder", "photos",
        "--ema", "0.99", "--precision", "bf16", "--micro-batch", "64", "--threads", "1",
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
    assert (machine.precision, machine.micro_batch, machine.threads, out) == ("bf16", 64, 1, Path("runs/a"))
    assert not compare and chosen(monkeypatch, "finetune", "--out", "runs/a", "--compare")[3]


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
