"""Folders of images as people have them: without a split, odd, damaged, changed since."""

import dataclasses
import multiprocessing
import os
import re
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_recipe

from mambaout.cli import main
from mambaout.training import Augment, Data, ImageError, Machine, Model, Watcher, evaluate, train
from mambaout.training.decode import decode, find_damaged
from mambaout.training.folders import held_back, read_folder, read_for_evaluation
from mambaout.training.signals import leave_to_parent

CPU = Machine(device="cpu", workers=0)
GREY = Model("mambaout_zepto", 0.0, ("dims=(8, 16)", "depths=(1, 1)"))


def paint(path, level, size=(20, 24), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(int(level)).integers(0, 40, (*size, 3)).astype(np.uint8)
    Image.fromarray(noise + np.uint8(level)).convert(mode).save(path)


@pytest.fixture
def mine(tmp_path):
    """Three classes, twelve images each, no split."""
    for name, level in (("apple", 30), ("pear", 110), ("plum", 200)):
        for i in range(12):
            paint(tmp_path / "mine" / name / f"{i:02}.png", level, mode="L" if name == "plum" else "RGB")
    return tmp_path / "mine"


def recipe(folder, **changes):
    data = Data("folder", folder, 16, **changes.pop("data", {}))
    settings = {"model": GREY, "data": data, "augment": Augment(crop=0.8, erase=0), "batch_size": 8, "epochs": 2}
    return tiny_recipe(**settings | {"warmup_epochs": 0, "ema": None, "lr": 1e-2} | changes)


def quiet(recipe, folder=None, **options):
    return train(recipe, CPU, folder=folder, progress=False, **options)


# Division


def test_a_fifth_of_each_class_is_held_back_by_name(mine):
    folder = read_folder(Data(folder=mine))
    assert folder.classes == ("apple", "pear", "plum") and len(folder.train) + len(folder.val) == 36
    assert not set(folder.train) & set(folder.val) and {label for _, label in folder.val} == {0, 1, 2}
    assert "a fifth of the files" in str(folder) and "3 classes" in str(folder)
    assert read_for_evaluation(Data(folder=mine)).val == folder.val
    assert len(read_for_evaluation(Data(folder=mine), whole=True).val) == 36
    assert read_folder(Data(folder=mine, division=1)).val != folder.val


def test_a_folder_that_grows_keeps_what_it_held_back():
    before = [(f"a/{i}.jpg", 0) for i in range(1000)]
    after = before + [(f"a/{i}.jpg", 0) for i in range(1000, 2000)]
    assert held_back(after, 0) & set(before) == held_back(before, 0)
    assert 150 < len(held_back(before, 0)) < 250
    for count in (1, 2, 3):
        assert 1 - (count == 1) <= len(held_back(before[:count], 0)) < max(2, count)


def test_other_files_are_counted_and_hidden_ones_ignored(mine):
    (mine / "apple" / "photo.HEIC").write_bytes(b"x")
    (mine / "apple" / ".DS_Store").write_bytes(b"x")
    (mine / ".git").mkdir()
    folder = read_folder(Data(folder=mine))
    assert len(folder.classes) == 3 and str(folder).endswith("left out, as no images by their names: 1 .heic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [(f / name).rename(f.parent / name) for name in ("pear", "plum")], "one class folder, apple: to"),
        (lambda f: [p.unlink() for p in (f / "plum").iterdir()], "no images of the classes plum: add some"),
        (lambda f: (f / "train").mkdir(), "there is no folder .*/val: images are expected in train/CLASS/"),
        (lambda f: f.rename(f.parent / "moved"), "there is no folder .*mine: data.folder is the one"),
        (lambda f: [(f / name).rename(f.parent / name) for name in ("apple", "pear", "plum")], "has no class folders"),
    ],
)
def test_what_is_no_folder_to_learn_from(mine, change, message):
    change(mine)
    with pytest.raises(ValueError, match=message):
        quiet(recipe(mine))


# Odd and damaged images


def test_sixteen_bits_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "deeper.tiff")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "fraction.tiff")
    for name in ("deep.png", "deeper.tiff", "fraction.tiff"):
        pixels = np.asarray(decode(tmp_path / name))
        assert pixels.shape == (16, 16, 3) and np.abs(pixels[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "unknown.tiff")
    with pytest.raises(ImageError, match="expected fractions from 0 to 1, found values from 0 to 65535"):
        decode(tmp_path / "unknown.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    ending = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    paint(tmp_path / f"x.{ending}", 200, mode=mode)
    assert decode(tmp_path / f"x.{ending}").mode == "RGB"


def test_a_photo_taken_upright_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it as it was taken
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert decode(tmp_path / "x.jpg").size == (20, 30)


def test_what_is_wrong_with_an_image_is_said_in_one_line(mine, monkeypatch):
    good = (mine / "apple" / "00.png").read_bytes()
    wrong = {
        "apple/01.png": (good[: len(good) // 2], "truncated"),
        "apple/02.png": (b"", "it is empty"),
        "apple/03.png": (b"<!DOCTYPE html><html>404</html>", "a web page"),
        "apple/04.png": (b"RIFFxxxxxxxx", "it begins with 52 49 46 46"),
    }
    for name, (content, _) in wrong.items():
        (mine / name).write_bytes(content)
    paint(mine / "pear" / "00.png", 0, size=(60, 60))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    wrong["pear/00.png"] = (b"", "over the limit of pixels")
    names = [name for name, _ in (*read_folder(Data(folder=mine)).train, *read_folder(Data(folder=mine)).val)]
    found = dict(find_damaged(mine, names, progress=False))
    assert found.keys() == wrong.keys()
    for name, (_, reason) in wrong.items():
        assert str(mine / name) in found[name] and reason in found[name] and "\n" not in found[name]


def in_training(folder):
    """The name of an image that is trained on."""
    return read_folder(Data(folder=folder)).train[0][0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_a_training_with_its_name_and_a_checkpoint(mine, tmp_path, workers):
    bad = mine / in_training(mine)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:60])
    machine = dataclasses.replace(CPU, workers=workers)
    with pytest.raises(ImageError) as caught:
        train(recipe(mine), machine, folder=tmp_path / "run", progress=False)
    told = str(caught.value)
    assert told.startswith(f"{bad} cannot be read as an image: ") and "--data.skip-damaged" in told
    assert "\n" not in told and "goes on after step" in told and "Traceback" not in told
    bad.write_bytes(whole)
    again = train(recipe(mine), machine, folder=tmp_path / "run", progress=False)
    expected = quiet(recipe(mine))
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), expected.model.parameters(), strict=True))


def work(ready):
    leave_to_parent()
    ready.set()
    time.sleep(60)


def test_workers_leave_signals_to_the_training():
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    worker = fork.Process(target=work, args=(ready,))
    worker.start()
    assert ready.wait(30)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    worker.join(0.3)
    assert worker.is_alive()
    worker.kill()
    worker.join()


def test_damaged_images_are_skipped_with_a_count(mine, tmp_path):
    before = read_folder(Data(folder=mine))
    for name in (before.train[0][0], before.val[0][0]):
        (mine / name).write_bytes(b"")
    told = Notes()
    run = quiet(recipe(mine, data={"skip_damaged": True}), tmp_path / "run", watchers=[told])
    assert (len(run.data.train), len(run.data.val)) == (len(before.train) - 1, len(before.val) - 1)
    assert told.notes[-1].endswith("2 damaged ones skipped") and "it is empty" in told.notes[0]
    quiet(recipe(mine, data={"skip_damaged": True}), tmp_path / "run")  # the same folder still


class Notes(Watcher):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_doctor_reads_every_image(mine, capsys):
    assert main(["doctor", "--folder", str(mine)]) == 0
    told = capsys.readouterr().out
    assert "36 can be read" in told and re.search(r"plum +\d+ training and \d+ test images", told)
    (mine / "pear" / "03.png").write_bytes(b"")
    assert main(["doctor", "--folder", str(mine)]) == 1
    assert "pear/03.png cannot be read as an image: it is empty" in capsys.readouterr().out
    assert main(["doctor", "--folder", str(mine / "pear")]) == 1
    assert "no class folders" in capsys.readouterr().err


# Runs and evaluation by names


def test_a_changed_folder_is_refused_with_both_counts(mine, tmp_path):
    quiet(recipe(mine), tmp_path / "run")
    name = in_training(mine)
    (mine / name).rename(mine / f"{name}.png")
    with pytest.raises(ValueError, match=r"has changed since .*: then \d+ training and \d+ test images, now"):
        quiet(recipe(mine), tmp_path / "run")
    (mine / f"{name}.png").rename(mine / name)
    mine.rename(mine.parent / "moved")
    quiet(recipe(mine.parent / "moved"), tmp_path / "run")


def test_classes_are_matched_by_name(mine, tmp_path):
    run = quiet(recipe(mine, epochs=12), tmp_path / "run")
    assert run.history[-1].top1 > 0.9, "the test says nothing of a model that guesses"
    some = tmp_path / "some"
    (some / "val").mkdir(parents=True)
    for name in ("plum", "apple"):
        (mine / name).rename(some / "val" / name)
    for what in (tmp_path / "run", tmp_path / "run" / "weights.safetensors", run.model):
        report = evaluate(what, Data("folder", some, 16), device="cpu", workers=0, batch_size=23)  # 23 and 1
        assert report.images == 24 and report.top1 > 0.9 and report.classes == ("apple", "pear", "plum")
    (some / "val" / "plum").rename(some / "val" / "prune")
    with pytest.raises(ValueError, match="does not know the classes prune of the data; it knows apple, pear, plum"):
        evaluate(tmp_path / "run", Data("folder", some, 16), device="cpu", workers=0)


def test_evaluation_of_a_folder_without_a_split(mine, tmp_path, capsys):
    run = quiet(recipe(mine), tmp_path / "run")
    arguments = ["evaluate", str(tmp_path / "run"), "--folder", str(mine), "--workers", "0"]  # 16 pixels, as the run
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert f"{len(run.data.val)} images: top-1 {100 * run.history[-1].top1:.2f} %" in told and "--whole" in told
    assert main([*arguments, "--whole"]) == 0
    assert "36 images: top-1" in capsys.readouterr().out
