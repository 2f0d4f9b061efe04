"""Draw `data/stamps/card.webp`, the picture of the data card: three composed images of each class.

    .venv/bin/python tools/stamps_card.py && .venv/bin/python -m mambaout.files.manifest
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from mambaout.datasets import stamps
from mambaout.figures import image_grid

CARD = Path(__file__).resolve().parents[1] / "data" / "stamps" / "card.webp"
EACH = 3


def main() -> None:
    """Compose the images with seed 0 and write the picture."""
    data = stamps("train", EACH * 10, size=96)
    order = data.labels.argsort(stable=True)
    images = data.images[order].permute(0, 2, 3, 1).numpy()  # (N, S, S, 3)
    # One title for three images, over the one in the middle.
    titles = [data.classes[i // EACH] if i % EACH == EACH // 2 else "" for i in range(len(data))]
    image_grid(images, titles, columns=2 * EACH)[0, 0].figure.savefig(CARD, dpi=150, pil_kwargs={"quality": 80})
    plt.close("all")


if __name__ == "__main__":
    main()
