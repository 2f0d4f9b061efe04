"""Released weights: what is kept after a download, and what becomes of a copy that is damaged later."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

import mambaout
from mambaout.cli import main
from mambaout.commands import doctor
from mambaout.files import transfer
from mambaout.files.download import checkpoint_path
from mambaout.models import released, to_timm, weights
from mambaout.models.pretrained import URLS
from mambaout.models.registry import MODELS, MambaOutConfig

NAME = "mambaout_femto"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Announces what `announced` says, and sends `content` for the announced commit only."""

    content, announced = b"", True

    def do_HEAD(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/storage")
        if self.announced:
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200 if not self.announced or f"/resolve/{COMMIT}/" in self.path else 404)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A hub on this computer that has tiny weights of a tiny Femto."""
    handler = type("Here", (Hub,), {})
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(transfer, "TIMEOUT", 1.0)
    monkeypatch.setitem(MODELS, NAME, MambaOutConfig(depths=(1, 1), dims=(8, 16), num_classes=5))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/timm/x/resolve/main/model.safetensors"
        for known, name in ((URLS, NAME), (URLS, f"{NAME}.in1k"), (weights.RELEASED, NAME)):
            monkeypatch.setitem(known, name, address)
        yield handler
        server.shutdown()


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in to_timm(mambaout.create_model(NAME).state_dict()).items()}


def path() -> Path:
    return checkpoint_path(URLS[NAME])


def test_a_good_file_is_kept_recorded_and_loaded(hub) -> None:  # type: ignore[no-untyped-def]
    hub.content = save(state())
    model = mambaout.create_model(NAME, pretrained=True)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state().values(), strict=True))
    assert COMMIT in path().with_name(f"{path().name}.json").read_text()  # the very revision, not "main"
    hub.content = b""  # asked once only
    mambaout.create_model(NAME, pretrained=True)


def cut(state: dict[str, torch.Tensor]) -> bytes:
    return save(state)[:-4]


def longer(state: dict[str, torch.Tensor]) -> bytes:
    return save(state) + b"more"


def without_one(state: dict[str, torch.Tensor]) -> bytes:
    del state["head.fc.bias"]
    return save(state)


def with_one_more(state: dict[str, torch.Tensor]) -> bytes:
    return save(state | {"extra": torch.zeros(1)})


def of_another_shape(state: dict[str, torch.Tensor]) -> bytes:
    return save(state | {"head.fc.bias": torch.zeros(6)})


def of_another_type(state: dict[str, torch.Tensor]) -> bytes:
    return save(state | {"head.fc.bias": state["head.fc.bias"].double()})


def not_finite(state: dict[str, torch.Tensor]) -> bytes:
    state["head.fc.bias"][3] = float("nan")
    return save(state)


def a_page(state: dict[str, torch.Tensor]) -> bytes:
    return b"<!doctype html><title>Sign in</title>"


def nothing(state: dict[str, torch.Tensor]) -> bytes:
    return b""


WRONG = {
    cut: "no whole safetensors file",
    longer: "no whole safetensors file",
    without_one: "head.fc.bias is missing or too many",
    with_one_more: "extra is missing or too many",
    of_another_shape: r"head.fc.bias is torch.float32 \(6,\), expected float32 \(5,\)",
    of_another_type: r"head.fc.bias is torch.float64 \(5,\), expected float32",
    not_finite: "head.fc.bias has numbers that are not finite",
    a_page: "no whole safetensors file",
    nothing: "has 0 bytes, expected more",
}


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("make", WRONG)
def test_nothing_else_is_kept_with_or_without_a_digest(hub, make, announced) -> None:  # type: ignore[no-untyped-def]
    hub.content, hub.announced = make(state()), announced
    with pytest.raises(mambaout.WeightsError, match=WRONG[make]) as error:
        mambaout.create_model(NAME, pretrained=True)
    assert f"mambaout fetch --released-weights {NAME}" in str(error.value)
    assert {left.name for left in path().parent.iterdir()} <= {".download.lock"}


def test_a_file_that_is_too_long_is_not_even_fetched(hub) -> None:  # type: ignore[no-untyped-def]
    hub.content, hub.announced = bytes(2**21), False
    with pytest.raises(mambaout.WeightsError, match="sends more than the expected"):
        mambaout.create_model(NAME, pretrained=True)


def test_a_copy_damaged_later_is_found_told_and_replaced(hub, capsys) -> None:  # type: ignore[no-untyped-def]
    hub.content = save(state())
    mambaout.create_model(NAME, pretrained=True)
    content = bytearray(path().read_bytes())
    content[-2] ^= 1  # still finite numbers: only the recorded digest tells
    path().write_bytes(content)
    with pytest.raises(mambaout.WeightsError, match="has SHA-256 .*, expected .*delete it"):
        mambaout.create_model(NAME, pretrained=True)
    (finding,) = (finding for finding in doctor.examine() if finding.name == NAME)
    assert finding.broken and finding.cure == f"run `mambaout fetch --released-weights {NAME}`"
    assert main(["fetch", "--released-weights", NAME]) == 0
    assert path().read_bytes() == hub.content
    (finding,) = (finding for finding in doctor.examine() if finding.name == NAME)
    assert not finding.broken and finding.found == f"{path()}, verified"


def test_a_file_put_there_by_hand_is_verified_by_its_structure(hub) -> None:  # type: ignore[no-untyped-def]
    path().parent.mkdir(parents=True)
    path().write_bytes(save(state()))
    mambaout.create_model(NAME, pretrained=True)
    path().write_bytes(not_finite(state()))
    with pytest.raises(mambaout.WeightsError, match="not finite"):
        mambaout.create_model(NAME, pretrained=True)


@pytest.mark.parametrize("name", [name for name in URLS if "." in name])
def test_what_a_released_file_should_hold_is_what_timm_s_model_holds(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
    assert released.expected_tensors(name) == {key: tensor.shape for key, tensor in theirs.items()}
