"""The engine in one process: what it leaves behind, what it refuses, what does not change its result."""

import csv
import dataclasses
import io
import math

import pytest
import torch
from safetensors import safe_open
from tiny import tiny_data, tiny_recipe

import mambaout
from mambaout.cli import main
from mambaout.training import RECIPES, Augment, Data, Diverged, Machine, Model, Watcher, checkpoint, evaluate, train
from mambaout.training import log as logs

CPU = Machine(device="cpu")
PLAIN = Model("mambaout_zepto", 0.0, ("dims=(8, 16)", "depths=(1, 1)"))


def short(**changes):
    return tiny_recipe(**{"epochs": 1, "warmup_epochs": 0, "model": PLAIN} | changes)


def quiet(recipe, machine=CPU, **options):
    return train(recipe, machine, **{"data": tiny_data(), "progress": False} | options)


def test_it_learns_and_leaves_everything_behind(tmp_path):
    recipe = tiny_recipe(epochs=30, model=PLAIN, augment=Augment(flip=0), lr=1e-2)
    run = quiet(recipe, folder=tmp_path)
    assert run.history[-1].top1 > 0.9 and run.history[0].top1 < 0.9
    assert len(run.losses) == 180 and not run.model.training
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [6 * e for e in range(1, 31)]
    assert [float(row["top1"]) for row in rows] == [row.top1 for row in run.history]
    first = run.losses[:6]
    assert run.history[0].train_loss == pytest.approx(sum(first) / 6)
    assert run.history[-1].seconds_left == 0 < run.history[0].images_per_second
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert set(file.keys()) == set(run.model.state_dict())
    assert run.history[-1].lr == pytest.approx(tiny_recipe().min_lr), "the rate of the last step, not the next one's"
    report = evaluate(tmp_path, tiny_data(), device="cpu")
    assert report.top1 == run.history[-1].top1 and report.loss == pytest.approx(run.history[-1].test_loss)
    again = evaluate(checkpoint.checkpoints(tmp_path)[-1], tiny_data(), device="cpu")
    assert again.top1 == report.top1
    with pytest.raises(ValueError, match="say what to evaluate on"):  # other data than the recipe names
        evaluate(tmp_path)
    assert mambaout.load_weights(run.model, tmp_path / "weights.safetensors") is run.model


def test_tensorboard_logs(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = quiet(tiny_recipe(epochs=4, model=PLAIN), folder=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    values = [(event.step, event.value) for event in events.Scalars("epoch/top1")]
    assert values == [(row.step, pytest.approx(row.top1)) for row in run.history]
    assert [event.step for event in events.Scalars("step/loss")] == [20]


def test_a_finished_run_is_only_read(tmp_path):
    first = quiet(short(), folder=tmp_path)
    again = quiet(short(), folder=tmp_path)
    assert again.losses == [] and again.history == first.history
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_another_recipe_does_not_continue_a_run(tmp_path):
    quiet(short(), folder=tmp_path)
    with pytest.raises(ValueError, match=r"follows another recipe \(lr: 0.003 -> 0.1\): take another folder"):
        quiet(short(lr=0.1), folder=tmp_path)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    whole, pieces = quiet(short()), quiet(short(), dataclasses.replace(CPU, micro_batch=4))
    assert whole.losses == pytest.approx(pieces.losses, rel=1e-5)


@pytest.mark.parametrize("change", [{"channels_last": True}, {"precision": "bf16"}])
def test_the_machine_changes_rounding_only(change):
    tolerance = 2e-2 if "precision" in change else 1e-4
    expected, found = quiet(short()), quiet(short(), dataclasses.replace(CPU, **change))
    assert found.losses == pytest.approx(expected.losses, rel=tolerance)
    if "precision" in change:
        assert found.losses != expected.losses
        assert all(p.dtype == torch.float32 for p in found.model.parameters())


class Poison(Watcher):
    """Spoils a weight after a step."""

    def __init__(self, at):
        self.at = at

    def step(self, step, loss, lr):
        if step == self.at:
            self.weight.data.fill_(math.nan)


def test_divergence_names_the_step_the_loss_and_the_last_good_checkpoint(tmp_path):
    model = mambaout.create_model(PLAIN.name, num_classes=4, **PLAIN.options())
    poison = Poison(4)
    poison.weight = model.head.fc2.weight
    machine = dataclasses.replace(CPU, checkpoint_steps=2)
    good = tmp_path / "checkpoint-00000002.pt"  # at step 4 the weights were spoilt already
    with pytest.raises(Diverged, match=rf"loss of step 5 is nan; .* The last good checkpoint: {good}"):
        quiet(short(), machine, folder=tmp_path, model=model, watchers=[poison])
    assert checkpoint.checkpoints(tmp_path) == [good] and checkpoint.load(good)["step"] == 2
    with pytest.raises(Diverged, match="There is no checkpoint"):
        quiet(short(lr=1e30, lr_batch=1, clip_norm=None))


def test_weights_spoilt_in_the_last_step_are_not_exported(tmp_path):
    model = mambaout.create_model(PLAIN.name, num_classes=4, **PLAIN.options())
    poison = Poison(6)
    poison.weight = model.head.fc2.weight
    with pytest.raises(Diverged, match="the weights after step 6 are no finite numbers. There is no checkpoint"):
        quiet(short(ema=None), folder=tmp_path, model=model, watchers=[poison])
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_model_of_ones_own_is_evaluated_by_its_architecture(tmp_path):
    model = mambaout.create_model("mambaout_zepto", num_classes=4)
    run = quiet(short(model=Model("mambaout_tiny")), folder=tmp_path, model=model)
    newest = checkpoint.checkpoints(tmp_path)[-1]
    for path in (newest, tmp_path):
        with pytest.raises(ValueError, match="does not say what model it belongs to: name its architecture"):
            evaluate(path, tiny_data())
    for path in (newest, tmp_path / "weights.safetensors"):  # both give the average, not the last step's weights
        report = evaluate(path, tiny_data(), architecture="mambaout_zepto", device="cpu")
        assert report.loss == pytest.approx(run.history[-1].test_loss)


def test_a_truncated_newest_checkpoint_costs_some_steps_only(tmp_path):
    machine = dataclasses.replace(CPU, checkpoint_steps=2)
    whole = quiet(short(), machine, folder=tmp_path)
    newest = checkpoint.checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="it may have been truncated"):
        again = quiet(short(), machine, folder=tmp_path)
    assert again.losses == whole.losses[-2:]
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_an_image_folder(photos, tmp_path):
    data = Data("folder", photos, image_size=32)
    augment = Augment(rand_augment=9, color_jitter=0.4, mixup=0.8, cutmix=1.0)
    model = Model("mambaout_atto64", 0.1, ("dims=(8, 8, 16)", "depths=(1, 1, 1)"))
    recipe = short(data=data, augment=augment, batch_size=4, model=model)
    run = quiet(recipe, dataclasses.replace(CPU, workers=1), folder=tmp_path, data=None)
    assert len(run.losses) == 4 and run.model.num_classes == 2
    report = evaluate(tmp_path, device="cpu", workers=0)
    assert report.images == 10 and report.classes == ("dark", "light") and report.top1 == run.history[-1].top1
    with pytest.raises(ValueError, match="shift, zoom and rotate are for embedded data"):
        quiet(dataclasses.replace(recipe, augment=Augment(shift=1)), data=None)
    (photos / "val" / "grey").mkdir()
    try:
        with pytest.raises(ValueError, match="the same class folders; only in one of them: grey"):
            quiet(recipe, data=None)
    finally:
        (photos / "val" / "grey").rmdir()
    with pytest.raises(ValueError, match="subset and holdout are for embedded data"):
        quiet(dataclasses.replace(recipe, data=dataclasses.replace(data, subset=4)), data=None)


def test_from_the_command_line(tmp_path, capsys):
    args = ["train", "fashion_mnist", "--out", str(tmp_path), "--epochs", "1", "--warmup-epochs", "0"]
    args += ["--device", "cpu", "--model.name", "mambaout_zepto", "--model.settings", "dims=(8,16)", "depths=(1,1)"]
    args += ["--data.subset", "256", "--data.holdout", "100"]
    assert main(args) == 0
    told = capsys.readouterr()
    assert "1 epochs, top-1" in told.out and "epoch 1: training loss" in told.err and "images/s" in told.err
    assert main([*args, "--lr", "1"]) == 1
    assert "follows another recipe (lr: 0.002 -> 1.0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train("imagenette"), "no recipe 'imagenette'; there are imagenet"),
        (lambda: quiet(short(), Machine(device="cpu", precision="fp16")), "fp16 needs a GPU"),
        (lambda: quiet(short(), Machine(device="cpu", micro_batch=3)), "cannot be divided"),
        (lambda: quiet(short(), Machine(device="cpu", micro_batch=0)), r"micro_batch must lie in \[1, inf\), got 0"),
        (lambda: Machine(device="gpu"), "device must be one of auto, cpu, cuda, mps; got 'gpu'"),
        (lambda: Machine(precision="fp8"), "precision must be one of fp32, bf16, fp16; got 'fp8'"),
        (lambda: quiet(short(), model=torch.nn.Flatten()), "set Flatten's attribute num_classes"),
        (lambda: quiet(short(), model=mambaout.create_model("mambaout_zepto")), "knows 10 classes, the data have 4"),
        (lambda: train(RECIPES["imagenet"], CPU), "data.folder is missing"),
    ],
)
def test_what_cannot_be_done_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="there is no cuda device here, only .*cpu; device=auto"):
        quiet(short(), Machine(device="cuda"))


def test_progress_is_told(tmp_path):
    out = io.StringIO()
    progress = logs.Progress(out)
    quiet(short(epochs=2), watchers=[progress])
    lines = out.getvalue().strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2: training loss") and lines[1].endswith("0 s left")
    assert [logs.duration(s) for s in (5, 100, 7500)] == ["5 s", "2 min", "2 h 05 min"]
