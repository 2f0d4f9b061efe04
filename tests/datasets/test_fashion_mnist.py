"""Fashion-MNIST and the IDX format."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

from mambaout.datasets import DataError, fashion_mnist
from mambaout.datasets.fashion_mnist import CLASSES, Split, read_idx

HEADER = b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 2, 3)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_split(split: Split, count: int) -> None:
    data = fashion_mnist(split)
    assert data.images.shape == (count, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.shape == (count,) and data.labels.dtype == torch.int64
    assert data.labels.bincount().tolist() == [count // 10] * 10
    assert data.classes == CLASSES and len(data) == count


def test_same_as_torchvision(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(__file__).parents[2] / "data/fashion-mnist").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    theirs = TorchvisionFashionMNIST(str(tmp_path), train=False)
    ours = fashion_mnist("test")
    assert torch.equal(ours.images, theirs.data) and torch.equal(ours.labels, theirs.targets)
    assert list(ours.classes) == theirs.classes


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match=r'"train" or "test", got \'valid\''):
        fashion_mnist("valid")  # type: ignore[arg-type]


def test_read_idx(tmp_path: Path) -> None:
    values = read_idx(write(tmp_path / "good.gz", HEADER + bytes(range(12))))
    assert torch.equal(values, torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEADER + bytes(11), "12 values, but holds 11"),
        (HEADER + bytes(13), "12 values, but holds 13"),
        (b"\x00\x00\x0d\x01" + bytes(8), "no IDX file of unsigned bytes: it begins with 00 00 0d 01"),
        (HEADER[:7], "no IDX file"),
        (b"", "begins with nothing"),
    ],
)
def test_wrong_idx_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path / "bad.gz", content)
    with pytest.raises(DataError, match=expected) as error:
        read_idx(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_wrong_gzip_is_named(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "bad.gz", HEADER + bytes(range(12)))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-9]
    elif damage == "not gzip":
        content = bytearray(HEADER)
    else:
        content[-6] ^= 0xFF  # in the checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz cannot be decompressed"):
        read_idx(path)
