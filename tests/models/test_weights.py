"""Weights in three namings, from three kinds of source, and the ways in which they can be wrong."""

import hashlib
import http.server
import json
import pickle
import threading
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import mambaout
from mambaout.files import download
from mambaout.models import from_authors, from_timm, pretrained, to_timm

DEPTHS = {"depths": (1, 1, 2, 1)}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return mambaout.create_model("mambaout_femto", **DEPTHS).eval()


def authors_names(state):
    """The authors' naming, written out here the other way round."""
    renamed = {}
    for name, tensor in to_timm(state).items():
        if name.startswith("stem."):
            name = "downsample_layers.0." + name.removeprefix("stem.")
        elif ".downsample." in name:
            name = "downsample_layers." + name.split(".")[1] + "." + name.split(".downsample.")[1]
        elif name.startswith("head.pre_logits."):
            name = name.replace("head.pre_logits.fc", "head.fc1").replace("head.pre_logits.norm", "head.norm")
        elif name.startswith("head.norm."):
            name = name.removeprefix("head.")
        name = name.replace(".blocks.", ".").replace("head.fc.", "head.fc2.")
        renamed[name] = tensor
    return renamed


def test_names_are_timms_and_the_authors(model):
    ours = model.state_dict()
    theirs = timm.create_model("mambaout_femto", **DEPTHS)
    assert set(to_timm(ours)) == set(theirs.state_dict())
    converted = timm.models.mambaout.checkpoint_filter_fn(authors_names(ours), theirs)  # timm reads the authors'
    assert {k: v.data_ptr() for k, v in converted.items()} == {k: v.data_ptr() for k, v in to_timm(ours).items()}


@pytest.mark.parametrize("rename", [dict, to_timm, authors_names], ids=["ours", "timm", "authors"])
def test_state_dicts_load_from_memory_and_from_files(model, rename, tmp_path):
    state = rename(model.state_dict())
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"model": state}, tmp_path / "w.pth")
    for source in (state, tmp_path / "w.safetensors", str(tmp_path / "w.pth")):
        other = mambaout.create_model("mambaout_femto", **DEPTHS).eval()
        assert mambaout.load_weights(other, source) is other
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_mappings_are_pure_and_inverse(model):
    ours = model.state_dict()
    copy = dict(ours)
    assert from_timm(to_timm(ours)).keys() == from_authors(authors_names(ours)).keys() == ours.keys()
    assert ours.keys() == copy.keys()


def test_another_architecture_is_refused_and_nothing_changes(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    other = timm.create_model("convnext_atto").state_dict()
    wider = mambaout.create_model("mambaout_tiny", **DEPTHS).state_dict()
    for source, message in ((other, "lacks .* and .* more; it has besides"), (wider, r"shapes differ: .*\(24,\)")):
        with pytest.raises(mambaout.WeightsError, match=message):
            mambaout.load_weights(model, source)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("malicious-pickle-was-run"),))


def test_broken_and_malicious_files(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("evil.pth").write_bytes(pickle.dumps({"stem.conv1.weight": Malicious()}))
    torch.save({"a": Malicious()}, "evil2.pth")
    save_file(model.state_dict(), "cut.safetensors")
    Path("cut.safetensors").write_bytes(Path("cut.safetensors").read_bytes()[:1000])
    torch.save(model.state_dict(), "cut.pth")
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:1000])
    Path("text.pth").write_text("not weights")
    torch.save([torch.ones(1)], "list.pth")
    for name, message in {
        "evil.pth": "could run code",
        "evil2.pth": "could run code",
        "cut.safetensors": "cannot be read as weights",
        "cut.pth": "cannot be read as weights",
        "text.pth": "damaged",
        "list.pth": "holds no state dict",
        "absent.pth": "no weights at",
    }.items():
        with pytest.raises(mambaout.WeightsError, match=message):
            mambaout.load_weights(model, name)
    assert not Path("malicious-pickle-was-run").exists()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file the way Hugging Face does: a redirect that announces the SHA-256, then the bytes."""

    def __init__(self, content, announced):
        self.content, self.announced, self.requests = content, announced, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hub/model.safetensors"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        self.server.requests.append((self.command, self.path))
        if self.path.startswith("/hub/"):
            self.send_response(302)
            self.send_header("Location", "/storage")
            if self.server.announced:
                self.send_header("X-Linked-ETag", f'"{self.server.announced}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        if body:
            self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def serve(model, tmp_path, announced=None):
    save_file(to_timm(model.state_dict()), tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    return Server(content, announced or hashlib.sha256(content).hexdigest())


def test_a_url_is_downloaded_once_and_checked(model, tmp_path, hub):
    server = serve(model, tmp_path)
    for _ in range(2):
        other = mambaout.load_weights(mambaout.create_model("mambaout_femto", **DEPTHS), server.url)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert len([r for r in server.requests if r == ("GET", "/storage")]) == 1
    (path,) = hub.glob("*.safetensors")
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert record == {"url": server.url, "bytes": len(server.content), "sha256": server.announced}
    mambaout.load_weights(model, server.url, sha256=server.announced)
    with pytest.raises(mambaout.WeightsError, match="expected 0000.*delete it"):
        mambaout.load_weights(model, server.url, sha256="0" * 64)


def test_a_download_that_differs_from_its_digest_is_refused(model, tmp_path, hub):
    server = serve(model, tmp_path, announced="0" * 64)
    with pytest.raises(mambaout.WeightsError, match="has other bytes than expected"):
        mambaout.load_weights(model, server.url)
    assert not list(hub.glob("*.safetensors"))


def test_offline_says_what_to_do(model, hub):
    with pytest.raises(mambaout.WeightsError, match=r"cannot be reached .* pass its path to mambaout.load_weights"):
        mambaout.load_weights(model, "http://127.0.0.1:9/model.safetensors")


def test_pretrained_fits_the_released_weights_to_the_task(tmp_path, hub, monkeypatch):
    source = timm.create_model("mambaout_femto").eval()
    save_file(source.state_dict(), tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    server = Server(content, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(pretrained.URLS, "mambaout_femto.in1k", server.url)
    x = torch.randn(1, 3, 64, 64)
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        whole = mambaout.create_model("mambaout_femto", pretrained=True).eval()
        torch.testing.assert_close(whole(x), source(x), rtol=1e-4, atol=1e-5)
        one = mambaout.create_model("mambaout_femto", pretrained=True, in_chans=1, num_classes=10).eval()
        six = mambaout.create_model("mambaout_femto", pretrained=True, in_chans=6, num_classes=0).eval()
        torch.testing.assert_close(
            one.forward_features(grey), whole.forward_features(grey.expand(1, 3, 64, 64)), rtol=1e-3, atol=1e-5
        )
        torch.testing.assert_close(
            six.forward_features(grey.expand(1, 6, 64, 64)), one.forward_features(grey), rtol=1e-3, atol=1e-5
        )
        assert one(grey).shape == (1, 10) and six(torch.randn(1, 6, 64, 64)).shape == (1, 4 * 288)
    adapted = timm.models.adapt_input_conv(6, source.stem.conv1.weight)
    torch.testing.assert_close(six.stem.conv1.weight.detach(), adapted.detach())


def test_where_a_download_lies():
    path = download.checkpoint_path("https://huggingface.co/timm/a/resolve/main/model.safetensors")
    assert path.parent.name == "checkpoints" and "timm_a" in path.name and path.suffix == ".safetensors"
