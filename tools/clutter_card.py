"""Draw `data/clutter/card.webp`, the picture of the data card: a row for each level, scenes beside their labels.

    .venv/bin/python tools/clutter_card.py && .venv/bin/python -m mambaout.files.manifest
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib import colormaps
from PIL import Image
from torchvision.utils import make_grid

from mambaout.datasets import clutter, scene
from mambaout.datasets.clutter import CLASSES, LEVELS

CARD = Path(__file__).resolve().parents[1] / "data" / "clutter" / "card.webp"
SIZE = 80


def main() -> None:
    """Compose the images and write the picture."""
    labels = clutter("val", range(200), size=16).labels.tolist()
    shown = [labels.index(label) for label in range(len(CLASSES))]  # the first item of each class
    colours = torch.from_numpy(colormaps["tab10"](range(len(CLASSES)), bytes=True)[:, :3])
    colours = torch.cat([torch.zeros(1, 3, dtype=torch.uint8), colours])  # black is the background
    images: list[torch.Tensor] = []
    for level in LEVELS.values():
        if level.items == (1, 1):
            images += clutter("val", shown, level=level, size=SIZE).images
        else:
            for made in (scene("val", index, level=level, size=SIZE) for index in range(len(CLASSES) // 2)):
                images += [made.image, colours[made.classes].permute(2, 0, 1)]
    grid = make_grid(images, nrow=len(CLASSES), padding=2, pad_value=255)
    CARD.parent.mkdir(exist_ok=True)
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(CARD, quality=80, method=6)


if __name__ == "__main__":
    main()
