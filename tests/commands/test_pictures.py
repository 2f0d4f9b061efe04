"""`mambaout predict` and `mambaout embed`: a training's folder, a file of weights or a name, and pictures on disk."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import tiny_data, tiny_recipe

import mambaout
from mambaout.cli import main
from mambaout.commands.pictures import Pictures, class_names, lens, open_model
from mambaout.commands.predict import predict
from mambaout.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A training of a second: bright quarters of 12 x 12 grey images."""
    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(epochs=2), data=tiny_data(), folder=folder)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two readable pictures, one deeper down, and one that is none."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos/deeper").mkdir(parents=True)
    for name, size in (("a.png", (40, 30)), ("deeper/b.JPG", (28, 50))):
        pixels = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos/c.jpg").write_text("<html>not found</html>")
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return tmp_path / "photos"


def weights_with_classes(path: Path, names: list[str]) -> str:
    model = mambaout.create_model("mambaout_zepto", num_classes=len(names))
    save_file(model.state_dict(), path, {"class_names": json.dumps(names)})
    return str(path)


def test_a_folder_becomes_a_table_and_a_grid(photos, tmp_path, capsys) -> None:
    names = ["bird", "cat", "dog", "élan", "fish", "goat", "horse"]
    weights = weights_with_classes(tmp_path / "w.safetensors", names)
    table, grid = tmp_path / "out.csv", tmp_path / "out.png"
    assert main(["predict", weights, str(photos), "--csv", str(table), "--grid", str(grid), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert f"left out: {photos / 'c.jpg'} cannot be read as a picture" in said.err and "notes.txt" not in said.err
    rows = list(csv.reader(table.open(encoding="utf-8")))
    assert rows[0][:3] == ["picture", "class_1", "probability_1"] and len(rows[0]) == 11
    assert [row[0] for row in rows[1:]] == [str(photos / "a.png"), str(photos / "deeper/b.JPG")]
    for row in rows[1:]:
        probabilities = [float(value) for value in row[2::2]]
        assert probabilities == sorted(probabilities, reverse=True) and len({*row[1::2]} & {*names}) == 5
        assert f"{row[0]}: {row[1]} {100 * probabilities[0]:.1f} %" in said.out
    assert Image.open(grid).width > 100


def test_a_model_sees_a_picture_as_its_training_did(run, tmp_path) -> None:
    data = tiny_data()
    for i in range(6):
        Image.fromarray(data.test_images[i].numpy()).resize((28, 28), 0).save(tmp_path / f"{i}.png")
    model = open_model(str(run))
    view = lens(model)
    expected = []
    for i in range(6):
        x = torch.from_numpy(np.array(Image.open(tmp_path / f"{i}.png"))).float() / 255
        expected.append(model((x[None, None] - 0.5) / 0.5).softmax(-1))
    found = predict(str(run), [tmp_path], top=4, device="cpu")
    for one, p in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(p[0].sort(descending=True).values.tolist(), abs=1e-5)
        assert set(one.classes) == {*class_names(model)}
    x = view.prepare(Image.open(tmp_path / "0.png").convert(view.mode))
    seen = view.seen(x[None])[0].numpy()
    np.testing.assert_allclose(seen, np.array(Image.open(tmp_path / "0.png")) / 255, atol=1e-6)


def test_released_models_know_the_names_of_their_classes() -> None:
    assert class_names(open_model("mambaout_fashion"))[0] == "T-shirt/top"
    tiny = mambaout.create_model("mambaout_tiny", depths=(1, 1, 1, 1))
    assert len(class_names(tiny)) == 1000 and class_names(tiny)[0] == "tench"
    twelve = mambaout.create_model("mambaout_base_plus_rw.sw_e150_in12k", depths=(1,) * 4, dims=(8,) * 4)
    assert class_names(twelve)[-1] == "11820", "names that are not known are numbers"


def test_a_model_for_384_pixels_squashes_and_one_for_grey_takes_the_mean() -> None:
    squashing = mambaout.create_model(
        "mambaout_base_plus_rw.sw_e150_r384_in12k_ft_in1k", depths=(1,) * 4, dims=(8,) * 4
    )
    wide = Image.new("RGB", (100, 50))
    wide.paste((255, 255, 255), (0, 0, 20, 50))  # a crop of the centre would lose it
    view = lens(squashing)
    x = view.prepare(wide)
    assert x.shape == (3, 384, 384) and view.seen(x[None])[0, 200, 5].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    grey = mambaout.create_model("mambaout_femto", checkpoint_path=mambaout.create_model(
        "mambaout_femto", in_chans=1, depths=(1,) * 4).state_dict(), depths=(1,) * 4)  # fmt: skip
    view = lens(grey)
    assert view.mode == "L" and view.mean.flatten().tolist() == pytest.approx([0.449], abs=1e-3)
    with pytest.raises(ValueError, match="pictures have 1 or 3 channels, but this model takes 2"):
        lens(mambaout.create_model("mambaout_zepto", checkpoint_path=mambaout.create_model(
            "mambaout_zepto", in_chans=2).state_dict()))  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_features_are_what_the_last_layer_reads(photos, run, suffix, tmp_path, capsys) -> None:
    out = tmp_path / f"features{suffix}"
    assert main(["embed", str(run), str(photos), "--out", str(out), "--device", "cpu"]) == 0
    assert "2 pictures, 64 features each" in capsys.readouterr().out
    if suffix == ".npz":
        with np.load(out) as file:
            pictures, features = file["pictures"].tolist(), file["features"]
    else:
        header, *rows = csv.reader(out.open(encoding="utf-8"))
        assert header[:2] == ["picture", "feature_0"]
        pictures, features = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    assert pictures == [str(photos / "a.png"), str(photos / "deeper/b.JPG")]
    model = open_model(str(run))
    view = lens(model)
    x = torch.stack([view.prepare(Image.open(path).convert(view.mode)) for path in pictures])
    model.reset_classifier(0)
    with torch.no_grad():
        np.testing.assert_allclose(features, model(x), rtol=1e-4, atol=1e-5)


def test_workers_decode_many_pictures(photos, run, tmp_path) -> None:
    for i in range(6):
        Image.new("RGB", (20, 20), (i, i, i)).save(tmp_path / f"{i}.png")
    found = predict(str(run), [tmp_path / f"{i}.png" for i in (5, 2, 0)], batch_size=2, workers=2, device="cpu")
    assert [one.path.name for one in found] == ["5.png", "2.png", "0.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "mambaout_fashion", "absent.png"], "there is no picture or folder absent.png"),
        (["predict", "mambaout_fashion", "empty"], "there are no pictures in empty; they end in .bmp"),
        (["predict", "mambaout_fashion", "c.jpg"], "none of the 1 pictures can be read; c.jpg cannot be read as"),
        (["predict", "runs/absent", "a.png"], "there is no file or folder runs/absent, and no model of that name"),
        (["predict", "mambaout_fashio", "a.png"], "unknown model 'mambaout_fashio': did you mean mambaout_fashion"),
        (["predict", "empty", "a.png"], "empty has neither weights.safetensors nor a checkpoint"),
        (["predict", "mambaout_zepto", "a.png"], "no released weights for mambaout_zepto"),
        (["predict", "mambaout_fashion", "a.png", "--csv", "absent/x.csv"], "cannot write absent/x.csv"),
        (["predict", "mambaout_fashion", "a.png", "--grid", "x.colour"], "cannot write x.colour"),
        (["embed", "mambaout_fashion", "a.png", "--out", "x.txt"], "--out must end in .npz or .csv, got x.txt"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(arguments, message, photos, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photos)
    Path("empty").mkdir()
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()
    assert any(message in line for line in error) and "Traceback" not in "".join(error)


def test_the_last_layer_is_needed_to_predict(tmp_path, photos, capsys) -> None:
    model = mambaout.create_model("mambaout_zepto", num_classes=0)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert main(["predict", str(tmp_path / "w.pth"), str(photos)]) == 1
    assert "has no classes to tell" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_help(command, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "IMAGE ..." in said and "--batch-size" in said


def test_pictures_of_16_bits_keep_their_range(tmp_path: Path) -> None:
    """As in training: Pillow's own conversion would cut all above 255 to white."""
    values = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "8.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "16.png")
    pictures = Pictures([tmp_path / "8.png", tmp_path / "16.png"], lambda image: torch.tensor(np.asarray(image)), "L")
    assert torch.equal(pictures[0], torch.tensor(values)) and torch.equal(pictures[1], pictures[0])
