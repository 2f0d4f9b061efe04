"""The arithmetic against the support of the Jacobian, and against known numbers."""

import field_models as models
import pytest
import torch
from torch import nn

import mambaout
from mambaout.analysis.features import feature_maps
from mambaout.analysis.receptive_theory import theoretical_receptive_field
from mambaout.layers.scans import SCANS
from mambaout.models import Features

conv = nn.Conv2d

CASES = {
    "mambaout": (lambda: models.mambaout(), (20, 23)),
    "mambaout, stem 4": (lambda: models.mambaout(stem_stride=4), (27, 33)),
    "identity": (lambda: models.mambaout("identity"), (20, 20)),
    "attention": (lambda: models.mambaout("attention"), (12, 12)),
    "causal attention": (lambda: models.mambaout("causal_attention"), (16, 21)),
    "vit": (lambda: models.vit(), (16, 16)),
    "causal vit": (lambda: models.vit("causal_attention"), (16, 12)),
    "causal vit, random order": (lambda: models.vit("causal_attention", "random"), (16, 16)),
    "causal vit, both ways": (lambda: models.vit("causal_attention", "bidirectional"), (12, 16)),
    "dilated": (lambda: nn.Sequential(conv(1, 3, 3, dilation=3), nn.GELU(), conv(3, 3, 3, stride=2)), (17, 20)),
    "even kernels": (lambda: nn.Sequential(conv(1, 3, 4, padding=1), conv(3, 2, (2, 5), 3, (1, 2))), (13, 11)),
    "same": (lambda: conv(1, 2, 3, padding="same", dilation=(2, 1)), (8, 8)),
    "holes": (lambda: conv(1, 2, 2, stride=3, padding=1), (10, 12)),
    "pooled": (lambda: nn.Sequential(conv(1, 2, 3), nn.AvgPool2d(2), nn.BatchNorm2d(2), conv(2, 2, 3)), (13, 14)),
    "global": (lambda: nn.Sequential(conv(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1)), (6, 7)),
} | {f"mamba {scan}": (lambda scan=scan: models.mambaout("mamba", scan), (14, 11)) for scan in SCANS}


def jacobian_support(model: nn.Module, stage: int, location: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Pixels with a gradient on random images, in float64 and in random directions of the channels."""
    torch.manual_seed(1)
    x = torch.randn(3, 1, *size, dtype=torch.double, requires_grad=True)
    y = feature_maps(model, x)[stage][:, :, location[0], location[1]]
    return torch.autograd.grad((y * torch.randn_like(y)).sum(), x)[0].ne(0).any(0).any(0)


@pytest.mark.parametrize("case", CASES)
def test_support_equals_that_of_the_jacobian(case: str) -> None:
    make, size = CASES[case]
    model = make().double().eval().requires_grad_(False)
    for stage in range(2 if hasattr(model, "stages") else 1):
        field = theoretical_receptive_field(model, stage)
        with torch.no_grad():
            height, width = feature_maps(model, torch.zeros(1, 1, *size, dtype=torch.double))[stage].shape[2:]
        assert field.map_size(*size) == (height, width)
        for location in {(0, 0), (height // 2, width // 2), (height - 1, 0), (height - 1, width - 1), (0, width // 2)}:
            expected = jacobian_support(model, stage, location, size)
            assert torch.equal(field.support(location, size), expected), (case, stage, location)


@pytest.mark.parametrize("case", ["mambaout", "identity", "dilated", "even kernels", "pooled"])
def test_size_stride_and_offset_bound_the_support(case: str) -> None:
    """On an image so large that one location in its middle is not cut, and the next is one stride on."""
    model = CASES[case][0]()
    field = theoretical_receptive_field(model)
    image = (150, 150)
    rows, columns = (n // 2 for n in field.map_size(*image))
    for location in ((rows, columns), (rows, columns + 1)):
        seen = field.support(location, image).nonzero()
        top_left, last = seen.amin(0), seen.amax(0)
        assert tuple(top_left.tolist()) == tuple(field.offset[i] + field.stride[i] * location[i] for i in (0, 1))
        assert tuple((last - top_left + 1).tolist()) == field.size
        middle = (top_left + last).double() / 2
        assert field.centre(location, image) == tuple(middle.tolist())


def test_the_paper_s_models() -> None:
    """By hand: the stem reads 7 pixels; each 7 x 7 block adds 6 strides, each downsampling 2."""
    femto = 7 + 3 * 6 * 4 + 2 * 4 + 3 * 6 * 8 + 2 * 8 + 9 * 6 * 16 + 2 * 16 + 3 * 6 * 32
    base = 7 + 3 * 6 * 4 + 2 * 4 + 4 * 6 * 8 + 2 * 8 + 27 * 6 * 16 + 2 * 16 + 3 * 6 * 32
    with torch.device("meta"):
        field = theoretical_receptive_field(mambaout.create_model("mambaout_femto"))
        assert theoretical_receptive_field(mambaout.create_model("mambaout_base")).size == (base, base) == (3495, 3495)
        token = theoretical_receptive_field(mambaout.create_model("vit_ti"))
    assert field.size == (femto, femto) == (1719, 1719)
    assert field.stride == (32, 32)
    assert field.centre((3, 3), (224, 224)) == (96, 96)  # not 111.5, the middle of the image
    assert token.size is None and token.local == (16, 16)
    assert token.centre((0, 13), (224, 224)) == (7.5, 215.5)


def test_reduced_models_know_their_stages() -> None:
    model = models.mambaout()
    reduced = Features(models.mambaout(), out_indices=[1, 0])
    assert theoretical_receptive_field(reduced, 0) == theoretical_receptive_field(model, 1)
    assert theoretical_receptive_field(reduced, -1) == theoretical_receptive_field(model, 0)
    tokens = Features(models.vit("causal_attention"), out_indices=[0])
    assert len(theoretical_receptive_field(tokens).steps) == 2  # the patches, and one of two blocks


def test_global_pooling_lies_in_the_middle() -> None:
    field = theoretical_receptive_field(CASES["global"][0]())
    assert field.centre((0, 0), (6, 7)) == (2.5, 3)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: theoretical_receptive_field(nn.LSTM(2, 2)), TypeError, "reach of LSTM is not known"),
        (lambda: theoretical_receptive_field(conv(1, 1, 3, padding_mode="circular")), TypeError, "circular"),
        (lambda: theoretical_receptive_field(nn.MaxPool2d(2, ceil_mode=True)), TypeError, "ceil_mode"),
        (lambda: theoretical_receptive_field(models.mambaout(), 2), ValueError, "2 stages 0..1"),
        (lambda: theoretical_receptive_field(conv(1, 1, 3), 1), ValueError, "1 stages"),
        (lambda: theoretical_receptive_field(conv(1, 1, 3)).support((0, 0), (2, 9)), ValueError, "too small"),
        (lambda: theoretical_receptive_field(conv(1, 1, 3)).support((0, 7), (9, 9)), ValueError, "7 x 7 positions"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(ask, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        ask()
