"""Draw `data/clutter/card.webp`, the picture of the data card: images of each level, and scenes with their labels.

    .venv/bin/python tools/clutter_card.py && .venv/bin/python -m mambaout.files.manifest
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mambaout.datasets import clutter, scene
from mambaout.datasets.clutter import CLASSES, LEVELS
from mambaout.figures import image_grid

CARD = Path(__file__).resolve().parents[1] / "data" / "clutter" / "card.webp"


def main() -> None:
    """Compose the images and write the picture."""
    labels = clutter("val", range(200), size=16).labels.tolist()
    shown = [labels.index(label) for label in range(len(CLASSES))]  # the first item of each class
    colours = plt.get_cmap("tab10")(range(len(CLASSES)), bytes=True)[:, :3]
    colours = np.concatenate([np.zeros((1, 3), np.uint8), colours])
    images, titles = [], []
    for name, level in LEVELS.items():
        if level.items == (1, 1):
            images += list(clutter("val", shown, level=level, size=96).images.permute(0, 2, 3, 1).numpy())
        else:
            for made in (scene("val", index, level=level, size=96) for index in range(len(CLASSES) // 2)):
                images += [made.image.permute(1, 2, 0).numpy(), colours[made.classes]]
        titles += [name, *[""] * (len(CLASSES) - 1)]
    figure = image_grid(np.stack(images), titles, columns=len(CLASSES))[0, 0].figure
    figure.savefig(CARD, dpi=70, pil_kwargs={"quality": 75})
    plt.close("all")


if __name__ == "__main__":
    main()
