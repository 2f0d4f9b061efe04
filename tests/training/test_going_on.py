"""Runs that are stopped, stopped between checkpoint and evaluation, or given more epochs."""

import os
import signal

import pytest
import torch
from safetensors import safe_open
from tiny import tiny_data, tiny_recipe

from mambaout import cli
from mambaout.training import Interrupted, Machine, Tensors, Watcher, checkpoint, engine, evaluate, train
from mambaout.training.log import duration

CPU = Machine(device="cpu")
STEPS = 18


def quiet(recipe, folder=None, **options):
    return train(recipe, CPU, folder=folder, progress=False, **{"data": tiny_data()} | options)


class Kill(Watcher):
    """Sends this process a signal after a step."""

    def __init__(self, at, number):
        self.at, self.number = at, number

    def step(self, step, loss, lr):
        if step == self.at:
            os.kill(os.getpid(), self.number)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


@pytest.fixture(scope="module")
def expected():
    return quiet(tiny_recipe())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [4, 6, STEPS])  # within an epoch, at its end, at the very end
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(number, at, tmp_path, expected):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    if at < STEPS:
        with pytest.raises(Interrupted, match=f"stopped after step {at} of 18; the same command goes on from") as stop:
            quiet(tiny_recipe(), tmp_path, watchers=[Kill(at, number)])
        assert stop.value.signum == number
        assert checkpoint.load_newest(tmp_path)["step"] == at
        again = quiet(tiny_recipe(), tmp_path)
        assert again.losses == expected.losses[at:]
    else:
        again = quiet(tiny_recipe(), tmp_path, watchers=[Kill(at, number)])  # nothing is left to stop
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert same(again, expected) and [r.top1 for r in again.history] == [r.top1 for r in expected.history]


def test_a_second_signal_breaks_off_at_once(tmp_path):
    with pytest.raises(Interrupted, match="broken off at once; the last checkpoint stands"):
        quiet(tiny_recipe(), tmp_path, watchers=[Kill(4, signal.SIGINT), Kill(4, signal.SIGINT)])


def test_without_a_folder_ctrl_c_is_as_usual():
    with pytest.raises(KeyboardInterrupt) as stop:
        quiet(tiny_recipe(), watchers=[Kill(4, signal.SIGINT)])
    assert not isinstance(stop.value, Interrupted)


@pytest.mark.parametrize("stop", [lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: 1 / 0], ids=["signal", "error"])
def test_the_checkpoint_is_there_before_the_evaluation(stop, tmp_path, monkeypatch, expected):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "measure", lambda *_, **__: stop())
        with pytest.raises((Interrupted, ZeroDivisionError)):
            quiet(tiny_recipe(), tmp_path)
    assert checkpoint.load_newest(tmp_path)["step"] == 6 and not (tmp_path / "metrics.csv").exists()
    again = quiet(tiny_recipe(), tmp_path)  # evaluates first
    assert same(again, expected) and [r.top1 for r in again.history] == [r.top1 for r in expected.history]
    assert all(r.images_per_second > 0 and duration(r.seconds_left) for r in again.history)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Interrupted("stopped after step 3", signal.SIGTERM), 143, "mambaout: stopped after step 3"),
        (Interrupted("stopped after step 3", signal.SIGINT), 130, "mambaout: stopped after step 3"),
        (KeyboardInterrupt(), 130, "mambaout: interrupted"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), 1, "choose a smaller --micro-batch (CUDA out of"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), 1, "choose fewer --workers"),
        (OSError(28, "No space left on device", "x.csv"), 1, "No space left on device: 'x.csv'"),
    ],
)
def test_the_command_line_ends_with_one_line_and_the_signals_code(error, code, told, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mambaout.commands.train.train", fail)
    assert cli.main(["train", "stamps", "--out", "runs/a"]) == code
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


class Notes(Watcher):
    def __init__(self):
        self.notes, self.rates = [], []

    def note(self, text):
        self.notes.append(text)

    def step(self, step, loss, lr):
        self.rates.append(lr)


def test_more_epochs_go_on_at_the_rates_of_a_longer_run(tmp_path):
    first, told, longer = Notes(), Notes(), Notes()
    quiet(tiny_recipe(epochs=2), tmp_path, watchers=[first])
    run = quiet(tiny_recipe(epochs=5), tmp_path, watchers=[told])
    quiet(tiny_recipe(epochs=5), watchers=[longer])
    assert told.rates == longer.rates[12:] and told.rates[0] > 10 * first.rates[-1]
    assert len(told.notes) == 1
    assert told.notes[0].startswith("a run of 2 epochs goes on to 5: after step 12 the learning rate is that of a run")
    assert [row.epoch for row in run.history] == [1, 2, 3, 4, 5]
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata()["extended"] == "[[12, 2]]"
    with pytest.raises(ValueError, match="another recipe .epochs: 5 -> 4"):
        quiet(tiny_recipe(epochs=4), tmp_path)


def test_the_optimiser_too_has_the_longer_runs_rate(tmp_path, monkeypatch):
    quiet(tiny_recipe(epochs=2), tmp_path)
    used = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **options):
        used.append(self.param_groups[0]["lr"])
        return step(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    told = Notes()
    quiet(tiny_recipe(epochs=3), tmp_path, watchers=[told])
    assert used == pytest.approx(told.rates)


def reordered(data, order):
    """The same images with the classes in another order."""
    place = torch.tensor([order.index(i) for i in range(4)])
    labels = place[data.train_labels], place[data.test_labels]
    names = [data.classes[i] for i in order]
    return Tensors(data.train_images, labels[0], data.test_images, labels[1], names)


def test_classes_in_another_order_are_matched_by_name(tmp_path, expected):
    other = reordered(tiny_data(), [2, 0, 3, 1])
    with pytest.raises(Interrupted):
        quiet(tiny_recipe(), tmp_path, watchers=[Kill(7, signal.SIGINT)])
    again = quiet(tiny_recipe(), tmp_path, data=other)
    assert same(again, expected) and again.history[-1].top1 == expected.history[-1].top1
    found = evaluate(again.model, other, device="cpu")
    assert found.top1 == expected.history[-1].top1 and found.classes == tuple(tiny_data().classes)
    renamed = Tensors(other.train_images, other.train_labels, other.test_images, other.test_labels, "abcd")
    with pytest.raises(ValueError, match="tells apart nw, ne, sw, se; the data have a, b, c, d"):
        quiet(tiny_recipe(), tmp_path, data=renamed)
