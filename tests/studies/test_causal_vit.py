"""The causal ViT differs from the visible one in its mask alone; images, their order and their shifts are shared."""

import dataclasses

import pytest
import torch

from mambaout.models import create_model
from mambaout.studies.causal_vit import MODES, STUDY, run


def vit(mode: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"image_size": 28, "patch_size": 4, "dim": 16, "num_heads": 2, "depth": 2, "num_classes": 10}
    return create_model("vit_ti", in_chans=1, **sizes, **MODES[mode]).eval()


def test_modes_share_their_weights() -> None:
    weights = {mode: vit(mode).state_dict() for mode in MODES}
    for state in weights.values():
        assert state.keys() == weights["visible"].keys()
        assert all(torch.equal(state[name], weights["visible"][name]) for name in state)


@pytest.mark.parametrize(("mode", "seen"), [("visible", 49), ("causal", 25), ("bidirectional", 49)])
def test_what_the_middle_token_reads(mode: str, seen: int) -> None:
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    middle = vit(mode).forward_features(image)[0, 24]
    (gradient,) = torch.autograd.grad(middle.square().sum(), image)
    patches = gradient[0, 0].unfold(0, 4, 4).unfold(1, 4, 4).abs().amax((2, 3)).flatten()
    assert (patches > 0).sum() == seen
    if mode == "causal":
        assert (patches[:25] > 0).all()


def test_random_order_reads_as_many_as_its_place_allows() -> None:
    from mambaout.layers.scans import routes

    order = routes("random", 7, 7)[0]
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    features = vit("random").forward_features(image)[0]
    for place in (0, 10, 48):
        token = order[place]
        (gradient,) = torch.autograd.grad(features[token].square().sum(), image, retain_graph=True)
        patches = gradient[0, 0].unfold(0, 4, 4).unfold(1, 4, 4).abs().amax((2, 3)).flatten()
        assert set(patches.nonzero()[:, 0].tolist()) == set(order[: place + 1].tolist())


def test_the_order_of_tokens_changes_nothing_in_fully_visible_attention() -> None:
    image = torch.rand(2, 1, 28, 28)
    plain, shuffled = vit("visible"), vit("random")
    for block in shuffled.blocks:
        block.attn.causal = False
    torch.testing.assert_close(plain.forward_features(image), shuffled.forward_features(image))


def test_a_run_is_repeatable_and_paired() -> None:
    small = {"images": 256, "epochs": 1, "dim": 16, "depth": 1}
    configs = [dataclasses.replace(STUDY.variants[f"p4_d32/{mode}"], **small) for mode in ("visible", "causal")]
    visible, causal = (run(config, 1, torch.device("cpu")) for config in configs)
    again = run(configs[0], 1, torch.device("cpu"))
    assert visible == again
    assert visible["params"] == causal["params"] and visible["accuracy"] != causal["accuracy"]
    assert all(0 <= result["accuracy"] <= 1 for result in (visible, causal))
