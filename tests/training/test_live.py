"""The live curve, and which packages training needs."""

import subprocess
import sys

import IPython.display
import torch
from tiny import tiny_data, tiny_recipe
from torch import nn

from mambaout.training import LiveCurve, Machine, fit, train
from mambaout.training.optim import adamw, warmup_cosine


class Place:
    def __init__(self, drawn):
        self.drawn = drawn

    def update(self, figure):
        self.drawn.append(figure)


def watch(monkeypatch):
    drawn = []

    def display(figure, display_id):
        drawn.append(figure)
        return Place(drawn)

    monkeypatch.setattr(IPython.display, "display", display)
    return drawn


def test_a_curve_moves_while_a_model_trains(monkeypatch):
    drawn = watch(monkeypatch)
    run = train(
        tiny_recipe(),
        Machine(device="cpu"),
        data=tiny_data(),
        watchers=[LiveCurve(seconds=0, window=3)],
        progress=False,
    )
    assert len(drawn) == 18 + 1
    assert [len(figure.axes) for figure in (drawn[0], drawn[-1])] == [1, 2]  # accuracy from the first epoch on
    loss, accuracy = drawn[-1].axes
    assert loss.lines[0].get_ydata().tolist() == run.losses
    assert accuracy.lines[0].get_ydata().tolist() == [row.top1 for row in run.history]


def test_a_curve_of_fit(monkeypatch):
    drawn = watch(monkeypatch)
    model = nn.Linear(2, 1)
    optimizer = adamw(model, 1e-2, 0.0)
    curve = LiveCurve(seconds=1000)
    batches = [torch.randn(4, 2) for _ in range(5)]
    losses = fit(
        model, batches, lambda m, x: m(x).square().mean(), optimizer, warmup_cosine(optimizer, 5, 1), on_step=curve
    )
    curve.end()
    assert len(drawn) == 2  # at once, and at the end
    assert drawn[-1].axes[0].lines[0].get_ydata().tolist() == losses


def test_small_trainings_need_nothing_but_torch():
    absent = ["lightning_fabric", "torchmetrics", "tensorboard", "tqdm", "matplotlib", "IPython", "PIL", "torchvision"]
    code = (
        f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
        "import torch\n"
        "from mambaout.training import RECIPES, fit, optim, train\n"
        "model = torch.nn.Linear(2, 1)\n"
        "adamw = optim.adamw(model, 1e-2, 0.0)\n"
        "batches, loss = [torch.ones(4, 2)] * 3, lambda m, x: m(x).square().mean()\n"
        "assert len(fit(model, batches, loss, adamw, optim.warmup_cosine(adamw, 3, 1))) == 3\n"
        "try: train('fashion_mnist')\n"
        "except ModuleNotFoundError as error: assert \"pip install 'mambaout[train]'\" in str(error)\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
