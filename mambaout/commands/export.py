"""`mambaout export`: an ONNX file of a model, or the files that the book's page runs."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from mambaout.commands.pictures import class_names, open_model
from mambaout.models import create_model
from mambaout.models.weights import OWN


def run_export(what: str, out: Path, weights: Path | None, image_size: int | None) -> None:
    """Write the file, compare it with PyTorch, and say what came of it.

    The file tells the names of the classes and how to normalise images in its metadata, as JSON.

    Raises:
        ValueError: packages are missing, the model is unknown, or the weights do not fit.
    """
    lacking = [one for one in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(one) is None]
    if lacking:
        raise ValueError(f"this needs {', '.join(lacking)}: run `pip install 'mambaout[export]'`")
    from mambaout.export import export_onnx

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every operation that it need not fold
    model: Any = open_model(what) if weights is None else create_model(what, checkpoint_path=weights)
    cfg = model.pretrained_cfg
    channels, height, width = cfg["input_size"]
    size = (channels, image_size or height, image_size or width)
    made = export_onnx(model, out, size)
    _tell(out, {"class_names": list(class_names(model)), "mean": cfg["mean"], "std": cfg["std"]})
    print(f"{made.path}: {made.bytes / 1e6:.2f} MB, images (batch, {', '.join(map(str, size))}) -> logits")
    print(f"largest difference to PyTorch {made.error:.1e}, where the largest logit is {made.scale:.3g}")
    print(f"images from 0 to 1 are normalised by the mean {cfg['mean']} and the standard deviation {cfg['std']}")


def _tell(path: Path, about: dict[str, Any]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    onnx.save(model, path)


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
