"""Shows figures as the built book does, without a kernel: page.html hosts the Python object's state."""

import copy
import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from playwright.sync_api import Browser, Page

PAGE = (Path(__file__).parent / "page.html").read_text("utf-8")


@pytest.fixture
def show(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """`show(*widgets, width=1280, theme="light", **context)` gives the page; it fails if the page met an error."""
    contexts = []

    def open_page(*widgets: "AnyWidget", width: int = 1280, theme: str = "light", **context: Any) -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        states = [widget.get_state() for widget in widgets]
        data = json.dumps(states, default=str).replace("</", "<\\/")
        html = PAGE.replace("THEME", theme).replace("STATES", data)
        page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto("http://figures.test/")
        page.wait_for_selector("body[data-ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("errors") == []
        context.close()


def read(name: str) -> list[dict[str, str]]:
    """The rows of a table of the paper (data/paper)."""
    path = Path(__file__).parents[2] / "data" / "paper" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Table 1, every row."""
    return [
        {
            "model": row["model"],
            "size_group": row["size_group"],
            "token_mixing": row["token_mixing"],
            "params_M": float(row["params_M"]),
            "macs_G": float(row["macs_G"]) if row["macs_G"] else None,
            "top1_224": float(row["top1_224"]),
            "note": row["note"] or None,
        }
        for row in read("imagenet")
    ]


@pytest.fixture(scope="session")
def _costs() -> dict[str, Any]:
    from mambaout.analysis.cost import architecture, block_preset

    variants = []
    for row in read("models"):
        paper = {"params_M": float(row["params_M"]), "macs_G": float(row["macs_G"]), "top1": float(row["top1_224"])}
        name = row["model"].lower().replace("-", "_")
        variants.append({**architecture(name), "label": row["model"], "paper": paper})
    stages = enumerate(variants[2]["dims"])
    presets = [block_preset(f"MambaOut-Tiny, stage {i + 1}", dim, 56 >> i, 56 >> i) for i, dim in stages]
    return {"presets": presets, "variants": variants}


@pytest.fixture
def presets(_costs: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of MambaOut-Tiny's four stages, counted on the modules."""
    return copy.deepcopy(_costs["presets"])


@pytest.fixture
def variants(_costs: dict[str, Any]) -> list[dict[str, Any]]:
    """The five variants (Femto, Kobe, Tiny, Small, Base), counted on the models."""
    return copy.deepcopy(_costs["variants"])


@pytest.fixture(scope="session")
def _memories() -> dict[str, Any]:
    """Tokens, and what SSMs of their own make of them: random ones, with faster steps where "trained"."""
    import numpy as np
    import torch

    from mambaout.analysis import memory
    from mambaout.layers import SelectiveSSM

    torch.manual_seed(0)
    records = []
    for source, length, d_state, trained in itertools.product(("photo", "sentence"), (4, 9), (2, 6), (False, True)):
        u = torch.randn(length, 8)
        delta, A, B, _ = (t.detach() for t in SelectiveSSM(8, d_state=d_state).select(u))
        delta = delta * (10 if trained else 1)
        parts = memory.contributions(u, delta, A, B)
        arrays = {
            "kept": memory.retention(delta, A),
            "weight": parts / parts.sum(1, keepdim=True),
            "state": memory.states(u, delta, A, B).square().mean(1).sqrt(),
        }
        row = {"source": source, "length": length, "d_state": d_state, "trained": trained}
        records.append(row | {key: array.numpy() for key, array in arrays.items()})
    photo = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return {"photo": photo, "photo_name": "noise", "text": "Read me, please", "records": records, "model_width": 8}


@pytest.fixture
def memories(_memories: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a MemoryStepper: 4 or 9 tokens, 2 or 6 numbers of state."""
    return copy.deepcopy(_memories)


@pytest.fixture
def lengths() -> dict[str, Any]:
    """The arguments of a LengthExplorer, as the chapter gives them."""
    from mambaout.analysis import complexity

    return copy.deepcopy(
        {"inputs": complexity.INPUTS, "widths": complexity.WIDTHS, "parameters": complexity.PARAMETERS}
    )


@pytest.fixture(scope="session")
def _mixing() -> dict[str, Any]:
    """The masks of every mixer on 4 x 5 tokens, over a photo of noise."""
    import numpy as np

    from mambaout.analysis.mixing_atlas import atlas

    photo = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    return {"photo": photo, "photo_name": "Noise", "grid": (4, 5), "mixers": atlas(4, 5)}


@pytest.fixture
def mixing(_mixing: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a MixingExplorer."""
    return copy.deepcopy(_mixing)


@pytest.fixture
def training_recipes() -> dict[str, Any]:
    """The two recipes of the chapter on training, and two speeds."""
    from mambaout.training import RECIPES

    fields = ("batch_size", "epochs", "warmup_epochs", "cooldown_epochs", "lr", "lr_batch", "warmup_lr", "min_lr")
    rows = [
        {"label": name, "images": images, "weight_decay": RECIPES[name].weight_decay}
        | {field: getattr(RECIPES[name], field) for field in fields}
        for name, images in (("imagenet", 1_281_167), ("fashion_mnist", 60_000))
    ]
    speeds = [{"label": "slow", "images_per_second": 10.0}, {"label": "fast", "images_per_second": 2000.0}]
    return {"recipes": rows, "speeds": speeds}


@pytest.fixture(scope="session")
def _receptive() -> dict[str, Any]:
    """Fields on 16 x 16 pixels, of Gaussians of several widths and random specks, at 3 x 3 places."""
    import numpy as np

    from mambaout.analysis.receptive_measures import FieldMap

    draw = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    models = (("Block", "Conv", ("1 of 2", "2 of 2")), ("ViT", "ViT", ("all blocks",)))
    sets = []
    for group, model, stages in models:
        for stage, state, source in itertools.product(stages, ("untrained", "trained"), ("photo", "average")):
            down, across = draw.uniform(1, 4, 2)
            fields = []
            for row, column in itertools.product((2.5, 7.5, 12.5), repeat=2):
                bell = np.exp(-((y - row) ** 2) / (2 * down**2) - (x - column) ** 2 / (2 * across**2))
                speckled = bell * draw.uniform(0.5, 1, bell.shape) * (bell > 1e-3)
                fields.append(FieldMap(speckled, (row, column), (4.0, 4.0)))
            measures = [
                {f"area_{share}": field.area(share / 100) for share in (50, 90, 99)}
                | {"anisotropy": field.anisotropy(), "asymmetry": field.causal_asymmetry()}
                | dict(zip(("down", "right"), field.shift(), strict=True))
                for field in fields
            ]
            sets.append({
                "group": group, "model": model, "state": state, "source": source, "stage": stage, "stride": [4.0, 4.0],
                "centres": [f.centre for f in fields], "maps": [f.map for f in fields], "measures": measures,
            })  # fmt: skip
    noise = draw.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pictures, names = {"photo": noise[0], "average": noise[1]}, {"photo": "noise", "average": "other noise"}
    return {"pictures": pictures, "names": names, "grid": (3, 3), "sets": sets}


@pytest.fixture
def receptive(_receptive: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a ReceptiveExplorer."""
    return copy.deepcopy(_receptive)
