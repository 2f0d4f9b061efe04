"""ONNX files equal PyTorch; the page's graphs too, with every switch, and their gradients."""

import itertools
import json
import struct

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from mambaout import create_model
from mambaout.analysis.receptive_field import effective_receptive_field
from mambaout.cli import main
from mambaout.export import export_onnx, live_model
from mambaout.export.live import Opened, external
from mambaout.export.operators import translate
from mambaout.export.tracing import trace
from mambaout.files.data import find
from mambaout.kernels.scan import parallel_scan
from mambaout.models.weights import OWN

SMALL = {"depths": (1, 2), "dims": (16, 24)}
MIXERS = ("gated_cnn", "mamba")


def small(mixer, **options):
    torch.manual_seed(0)
    model = create_model("mambaout_fashion", token_mixer=mixer, **SMALL, **options).eval()
    for p in model.parameters():
        p.data += 0.2 * torch.randn_like(p)  # away from the start, where biases are 0 and blocks do little
    return model


@pytest.fixture(scope="module", params=MIXERS)
def exported(request, tmp_path_factory):
    """A small model, what the page gets of it, and sessions of both graphs."""
    folder = tmp_path_factory.mktemp(request.param)
    model = small(request.param)
    save_file(model.state_dict(), folder / "trained.safetensors")
    live = live_model(model, folder / "trained.safetensors")
    live.write(folder / "live")
    files = [folder / "live" / f"{name}.onnx" for name in ("forward", "gradient")]
    for file in files:
        onnx.checker.check_model(file)
    sessions = [onnxruntime.InferenceSession(file) for file in files]
    return model, live, *sessions


def image(seed=0):
    return torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def switches(live, value=1.0):
    return np.full((len(live.blocks), len(live.parts)), value, np.float32)


def test_all_on_it_is_the_model(exported):
    model, live, forward, _ = exported
    x = image()
    found = dict(zip([o.name for o in forward.get_outputs()],
                     forward.run(None, {"image": x.numpy(), "switches": switches(live)}), strict=True))  # fmt: skip
    with torch.no_grad():
        np.testing.assert_allclose(found["probabilities"], model(x).softmax(-1), atol=1e-5)
        for i, y in enumerate(model.forward_intermediates(x, intermediates_only=True)):
            np.testing.assert_allclose(found[f"map{i}"], y, atol=1e-4)
    assert [list(found[f"map{i}"].shape[1:]) for i in range(2)] == live.maps
    for b, block in enumerate(live.blocks):
        channels = block["gate"] + block["identity"] + block["convolved"]
        assert found[f"block{b}"].shape == (1, channels, block["height"], block["width"])


def test_every_combination_of_switches_is_what_the_opened_model_computes(exported):
    model, live, forward, _ = exported
    opened, x, seen = Opened(model), image(1), []
    for on in itertools.product((0.0, 1.0), repeat=len(live.parts)):
        chosen = switches(live)
        chosen[1] = on
        (found,) = forward.run(["probabilities"], {"image": x.numpy(), "switches": chosen})
        with parallel_scan(), torch.no_grad():
            np.testing.assert_allclose(found, opened(x, torch.from_numpy(chosen))[0], atol=1e-5)
        seen.append(found)
    assert len(np.unique(np.round(seen, 6), axis=0)) == 2 ** len(live.parts), "each switch must change something"


def test_off_means_what_the_page_says(exported):
    """Without its gate, convolution and SSM a block is a plain MLP of its parts, written here by hand."""
    model, live, forward, _ = exported
    (off,) = forward.run(["probabilities"], {"image": image().numpy(), "switches": switches(live, 0.0)})
    with torch.no_grad():
        x = model.stem(image())
        for stage in model.stages:
            x = stage.downsample(x)
            for block in stage.blocks:
                _, identity, z = block.fc1(block.norm(x)).split(block.split, -1)
                z = torch.nn.functional.gelu(z) if len(live.parts) == 3 else z  # Eq. 11 has a GELU before its SSM
                x = x + block.fc2(torch.cat((identity, z), -1))
        np.testing.assert_allclose(off, model.head(x).softmax(-1), atol=1e-5)


@pytest.mark.parametrize(("stage", "location"), [(0, (0, 0)), (0, (13, 6)), (1, (3, 3)), (1, (6, 0))])
def test_the_field_is_the_librarys(exported, stage, location):
    model, live, _, gradient = exported
    x = image(2)
    cotangents = [np.zeros((1, *shape), np.float32) for shape in live.maps]
    cotangents[stage][0, :, location[0], location[1]] = live.signs[stage]
    feeds = {"image": x.numpy(), "switches": switches(live)} | {f"cotangent{i}": c for i, c in enumerate(cotangents)}
    (found,) = gradient.run(None, feeds)
    expected = effective_receptive_field(model, x, stage, location, progress=False).map
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    if stage == 0 and location == (0, 0) and len(live.parts) == 2:
        assert (found == 0).any(), "a corner of the first stage of a convolutional model does not see everything"


def test_the_weights_stay_in_their_file(exported):
    _, live, *_ = exported
    for graph in (live.forward, live.gradient):
        model = onnx.load_model_from_string(graph)
        inside = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert sum(len(t.SerializeToString()) for t in inside) < 30_000


def test_signs_and_normalisation_are_the_librarys(exported):
    model, live, *_ = exported
    assert (live.mean, live.std) == (0.5, 0.5) == (*model.pretrained_cfg["mean"], *model.pretrained_cfg["std"])
    assert [len(signs) for signs in live.signs] == [16, 24] and {s for row in live.signs for s in row} == {-1, 1}


class TestRefusals:
    def test_of_another_model(self, tmp_path):
        with pytest.raises(ValueError, match="expected a MambaOut, got ViT"):
            live_model(create_model("vit_ti", depth=1), tmp_path / "x")
        with pytest.raises(ValueError, match="expected Gated CNN blocks"):
            live_model(small("attention", head_dim=8), tmp_path / "x")
        with pytest.raises(ValueError, match="in raster order"):
            live_model(small("mamba", scan="cross"), tmp_path / "x")

    def test_of_weights_of_another_model(self, tmp_path):
        save_file(create_model("mambaout_zepto").state_dict(), tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=r"holds no .* in float32"):
            live_model(small("gated_cnn"), tmp_path / "other.safetensors")

    def test_of_half_precision(self):
        content = json.dumps({"w": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        with pytest.raises(ValueError, match=r"no w of \(2,\) in float32"):
            external(struct.pack("<Q", len(content)) + content + bytes(4), {"w": torch.zeros(2)})

    def test_of_an_operation_without_translation(self):
        graph = trace(lambda x: torch.atan(x), torch.zeros(2))
        with pytest.raises(NotImplementedError, match="aten.atan.default has no translation"):
            translate(graph, [], ["x"], ["y"])

    def test_of_the_gradient_of_weights(self):
        def function(w, x):
            return torch.func.vjp(lambda w: torch.conv2d(x, w), w)[1](torch.ones(1, 1, 2, 2))[0]

        with pytest.raises(NotImplementedError, match="not of its weights"):
            trace(function, torch.ones(1, 1, 3, 3), torch.ones(1, 1, 4, 4))


def check(function, *example):
    """A function of tensors and its translation give the same numbers."""
    names = [f"x{i}" for i in range(len(example))]
    model = translate(trace(function, *example), [], names, ["y"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {name: x.numpy() for name, x in zip(names, example, strict=True)})
    np.testing.assert_allclose(found, function(*example), atol=1e-5)
    return model


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 1:3], lambda x: x[:, -2], lambda x: x[:, 2:], lambda x: 1 - x, lambda x: x - 2 * x / 3,
        lambda x: torch.nn.functional.pad(x, (1, 0, 0, 2), value=0.5), lambda x: x.sum((0, 2), keepdim=True),
        lambda x: x.mean(1), lambda x: x.permute(2, 0, -2), lambda x: x.unsqueeze(-1).expand(-1, -1, -1, 2),
        lambda x: torch.cat((x, x.abs()), -1), lambda x: x.flatten(1).softmax(-1), lambda x: x[0].t() @ x[1],
        lambda x: torch.sigmoid(x) + torch.nn.functional.softplus(x), lambda x: x.split((1, 3), 1)[1].clone().detach(),
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"), lambda x: torch.erf(-x).exp().squeeze(0),
    ],
)  # fmt: skip
def test_operations_one_by_one(function):
    check(function, torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_gradient_of_a_convolution_at_its_edges(size, stride):
    """Where the stride does not divide the size, some rows are read by nobody."""
    torch.manual_seed(0)
    w, x = torch.randn(4, 2, 3, 3), torch.randn(1, 2, size, size)
    conv = lambda x: torch.conv2d(x, w, stride=stride, padding=1)  # noqa: E731
    y = torch.randn_like(conv(x))

    def gradient(w, x, y):
        return torch.func.vjp(lambda x: torch.conv2d(x, w, stride=stride, padding=1), x)[1](y)[0]

    check(gradient, w, x, y)


# For one's own use


def test_a_file_runs_at_any_batch_size(tmp_path):
    model = create_model("mambaout_fashion", token_mixer="mamba", d_state=2, depths=(1,), dims=(8,)).train()
    model.stages[0].blocks[0].eval()  # some of it frozen
    modes = [module.training for module in model.modules()]
    out = tmp_path / "folder" / "mine.onnx"
    made = export_onnx(model, out, (1, 28, 28))
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())
    assert made.error < 1e-5 < made.scale and made.bytes == out.stat().st_size
    assert [path.name for path in out.parent.iterdir()] == ["mine.onnx"]
    session = onnxruntime.InferenceSession(out)
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], model.eval()(images), atol=1e-4)


@pytest.mark.parametrize("alone", [True, False])
def test_the_command_line_writes_it(alone, tmp_path, capsys):
    torch.manual_seed(0)
    model = create_model("mambaout_zepto", num_classes=3)
    weights, out = tmp_path / "mine.safetensors", tmp_path / "mine.onnx"
    save_file(model.state_dict(), weights, {"class_names": '["a", "b", "é"]'})
    named = [str(weights)] if alone else ["mambaout_zepto", "--weights", str(weights)]
    assert main(["export", *named, "--image-size", "28", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"{out}: " in told and "images (batch, 1, 28, 28)" in told and "largest difference to PyTorch" in told
    images = torch.randn(2, 1, 28, 28)
    session = onnxruntime.InferenceSession(out)
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model.eval()(images), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == ["a", "b", "é"] and json.loads(told["mean"]) == [0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mambaout_fashion", "--weights", "mine.safetensors"], "does not fit"),
        (["runs/absent"], "there is no file or folder runs/absent"),
        (["mambaout_fashion", "--live", "--image-size", "32"], "--live writes what the book's page runs; it takes no"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(small("mamba").state_dict(), "mine.safetensors")
    assert main(["export", *arguments, "--out", "x.onnx"]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "x.onnx").exists()
    with pytest.raises(SystemExit):
        main(["export", "mambaout_fashion"])


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    import mambaout.export.onnx_file as onnx_file

    monkeypatch.setattr(torch.onnx, "export", lambda model, args, path, **_: path.write_bytes(b"x"))
    monkeypatch.setattr(onnx_file, "compare", lambda *_: (float("nan"), 1.0))
    with pytest.raises(ValueError, match="differ from PyTorch's by nan; the file was not kept"):
        export_onnx(small("gated_cnn"), tmp_path / "x.onnx", (1, 28, 28))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        export_onnx(small("gated_cnn"), tmp_path / "x.bin", (1, 28, 28))


@pytest.mark.parametrize("name", OWN)
def test_the_command_line_writes_the_pages_files(name, tmp_path):
    assert main(["export", name, "--live", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forward.onnx", "gradient.onnx", "weights.safetensors"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2.5e6
    assert (tmp_path / "weights.safetensors").read_bytes() == find(OWN[name]).read_bytes()


def test_only_the_books_own_models_have_files_for_the_page(tmp_path, capsys):
    assert main(["export", "vit_ti", "--live", "--out", str(tmp_path)]) == 1
    assert "models whose weights the book trained" in capsys.readouterr().err
