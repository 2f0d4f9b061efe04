"""Counting against the paper, against fvcore, and against the sum of its own parts."""

import logging
import math

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from mambaout.analysis import cost
from mambaout.layers import Attention, AttentionBlock, MambaBlock
from mambaout.layers.windowed import MaskedAttention, window_partition
from mambaout.models import create_model
from mambaout.models.weights import RELEASED

PAPER = {"femto": (7.3, 1.2), "kobe": (9.1, 1.5), "tiny": (26.5, 4.5), "small": (48.5, 9.0), "base": (84.8, 15.8)}
logging.getLogger("fvcore").setLevel(logging.ERROR)


@pytest.mark.parametrize("size", PAPER)
def test_the_papers_figures(size):
    with torch.device("meta"):  # shapes are enough
        model = create_model(f"mambaout_{size}")
        params, macs = cost.count_parameters(model), cost.count_macs(model, 3, 224, 224)
    assert (round(params / 1e6, 1), round(macs / 1e9, 1)) == PAPER[size]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", [96, 97])
def test_fvcore_counts_the_same(side):
    model = create_model("mambaout_femto").eval()
    expected = FlopCountAnalysis(model, torch.zeros(1, 3, side, side)).total()
    assert cost.count_macs(model, 3, side, side) == expected


@pytest.mark.filterwarnings("ignore")
def test_the_attention_rule_is_eq_6s_quadratic_term():
    """24 D^2 L + 4 D L^2 FLOPs are 12 D^2 L + 2 D L^2 multiply-adds a block; half the second when causal."""
    length, dim = 64, 192
    settings = {"image_size": 128, "patch_size": 16, "depth": 1}
    full = cost.count_macs(create_model("vit_ti", **settings), 3, 128, 128)
    causal = cost.count_macs(create_model("vit_ti", token_mixer="causal_attention", **settings), 3, 128, 128)
    assert full - causal == dim * length**2
    rest = full - 12 * dim**2 * length - 2 * dim * length**2
    patches, norms, head = 3 * 16 * 16 * dim * length, 3 * 5 * dim * length, dim * 1000
    assert rest == patches + norms + head


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("side", [224, 97])
def test_architecture_adds_up_at_any_size(name, side):
    layers = cost.architecture(name)["layers"]

    def positions(halvings):
        halved = side
        for _ in range(halvings or 0):
            halved = math.ceil(halved / 2)
        return 1 if halvings is None else halved**2

    with torch.device("meta"):
        model = create_model(name)
        expected = cost.count_macs(model, 3, side, side)
    assert sum(layer["macs_per_position"] * positions(layer["halvings"]) for layer in layers) == expected
    assert sum(layer["params"] for layer in layers) == cost.count_parameters(model)


def test_block_components_add_up():
    block = MambaBlock(24)
    parts = cost.block_components(block, 6, 5)
    assert [p["name"] for p in parts] == ["norm", "fc1_value", "fc1_gate", "conv", "ssm", "fc2"]
    assert sum(p["params"] for p in parts) == cost.count_parameters(block)
    assert sum(p["macs"] for p in parts) == cost.count_macs(block, 6, 5, 24)
    ssm = next(p for p in parts if p["name"] == "ssm")
    tokens, dim, rank, state = 30, 24, 2, 16
    assert ssm["macs"] == tokens * (dim * (rank + 2 * state) + dim * (rank + 4 * state + 2))
    assert ssm["params"] == dim * (rank + 2 * state) + dim * rank + dim + dim * state + dim


def test_block_components_with_attention_add_up():
    block = AttentionBlock(24, num_heads=3)
    parts = cost.block_components(block, 6, 5)
    assert [p["name"] for p in parts] == ["norm", "fc1_value", "fc1_gate", "conv", "attn", "fc2"]
    assert sum(p["params"] for p in parts) == cost.count_parameters(block)
    assert sum(p["macs"] for p in parts) == cost.count_macs(block, 6, 5, 24)


@pytest.mark.parametrize(("scan", "ssms"), [("bidirectional", 2), ("cross", 4), ("random", 1)])
def test_every_route_of_a_scan_is_counted(scan, ssms):
    one = {part["name"]: part for part in cost.block_components(MambaBlock(24), 6, 5)}
    many = {part["name"]: part for part in cost.block_components(MambaBlock(24, scan=scan), 6, 5)}
    for name in one:
        times = ssms if name == "ssm" else 1
        assert many[name]["macs"] == times * one[name]["macs"] and many[name]["params"] == times * one[name]["params"]


def test_masked_attention_counts_the_pairs_that_its_mask_allows():
    layer, plain = MaskedAttention(8, 2, window_partition(3)), Attention(8, 2)
    projections = cost.count_macs(plain, 36, 8) - 2 * 8 * 36**2
    assert cost.count_macs(layer, 6, 6, 8) == projections + 2 * 8 * 4 * 9**2  # four windows of nine tokens


def test_counting_leaves_the_model_as_it_was():
    model = create_model("mambaout_zepto").train()
    cost.count_macs(model, 1, 28, 28)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    with pytest.raises(ValueError, match="no MambaOut"):
        cost.architecture("vit_ti")
