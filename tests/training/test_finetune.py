"""Fine-tuning: what a training starts from, how fast each layer learns, and what the weights bring."""

import dataclasses

import pytest
import torch
from test_folders import CPU, GREY, Notes, paint, recipe
from torch import nn

import mambaout
from mambaout.cli import main
from mambaout.files import download
from mambaout.training import RECIPES, Data, Model, engine, train
from mambaout.training.compare import Arm, compare_starts, logistic_regression
from mambaout.training.optim import adamw, layers
from mambaout.training.run_files import read_run_file, weights_file
from mambaout.training.start import first_model


@pytest.fixture(scope="module")
def fruits(tmp_path_factory):
    root = tmp_path_factory.mktemp("fruits")
    for name, level in (("apple", 30), ("pear", 110), ("plum", 200)):
        for i in range(12):
            paint(root / name / f"{i:02}.png", level + i)
    return root


@pytest.fixture(scope="module")
def trained(fruits, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    train(recipe(fruits, epochs=4), CPU, folder=folder, progress=False)
    return folder


def body(model):
    return {name: value for name, value in model.state_dict().items() if not name.startswith("head.fc2")}


def test_weights_of_a_run_start_another(trained, fruits):
    names = ("apple", "pear", "plum")
    kept = read_run_file(weights_file(trained))
    assert kept.class_names == names and kept.shape == {"num_classes": 3, "in_chans": 1}
    chosen = dataclasses.replace(GREY, checkpoint=trained)
    for source in (trained, trained / "weights.safetensors", max(trained.glob("*.pt"))):
        model = first_model(dataclasses.replace(chosen, checkpoint=source), names)
        assert all(torch.equal(value, kept_value(kept, name)) for name, value in model.state_dict().items())
    for other in (("apple", "pear", "quince"), ("a", "b"), ("plum", "pear", "apple")):  # as many, fewer, turned round
        model = first_model(chosen, other)
        assert all(torch.equal(value, kept_value(kept, name)) for name, value in body(model).items())
        assert model.head.fc2.weight.shape[0] == len(other)
        assert not torch.equal(model.head.fc2.weight[:2], kept_value(kept, "head.fc2.weight")[:2])


def kept_value(kept, name):
    from safetensors.torch import load_file

    return load_file(kept.source)[name]


def test_weights_of_others_start_a_run(tmp_path):
    torch.manual_seed(0)
    whole = mambaout.create_model("mambaout_zepto", **GREY.options())
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "others.pth")
    model = first_model(dataclasses.replace(GREY, checkpoint=tmp_path / "others.pth"), ("a", "b"))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in body(model).items())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (Model("mambaout_zepto", settings=("dims=5",)), "dims=5 makes no mambaout_zepto: object of type 'int' has no"),
        (Model(checkpoint="no/such"), "there are no weights at no/such: model.checkpoint is a file, or the folder"),
        (Model("mambaout_zepto", pretrained=True), "cannot be had .* --model.checkpoint FILE, or train from"),
    ],
)
def test_weights_that_are_not_there(chosen, message, tmp_path):
    from pathlib import Path

    chosen = dataclasses.replace(chosen, checkpoint=chosen.checkpoint and Path(chosen.checkpoint))
    with pytest.raises(ValueError, match=message):
        first_model(chosen, ("a", "b"))


def test_without_internet_the_command_says_how_to_go_on(fruits, tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise download.DownloadError("could not download it: no route to host")

    monkeypatch.setattr("mambaout.models.checkpoints.fetch_checkpoint", offline)
    arguments = ["train", "finetune", "--data.folder", str(fruits), "--out", str(tmp_path)]
    assert main(arguments) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "released weights of mambaout_femto cannot be had" in told and "--model.no-pretrained" in told


def test_a_run_goes_on_without_the_weights_that_it_began_with(fruits, trained, tmp_path):
    begun = recipe(fruits, model=dataclasses.replace(GREY, checkpoint=trained))
    first = train(begun, CPU, folder=tmp_path, progress=False)
    gone = dataclasses.replace(begun, model=dataclasses.replace(begun.model, checkpoint=tmp_path / "gone"))
    assert train(gone, CPU, folder=tmp_path, progress=False).history == first.history


def test_layers():
    model = mambaout.create_model("mambaout_zepto")  # 1 and 3 blocks
    depths = layers(model)
    assert depths["stem.conv1.weight"] == 0 and depths["stages.0.blocks.0.fc1.weight"] == 1
    assert depths["stages.1.downsample.conv.weight"] == depths["stages.1.blocks.0.fc1.weight"] == 2
    assert depths["stages.1.blocks.2.fc2.weight"] == 4 and depths["head.norm.weight"] == depths["head.fc2.bias"] == 5
    vit = layers(mambaout.create_model("vit_ti"))
    assert vit["pos_embed"] == 0 and vit["blocks.11.norm1.weight"] == 12 and vit["head.weight"] == 13
    assert len(set(layers(nn.Linear(2, 2)).values())) == 1


def test_earlier_layers_learn_more_slowly():
    model = mambaout.create_model("mambaout_zepto")
    optimizer = adamw(model, 1e-3, 0.05, layer_decay=0.5)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters())) and optimizer.param_groups[0]["lr"] == 1e-3
    assert rates[model.head.fc2.weight] == rates[model.head.fc2.bias] == 1e-3
    assert rates[model.stem.conv1.weight] == pytest.approx(1e-3 / 32)
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[model.stem.conv1.weight] == 0.05 and decays[model.stem.conv1.bias] == 0


def test_trained_weights_report_early(fruits, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "EARLY", 2)
    told = Notes()
    start = dataclasses.replace(GREY, checkpoint=trained)
    run = train(recipe(fruits, model=start, batch_size=4), CPU, progress=False, watchers=[told])
    assert [note for note in told.notes if note.startswith("after 2 steps: top-1")]
    assert len(run.history) == 2, "an early look is no epoch"


def test_the_recipe_is_for_released_weights():
    chosen = RECIPES["finetune"]
    assert chosen.model == Model("mambaout_femto", pretrained=True) and chosen.data == Data() and chosen.layer_decay
    assert chosen.data.image_size is None, "224 pixels"


def test_logistic_regression_finds_the_optimum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    y = (x @ torch.randn(5, 3, generator=generator) + torch.randn(200, 3, generator=generator)).argmax(1)
    layer = logistic_regression(x, y, 3, 0.1)
    weight, bias = layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()
    loss = nn.functional.cross_entropy(x @ weight.T + bias, y) + 0.05 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-4 and bias.grad.abs().max() < 1e-4


def test_an_interval_is_wilsons():
    low, high = Arm("x", 0.8, 50, 1.0).interval()
    assert (low, high) == pytest.approx((0.670, 0.888), abs=1e-3)
    assert Arm("x", 1.0, 10, 1.0).interval()[0] == pytest.approx(0.722, abs=1e-3)


def test_what_the_weights_bring(fruits, trained, tmp_path):
    start = dataclasses.replace(GREY, checkpoint=trained)
    run = train(recipe(fruits, model=start), CPU, folder=tmp_path, progress=False)
    found = compare_starts(run, CPU, progress=False)
    text = str(found)
    assert (tmp_path / "report.md").read_text() == text + "\n"
    assert found.arms[0].top1 == run.history[-1].top1 and found.arms[1].images == len(run.data.val)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| fine-tuned", "| linear probe", "| from scratch"]
    assert "100.00%" in rows[3], "trained weights tell these apart"
    assert f"on {fruits}: 3 classes" in text and (tmp_path / "scratch" / "weights.safetensors").is_file()
    scratch = train(recipe(fruits, epochs=1), CPU, progress=False)
    with pytest.raises(ValueError, match="takes a run that starts from trained weights"):
        compare_starts(scratch, CPU)
