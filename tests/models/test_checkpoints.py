"""Checkpoints as trainers write them: wrapped, averaged, with settings beside, half-precision, or something else."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from every_model import SMALLER, images, make, settings
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

import mambaout
from mambaout.models import to_timm
from mambaout.models.checkpoints import read_checkpoint

FEMTO = {"dims": SMALLER["dims"], "depths": SMALLER["depths"]}


@pytest.fixture
def model():
    return make("mambaout_femto").eval()


def doubled(state):
    return {name: 2 * tensor for name, tensor in state.items()}


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


FORMS = {
    "timm": lambda s: {"arch": "mambaout_femto", "state_dict": doubled(s), "state_dict_ema": s, "epoch": 3},
    "authors": lambda s: {"model": doubled(s), "model_ema": s, "optimizer": {"state": {}, "param_groups": []}},
    "ours": lambda s: {"step": 4, "model": doubled(s), "ema": s},
    "nested": lambda s: {"model": {"state_dict": s}},
    "DDP": lambda s: prefixed(s, "module."),
    "compiled DDP": lambda s: {"state_dict": prefixed(s, "module._orig_mod.")},
    "compiled in DDP": lambda s: prefixed(s, "_orig_mod.module."),
    "Lightning": lambda s: {"state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(5)}},
    "Lightning with an average": lambda s: {"state_dict": prefixed(doubled(s), "model.") | prefixed(s, "ema_model.")},
    "torch's average": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(7)},
    "a backbone": lambda s: {"state_dict": prefixed(s, "backbone.")},
    "timm's names": lambda s: {"state_dict": prefixed(to_timm(s), "module.")},
    "half": lambda s: {name: tensor.half() for name, tensor in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_weights_that_its_training_would_use(model, form, tmp_path):
    expected = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    content = FORMS[form](expected)
    torch.save(content, tmp_path / "w.pth")
    for source in (content, tmp_path / "w.pth"):
        found = mambaout.load_weights(make("mambaout_femto"), source).state_dict()
        assert all(torch.equal(expected[name], tensor) for name, tensor in found.items())
        assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_the_average_that_torch_makes(model, tmp_path):
    torch.save(AveragedModel(model).state_dict(), tmp_path / "w.pth")
    mambaout.load_weights(make("mambaout_femto"), tmp_path / "w.pth")


def test_settings_and_numpys_numbers_beside_the_weights(model, tmp_path):
    about = {
        "args": argparse.Namespace(lr=1e-3, output=Path("out"), amp=True),
        "best": np.float64(0.75), "epoch": np.int64(3), "done": np.bool_(True), "losses": np.zeros(3, np.float32),
        "version": torch.__version__,
    }  # fmt: skip
    torch.save({"model": model.state_dict(), **about}, tmp_path / "w.pth")
    mambaout.load_weights(make("mambaout_femto"), tmp_path / "w.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals(), "allowed for this file alone"


class Trainer:
    """Somebody's own type."""


def one_sentence(message):
    return "\n" not in message and "Traceback" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda m: m, r"holds an object of type mambaout\.models\.mambaout\.MambaOut, .* save the state dict alone"),
        (lambda m: {"model": m.state_dict(), "trainer": Trainer()}, r"type \S*Trainer, and reading it could run code"),
        (lambda m: list(m.state_dict().values()), "expected tensors by name, got list"),
        (lambda m: {"state_dict": {}, "epoch": 3}, r"by name, got state_dict \(nothing\), epoch \(int\)"),
        (lambda m: {}, "expected tensors by name, got nothing"),
        (lambda m: torch.ones(3), "expected tensors by name, got Tensor"),
        (lambda m: {k: (100 * v).to(torch.int8) for k, v in m.state_dict().items()}, "expected floating point .*int8"),
        (lambda m: {k: v.to(torch.float8_e5m2) for k, v in m.state_dict().items()}, "expected floating .*float8_e5m2"),
        (lambda m: {"a.weight": torch.ones(1)}, "does not fit this MambaOut: it lacks .*; it has besides a.weight"),
    ],
)
def test_what_cannot_be_loaded_is_named_in_one_sentence(model, content, message, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(content(model), tmp_path / "w.pth")
    with pytest.raises(mambaout.WeightsError, match=message) as error:
        mambaout.load_weights(model, tmp_path / "w.pth")
    assert one_sentence(str(error.value))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_integers_in_safetensors_are_refused(model, tmp_path):
    save_file({name: tensor.int() for name, tensor in model.state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(mambaout.WeightsError, match="expected floating point numbers .* got .*int32 and"):
        mambaout.load_weights(model, tmp_path / "w.safetensors")


# Into other shapes


@pytest.mark.parametrize("name", ["mambaout_femto", "vit_ti", "mambaout_fashion"])
def test_another_head_and_other_channels_on_request(name):
    trained = make(name, num_classes=7).eval()
    other = make(name, num_classes=3, in_chans=1 if trained.in_chans == 3 else 2).eval()
    with pytest.raises(mambaout.WeightsError, match="shapes differ"):
        mambaout.load_weights(other, trained.state_dict())
    head = other.get_classifier().weight.clone()
    mambaout.load_weights(other, trained.state_dict(), adapt=True)
    assert torch.equal(other.get_classifier().weight, head)
    x = torch.randn(1, 1, 32, 32)
    found, expected = (m.forward_features(x.expand(1, m.in_chans, 32, 32)) for m in (other, trained))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    without = {key: value for key, value in trained.state_dict().items() if not key.startswith(trained.classifier)}
    mambaout.load_weights(other, without, adapt=True)
    mambaout.load_weights(make(name, num_classes=0), trained.state_dict(), adapt=True)


def test_a_meta_model_comes_to_life(model):
    with torch.device("meta"):
        whole, other = make("mambaout_femto"), make("mambaout_femto", num_classes=4)
        features = make("mambaout_femto", features_only=True, out_indices=(1,))
    x = images(model)
    assert torch.equal(mambaout.load_weights(whole.eval(), model.state_dict())(x), model(x))
    mambaout.load_weights(other.eval(), model.state_dict(), adapt=True)
    assert other(x).isfinite().all() and other.head.fc2.weight.std() < 0.1 and not other.head.fc2.bias.any()
    (found,) = mambaout.load_weights(features.eval(), model.state_dict())(x)
    assert torch.equal(found, model.forward_intermediates(x)[1][1])


def test_create_model_takes_the_shape_that_stands_in_the_file(tmp_path):
    trained = make("mambaout_femto", num_classes=7, in_chans=2).eval()
    torch.save({"model_ema": trained.state_dict(), "model": doubled(trained.state_dict())}, tmp_path / "w.pth")
    x = images(trained)
    for source in (tmp_path / "w.pth", trained.state_dict()):
        model = mambaout.create_model("mambaout_femto", checkpoint_path=source, **FEMTO).eval()
        assert torch.equal(model(x), trained(x)) and model.pretrained_cfg["input_size"] == (2, 224, 224)
        assert "url" not in model.pretrained_cfg, "these are not the released weights"
    other = mambaout.create_model("mambaout_femto", checkpoint_path=tmp_path / "w.pth", num_classes=3, **FEMTO).eval()
    assert other(x).shape == (1, 3) and torch.equal(other.forward_features(x), trained.forward_features(x))
    features = mambaout.create_model("mambaout_femto", checkpoint_path=tmp_path / "w.pth", features_only=True, **FEMTO)
    assert torch.equal(features.eval()(x)[-1], trained.forward_intermediates(x)[1][-1])
    with pytest.raises(ValueError, match="choose one of pretrained and checkpoint_path"):
        mambaout.create_model("mambaout_femto", pretrained=True, checkpoint_path=tmp_path / "w.pth")


# From the file alone


@pytest.mark.parametrize("name", ["mambaout_zepto", "mambaout_atto64", "visual_mamba_iso", "mambaout_small_rw"])
def test_a_file_of_weights_is_recognised_by_its_shapes(name, tmp_path):
    trained = mambaout.create_model(name, num_classes=5, in_chans=2).eval()
    save_file(to_timm(trained.state_dict()), tmp_path / "w.safetensors")
    model = mambaout.create_model(str(tmp_path / "w.safetensors")).eval()
    assert model.pretrained_cfg["architecture"] == name and model.cfg == trained.cfg
    x = images(trained)
    assert torch.equal(model(x), trained(x))


def recipe(name, model_settings, image_size=None):
    model = {"name": name, "drop_path_rate": None, "settings": model_settings, "pretrained": False}
    return json.dumps({"model": model, "data": {"name": "folder", "image_size": image_size}})


def test_a_run_tells_its_model_and_its_classes(tmp_path):
    names = ["cat", "dog", "élan"]
    trained = make("mambaout_femto", num_classes=3).eval()
    written = recipe("mambaout_femto", [f"dims={FEMTO['dims']}", f"depths={FEMTO['depths']}"], 64)
    told = {"num_classes": "3", "in_chans": "3"}
    x = images(trained)
    torch.save(
        {"step": 1, "model": doubled(trained.state_dict()), "ema": None, "recipe": written, "about": told},
        tmp_path / "checkpoint-00000001.pt",
    )
    torch.save(
        {"step": 2, "model": doubled(trained.state_dict()), "ema": trained.state_dict(), "recipe": written,
         "about": told, "class_names": names},
        tmp_path / "checkpoint-00000002.pt",
    )  # fmt: skip
    for _ in range(2):  # from the newest checkpoint, then from what the finished training leaves
        model = mambaout.create_model(tmp_path).eval()
        assert torch.equal(model(x), trained(x)) and model.cfg == trained.cfg
        cfg = model.pretrained_cfg
        assert cfg["label_names"] == tuple(names) and cfg["input_size"] == (3, 64, 64) and cfg["num_classes"] == 3
        metadata = {"format": "pt", "recipe": written, "class_names": json.dumps(names), **told}
        save_file(trained.state_dict(), tmp_path / "weights.safetensors", metadata)
    first = mambaout.create_model(tmp_path / "checkpoint-00000001.pt").eval()
    assert "label_names" not in first.pretrained_cfg
    assert mambaout.load_weights(first, tmp_path) is first and torch.equal(first(x), trained(x))
    other = mambaout.create_model(tmp_path, num_classes=4, features_only=False)
    assert other.num_classes == 4 and "label_names" not in other.pretrained_cfg


def test_what_stands_beside_the_weights_may_be_anything(tmp_path, model):
    odd = {"recipe": "{"}, {"recipe": 3, "class_names": 4}, {"about": [], "class_names": "[1]"}, {"arch": "x"}
    for beside in odd:
        torch.save({"model": model.state_dict(), **beside}, tmp_path / "w.pth")
        found = read_checkpoint(tmp_path / "w.pth")
        assert found.class_names is None and found.settings == () and len(found.state) == len(model.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "empty has neither weights.safetensors nor a checkpoint: is it the folder of a training"),
        ("absent/run", "there is no file or folder absent/run, and no model of that name"),
        ("absent.pth", "there is no file or folder absent.pth"),
        ("odd.pth", "does not say what model it belongs to, and its weights have the shapes of none"),
    ],
)
def test_sources_that_are_none(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    torch.save(make("mambaout_femto").state_dict(), "odd.pth")
    with pytest.raises(ValueError, match=message):
        mambaout.create_model(name)


def test_a_run_brings_its_own_weights(tmp_path):
    save_file(make("mambaout_zepto").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="brings its own weights: leave out pretrained"):
        mambaout.create_model(tmp_path / "w.safetensors", pretrained=True)
    assert settings("mambaout_zepto") == {}
