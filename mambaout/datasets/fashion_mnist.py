"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70 000 grey images of clothes, 28 x 28, in ten classes."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mambaout.files import read
from mambaout.files.data import DataError, find

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
Split = Literal["train", "test"]
_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class FashionMNIST:
    """One split.

    Attributes:
        images: (N, 28, 28) uint8, 0 is the background.
        labels: (N,) int64, indices into `classes`.
        classes: the ten names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


def fashion_mnist(split: Split) -> FashionMNIST:
    """The 60 000 images of "train" or the 10 000 of "test".

    Raises:
        ValueError: the split is neither.
        DataError: a file is missing, truncated or altered.
    """
    if split not in get_args(Split):
        raise ValueError(f'split must be "train" or "test", got {split!r}.')
    images = read_idx(find(f"fashion-mnist/{_PREFIX[split]}-images-idx3-ubyte.gz"))
    labels = read_idx(find(f"fashion-mnist/{_PREFIX[split]}-labels-idx1-ubyte.gz"))
    return FashionMNIST(images, labels.long())


def read_idx(path: Path) -> Tensor:
    """Read a gzip-compressed IDX file of unsigned bytes, the format of MNIST.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions; each size as a big-endian
    32-bit integer; then the values in row-major order.

    Raises:
        DataError: no gzip, no IDX of unsigned bytes, or more or fewer values than announced.
    """
    content = read.unpack(path)
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        start = content[:4].hex(" ") or "nothing"
        raise DataError(f"{path} is no IDX file of unsigned bytes: it begins with {start}.")
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    found = len(content) - 4 - 4 * dimensions
    if found != math.prod(shape):
        raise DataError(f"{path} announces the shape {shape}, {math.prod(shape)} values, but holds {found}.")
    # A bytearray, because PyTorch wants writable memory.
    values = np.frombuffer(bytearray(content), dtype=np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(shape))
