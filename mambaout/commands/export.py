"""`mambaout export`: an ONNX file of a model, or the files that the book's page runs."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

from mambaout.models import create_model, load_weights
from mambaout.models.weights import OWN


def run_export(name: str, out: Path, weights: Path | None, image_size: int | None, classes: int | None) -> None:
    """Write the file, compare it with PyTorch, and say what came of it.

    Raises:
        ValueError: packages are missing, the model is unknown, or the weights do not fit.
    """
    lacking = [one for one in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(one) is None]
    if lacking:
        raise ValueError(f"this needs {', '.join(lacking)}: run `pip install 'mambaout[export]'`")
    from mambaout.export import export_onnx

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every operation that it need not fold
    if classes is not None and weights is None:
        raise ValueError("--classes goes with --weights: the released weights have classes of their own")
    model: Any = create_model(name, pretrained=weights is None, num_classes=classes)
    if weights is not None:
        load_weights(model, weights)
    channels, height, width = model.pretrained_cfg.get("input_size", (model.config.in_chans, 224, 224))
    size = (channels, image_size or height, image_size or width)
    made = export_onnx(model, out, size)
    print(f"{made.path}: {made.bytes / 1e6:.2f} MB, images (batch, {', '.join(map(str, size))}) -> logits")
    print(f"largest difference to PyTorch {made.error:.1e}, where the largest logit is {made.scale:.3g}")
    mean, std = (model.pretrained_cfg[key] for key in ("mean", "std"))
    print(f"images from 0 to 1 are normalised by the mean {mean} and the standard deviation {std}")


def run_live(name: str, out: Path) -> None:
    """Write the two graphs and the weights that the book's page runs.

    Raises:
        ValueError: the book has no weights of its own for this model.
    """
    if name not in OWN:
        raise ValueError(f"the page runs models whose weights the book trained: {', '.join(OWN)}; got {name}")
    from mambaout.export import live_model
    from mambaout.files.data import find

    model: Any = create_model(name, pretrained=True)
    made = live_model(model, find(model.pretrained_cfg["file"]))
    made.write(out)
    sizes = (f"{what} {len(part) / 1e3:.0f} kB" for what, part in vars(made).items() if isinstance(part, bytes))
    print(f"{out}: {', '.join(sizes)}")
