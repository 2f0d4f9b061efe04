"""Photographs, so to speak, for the tests of training."""

import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """An image folder of the shape of ImageNet's: train and val, two classes, images of several sizes."""
    root = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 8), ("val", 5)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                size = (40 + 7 * i, 60 - 5 * i, 3)
                pixels = torch.randint(90, size, generator=generator, dtype=torch.uint8) + 140 * label
                Image.fromarray(pixels.byte().numpy()).save(root / split / name / f"{i}.png")
    return root
