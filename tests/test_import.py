"""`import mambaout` is light, and needs nothing but torch, torchvision, numpy and safetensors."""

import subprocess
import sys

HEAVY = ["torchvision", "numba", "llvmlite", "matplotlib", "pandas", "seaborn",
         "anywidget", "ipywidgets", "captum", "tyro", "tqdm", "timm",
         "yaml", "sklearn", "PIL"]  # fmt: skip


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout


def test_import_brings_nothing_heavy():
    loaded = run("import sys, torch; before = set(sys.modules); import mambaout; print(*set(sys.modules) - before)")
    assert not {name.split(".")[0] for name in loaded.split()} & set(HEAVY)


def test_models_layers_data_and_costs_work_without_the_book_extra():
    absent = [name for name in HEAVY if name != "torchvision"]
    print(
        run(
            f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
            "import torch, mambaout, mambaout.layers, mambaout.datasets\n"
            "from mambaout.analysis.cost import count_macs\n"
            "model = mambaout.create_model('mambaout_zepto', token_mixer='mamba')\n"
            "images = mambaout.datasets.fashion_mnist('test').images[:2, None] / 255\n"
            "assert model(images).shape == (2, 10)\n"
            "assert count_macs(model, 1, 28, 28) > 0\n"
        )
    )
