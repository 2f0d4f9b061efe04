"""The weights that the book trained do what their card says."""

import pytest
import torch

import mambaout
from mambaout.datasets import fashion_mnist
from mambaout.files.data import find
from mambaout.models.weights import OWN


@pytest.mark.parametrize(("name", "least"), [("mambaout_fashion", 0.93), ("visual_mamba_fashion", 0.87)])
def test_it_recognises_clothes(name: str, least: float) -> None:
    model = mambaout.create_model(name, pretrained=True).eval()
    cfg = model.pretrained_cfg
    assert cfg["file"] == OWN[name] and cfg["input_size"] == (1, 28, 28)
    assert sum(p.numel() for p in model.parameters()) <= 600_000 and find(OWN[name]).stat().st_size <= 2.5e6
    test = fashion_mnist("test")
    images = (test.images[:2000, None].float() / 255 - cfg["mean"][0]) / cfg["std"][0]
    with torch.no_grad():
        right = model(images).argmax(-1) == test.labels[:2000]
    assert right.float().mean() > least


def test_more_channels_and_other_classes_keep_the_features() -> None:
    grey = mambaout.create_model("mambaout_fashion", pretrained=True).eval()
    rgb = mambaout.create_model("mambaout_fashion", pretrained=True, in_chans=3, num_classes=4).eval()
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(
            rgb.forward_features(x.expand(2, 3, 28, 28)), grey.forward_features(x), rtol=1e-3, atol=1e-4
        )
        assert rgb(x.expand(2, 3, 28, 28)).shape == (2, 4)
