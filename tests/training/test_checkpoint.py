"""Checkpoints on a full disk, in the wrong place, cut short, altered, and with code in them."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from mambaout.training import CheckpointError, checkpoint

STATE = {"step": 3, "model": {"w": torch.arange(5000.0)}, "history": [{"loss": 0.5}], "ema": None}


def test_round_trip_and_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 3):
        path = checkpoint.save(tmp_path, step, STATE | {"step": step})
    state = checkpoint.load(path)
    assert state["step"] == 3 and torch.equal(state["model"]["w"], STATE["model"]["w"])
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000002.pt", "checkpoint-00000003.pt"]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-00000002.pt", "checkpoint-00000003.pt"]
    assert checkpoint.load_newest(tmp_path)["step"] == 3


def test_a_full_disk(tmp_path):
    good = checkpoint.save(tmp_path, 1, STATE | {"step": 1})
    partial = tmp_path / ".checkpoint-00000002.pt.partial"
    partial.symlink_to("/dev/full")  # a real "No space left on device"
    with pytest.raises(CheckpointError, match=f"No space left on device; the last good checkpoint is {good}"):
        checkpoint.save(tmp_path, 2, STATE)
    assert not partial.is_symlink() and os.listdir(tmp_path) == [good.name]
    assert checkpoint.load_newest(tmp_path)["step"] == 1


def test_a_disk_that_is_full_at_the_very_end(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    good = checkpoint.save(tmp_path, 1, STATE | {"step": 1})
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(tmp_path, 2, STATE)
    assert os.listdir(tmp_path) == [good.name]


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file/run", "Not a directory"), (Path("/proc/run"), "")):
        with (
            pytest.raises(CheckpointError, match=f"cannot write to the folder {folder}: {why}.*; choose another"),
            checkpoint.occupied(folder),
        ):
            pass


def test_a_folder_has_one_run_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.checkpoint-00000002.pt.partial").write_bytes(b"of a killed run")
    with checkpoint.occupied(tmp_path / "a"):
        assert not list(tmp_path.glob("a/*.partial"))
        with (
            pytest.raises(CheckpointError, match=f"a is in use by process {os.getpid()} on .*: wait for it, or choose"),
            checkpoint.occupied(tmp_path / "a"),
        ):
            pass
        with checkpoint.occupied(tmp_path / "b"):
            pass
    with checkpoint.occupied(tmp_path / "a"):
        pass


def test_a_missing_field_is_named_and_the_one_before_is_taken(tmp_path):
    checkpoint.save(tmp_path, 1, STATE | {"step": 1})
    path = checkpoint.save(tmp_path, 2, {name: value for name, value in STATE.items() if name not in ("ema", "model")})
    with pytest.raises(CheckpointError, match=r"00000002.pt is no checkpoint of a training: it has no ema, model"):
        checkpoint.load(path, STATE)
    with pytest.warns(UserWarning, match="it has no ema, model. Trying the one before it"):
        assert checkpoint.load_newest(tmp_path, STATE)["step"] == 1


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated(tmp_path, keep):
    checkpoint.save(tmp_path, 1, STATE | {"step": 1})
    path = checkpoint.save(tmp_path, 2, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(CheckpointError, match=r"checkpoint-00000002.pt is no whole checkpoint"):
        checkpoint.load(path)
    with pytest.warns(UserWarning, match="Trying the one before it"):
        assert checkpoint.load_newest(tmp_path)["step"] == 1


def test_one_altered_byte(tmp_path):
    path = checkpoint.save(tmp_path, 2, STATE)
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(5000.0)[100:110].numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="another checksum"):
        checkpoint.load(path)
    with (
        pytest.warns(UserWarning, match="Trying"),
        pytest.raises(CheckpointError, match="no checkpoint of .* can be read"),
    ):
        checkpoint.load_newest(tmp_path)


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("it-ran"),))


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"step": 1, "model": Malicious()}, "checkpoint-00000001.pt")
    Path("checkpoint-00000002.pt").write_bytes(pickle.dumps(Malicious()))
    for name, message in (("1", "more than tensors; not loaded"), ("2", "no whole checkpoint")):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(tmp_path / f"checkpoint-0000000{name}.pt")
    assert not Path("it-ran").exists()


def test_what_is_no_checkpoint(tmp_path):
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="has no step"):
        checkpoint.load(tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "absent.pt")
    assert checkpoint.load_newest(tmp_path) is None


def test_a_run_that_went_back_past_a_damaged_one_keeps_its_own(tmp_path):
    for step in (10, 20):
        checkpoint.save(tmp_path, step, STATE | {"step": step})
    checkpoint.path_of(tmp_path, 20).write_bytes(b"damaged")
    checkpoint.save(tmp_path, 15, STATE | {"step": 15})
    assert [p.name[-6:] for p in checkpoint.checkpoints(tmp_path)] == ["010.pt", "015.pt"]
    assert checkpoint.load_newest(tmp_path)["step"] == 15
