"""Every loader against damage: it gives what it gave, another whole value, or one sentence that names the file.

`DAMAGED_VARIANTS=5000 pytest tests/test_damaged_files.py` tries more than the usual number of each.
"""

import gzip
import importlib
import lzma
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from corrupt import corrupted
from PIL import Image
from safetensors.torch import save_file

import mambaout
from mambaout.analysis import claims, paper
from mambaout.datasets.fashion_mnist import read_idx
from mambaout.files import data as files
from mambaout.files import read
from mambaout.files.data import DataError
from mambaout.models.weights import read_state_dict
from mambaout.studies import runner
from mambaout.studies.record import Result, write_results
from mambaout.training import checkpoint
from mambaout.training.decode import decode

stamps = importlib.import_module("mambaout.datasets.stamps")  # the package has a function of that name
VARIANTS = int(os.environ.get("DAMAGED_VARIANTS", "200"))
STATE = {"step": 7, "recipe": "{}", "model": {"w": torch.arange(300.0)}, "history": [{"top1": 0.5}], "ema": None}
TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5)}


@dataclass(frozen=True)
class Loader:
    """How a good file is written, and how such a file is read."""

    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]


def idx(path: Path) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in (3, 4, 5))
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + sizes + bytes(range(60))))


def picture(path: Path) -> None:
    pixels = torch.arange(16 * 16 * 3, dtype=torch.uint8).reshape(16, 16, 3).numpy()
    Image.fromarray(pixels).save(path)


def rows(path: Path) -> None:
    result = Result("try", "a", 0, "x", 0.5, "c", "cpu", 1.0)
    write_results("try", [result] * 6)


def ledger(path: Path) -> None:
    entries = "".join(f"- {{id: a-{i}, claim: 'it is so', where: Table 1, chapter: x}}\n" for i in range(8))
    path.write_text(entries, encoding="utf-8")


def table(path: Path) -> None:
    path.write_text("model,top1,note\n" + 'a,81.5,"one, two"\nb,82.5,three\n' * 5, encoding="utf-8")


LOADERS = [
    Loader("images.gz", idx, read_idx),
    Loader("text.xz", lambda path: path.write_bytes(lzma.compress("Ä whale. " .encode() * 50)),
           lambda path: read.text(read.unpack(path), path)),
    Loader("picture.webp", picture, lambda path: read.image(path, "RGB")),
    Loader("photo.jpg", picture, decode),
    Loader("photo.png", picture, decode),
    Loader("table.csv", table, lambda path: read.table(path, ("model", "top1"))),
    Loader("data/paper/models.csv", table, lambda path: paper.table("models")),
    Loader("data/stamps/stamps.csv", lambda path: path.write_text("file,class,name\n" + "a.webp,bird,owl\n" * 3),
           lambda path: (stamps.list_stamps.cache_clear(), stamps.list_stamps())),
    Loader("data/claims.yml", ledger, lambda path: claims.load()),
    Loader("data/results/try.csv", rows, lambda path: runner.read_results("try")),
    Loader("weights.safetensors", lambda path: save_file(TENSORS, path), read_state_dict),
    Loader("weights.pth", lambda path: torch.save(TENSORS, path), read_state_dict),
    Loader("old.pth", lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False), read_state_dict),
    Loader("checkpoint-00000007.pt", lambda path: torch.save(STATE, path), lambda path: checkpoint.load(path, STATE)),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as if in a checkout, in front of whose hash check the loaders stand."""
    for name in ("data/paper", "data/stamps", "data/results"):
        (tmp_path / name).mkdir(parents=True)
    for module in (runner, files):
        monkeypatch.setattr(module, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setattr("mambaout.studies.record.data_dir", lambda: tmp_path / "data")
    for module in (claims, paper, stamps):
        monkeypatch.setattr(module, "find", lambda name: tmp_path / "data" / name)
    yield tmp_path  # type: ignore[misc]
    stamps.list_stamps.cache_clear()


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.file)
def test_damage_is_told_in_a_sentence_or_does_no_harm(loader: Loader, folder: Path) -> None:
    path = folder / loader.file
    loader.write(path)
    loader.read(path)
    good, refused = path.read_bytes(), 0
    for number, content in enumerate(corrupted(good, VARIANTS)):
        path.write_bytes(content)
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's and torch's about odd files
                loader.read(path)
        except (ValueError, mambaout.WeightsError) as error:
            refused += 1
            told = str(error)
            assert "\n" not in told and len(told) < 1000, (number, told)
            assert path.name in told or "claim" in told, (number, told)
    assert refused > VARIANTS / 10  # damage that no loader notices would be no damage


def test_whatever_the_damage_a_run_goes_on_from_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 6, STATE | {"step": 6})
    newest = checkpoint.save(tmp_path, 7, STATE)
    for content in corrupted(newest.read_bytes(), VARIANTS, seed=1):
        newest.write_bytes(content)
        with warnings.catch_warnings(record=True, action="always") as told:
            state = checkpoint.load_newest(tmp_path, STATE)
        assert state is not None
        if state["step"] == 6:
            assert any(newest.name in str(warning.message) for warning in told)
        else:  # damage where nothing is kept
            assert state["step"] == 7 and torch.equal(state["model"]["w"], STATE["model"]["w"])  # type: ignore[index]


@pytest.mark.parametrize("name", ["paper/models.csv", "photos/chelsea.webp", "stamps/stamps.csv"])
def test_behind_the_hash_check_no_damage_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = files.find(name).read_bytes()
    entry = files.manifest()[name]
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    for number, content in enumerate(corrupted(good, VARIANTS)):
        path.write_bytes(content)
        os.utime(path, ns=(number, number))
        assert files.check(entry) is not None
        with pytest.raises(DataError, match=path.name):
            files.find(name)


# Files that were made to do harm


def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "UNPACKED", 2**20)
    for name, pack in (("x.gz", gzip.compress), ("x.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(bytes(2**22)))
        with pytest.raises(DataError, match="would unpack to more than 1048576 bytes"):
            read.unpack(tmp_path / name)


def test_a_small_picture_of_many_pixels(tmp_path: Path) -> None:
    Image.new("L", (2**13, 2**12)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="has 8192 x 4096 pixels, expected at most"):
        read.image(tmp_path / "x.png", "L")


def test_no_decoder_but_those_of_pictures_is_tried(tmp_path: Path) -> None:
    (tmp_path / "x.webp").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    with pytest.raises(DataError, match=r"x\.webp cannot be decoded"):
        read.image(tmp_path / "x.webp", "RGB")


def test_a_small_ledger_that_means_a_huge_one(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    with pytest.raises(DataError, match=r"x\.yml, line 2: aliases \(\*a\) are not read"):
        read.yaml(tmp_path / "x.yml")
    (tmp_path / "x.yml").write_text("[" * 5000)
    with pytest.raises(DataError, match=r"x\.yml is nested more than 32 deep"):
        read.yaml(tmp_path / "x.yml")
    (tmp_path / "x.yml").write_text("a: !!python/object/apply:os.system [touch ran]\n")
    with pytest.raises(DataError, match=r"x\.yml, line 1"):
        read.yaml(tmp_path / "x.yml")


def test_a_compressed_checkpoint_and_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    import zipfile

    torch.save(STATE, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as good, zipfile.ZipFile(tmp_path / "bomb.pt", "w", 8) as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    with pytest.raises(ValueError, match="is compressed, as torch.save never does"):
        checkpoint.load(tmp_path / "bomb.pt")
    model = mambaout.create_model("mambaout_zepto", depths=(1,), dims=(8,))
    state = model.state_dict()
    for wrong in (state["head.norm.bias"].long(), state["head.norm.bias"].to_sparse(), "text", 3):
        with pytest.raises(mambaout.WeightsError, match=r"expected .*, got head\.norm\.bias"):
            mambaout.load_weights(model, state | {"head.norm.bias": wrong})
    broken = state | {"head.norm.bias": torch.full_like(state["head.norm.bias"], float("inf"))}
    mambaout.load_weights(mambaout.create_model("mambaout_zepto", depths=(1,), dims=(8,)), broken)
    with pytest.raises(mambaout.WeightsError, match=r"not all numbers are finite in head\.norm\.bias"):
        mambaout.load_weights(model, broken, finite=True)
