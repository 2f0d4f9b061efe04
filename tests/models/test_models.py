"""Models against timm's of the same name, and the conventions they share."""

import re

import pytest
import timm
import torch

import mambaout
from mambaout.models.registry import MODELS
from mambaout.models.weights import RELEASED

SMALLER = {"depths": (1, 1, 2, 1)}
VARIANTS = mambaout.list_models("*_rw")
SETTINGS = {name: SMALLER if name in (*RELEASED, *VARIANTS) else {} for name in MODELS}
MAMBAOUTS = mambaout.list_models("mambaout_*", exclude_filters="*_rw")


def randomised(model):
    """A model whose every parameter matters: biases and norms are not at their initial values."""
    torch.manual_seed(0)
    for p in model.parameters():
        p.data += 0.02 * torch.randn_like(p)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in RELEASED), *((name, SMALLER) for name in VARIANTS)]
)
def test_logits_equal_timms(name, settings):
    theirs = randomised(timm.create_model(name, **settings))
    ours = mambaout.load_weights(mambaout.create_model(name, **settings).eval(), theirs.state_dict())
    for size in ((224, 224), (97, 131)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = theirs(x)
            assert (ours(x) - expected).norm() <= 1e-5 * expected.norm()


def test_gradients_equal_timms():
    theirs = randomised(timm.create_model("mambaout_femto", depths=(1, 1, 2, 1))).train()
    ours = mambaout.create_model("mambaout_femto", depths=(1, 1, 2, 1)).train()
    mambaout.load_weights(ours, theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (ours, theirs):
        torch.nn.functional.cross_entropy(model(x), torch.tensor([1, 7])).backward()
    expected = mambaout.models.from_timm({name: p.grad for name, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        assert (p.grad - expected[name]).norm() <= 1e-4 * expected[name].norm(), name


def test_feature_maps_equal_timms():
    theirs = timm.create_model("mambaout_femto", depths=(1, 1, 2, 1), features_only=True).eval()
    whole = timm.create_model("mambaout_femto", depths=(1, 1, 2, 1)).eval()
    theirs.load_state_dict({k.replace("stages.", "stages_"): v for k, v in whole.state_dict().items()}, strict=False)
    ours = mambaout.create_model("mambaout_femto", depths=(1, 1, 2, 1))
    mambaout.load_weights(ours, whole.state_dict())
    features = mambaout.models.Features(ours.eval(), (1, -1))
    x = torch.randn(1, 3, 65, 96)
    with torch.no_grad():
        expected = theirs(x)
        expected = [y if y.shape[1] == info["num_chs"] else y.permute(0, 3, 1, 2)
                    for y, info in zip(expected, theirs.feature_info, strict=True)]  # fmt: skip
        for a, b in zip(features(x), (expected[1], expected[3]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert features.feature_info.reduction() == [8, 32]


def test_vit_equals_timms():
    theirs = randomised(
        timm.create_model("vit_tiny_patch16_224", class_token=False, global_pool="avg", fc_norm=False, num_classes=7)
    )
    ours = mambaout.create_model("vit_ti", num_classes=7).eval()
    renamed = {name.replace("patch_embed.proj", "patch_embed"): value for name, value in theirs.state_dict().items()}
    mambaout.load_weights(ours, renamed)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_conventions(name):
    model = mambaout.create_model(name, num_classes=5, in_chans=2, **SETTINGS[name]).eval()
    x = torch.randn(2, 2, 224, 224) if name.startswith("vit") else torch.randn(2, 2, 45, 38)
    with torch.no_grad():
        assert model(x).shape == (2, 5)
        assert model.num_classes == 5 and model.get_classifier().out_features == 5
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(0)
        torch.testing.assert_close(model(x), features)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)
        maps = model.forward_intermediates(x, intermediates_only=True)
        assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
        for m, info in zip(maps, model.feature_info, strict=True):
            assert m.shape[2:] == tuple(-(-side // info["reduction"]) for side in x.shape[2:])
    assert len(model.pretrained_cfg["mean"]) == MODELS[name].in_chans


@pytest.mark.parametrize("name", MAMBAOUTS)
def test_mamba_in_place_of_gated_cnn_changes_only_the_ssm(name):
    plain = mambaout.create_model(name, **SETTINGS[name]).state_dict()
    mamba = mambaout.create_model(name, token_mixer="mamba", **SETTINGS[name]).state_dict()
    assert {k: v.shape for k, v in mamba.items() if ".ssm." not in k} == {k: v.shape for k, v in plain.items()}


@pytest.mark.parametrize("token_mixer", ["mamba", "attention", "causal_attention", "identity"])
def test_every_token_mixer_trains_in_the_same_macro_architecture(token_mixer):
    torch.manual_seed(0)
    plain = mambaout.create_model("mambaout_zepto").state_dict()
    model = mambaout.create_model("mambaout_zepto", token_mixer=token_mixer)
    mixers = (".ssm.", ".attn.", ".conv.")
    kept = {k: v.shape for k, v in model.state_dict().items() if ".blocks." not in k or not any(m in k for m in mixers)}
    assert kept == {k: v.shape for k, v in plain.items() if k in kept}
    model(torch.randn(2, 1, 20, 28)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("scan", ["bidirectional", "cross", "local", "continuous", "random"])
def test_a_scan_changes_the_order_of_the_ssm_and_nothing_else(scan):
    raster = mambaout.create_model("mambaout_zepto", token_mixer="mamba")
    model = mambaout.create_model("mambaout_zepto", token_mixer="mamba", scan=scan)
    theirs = raster.state_dict()
    # Give every route the one SSM of the raster model.
    shared = {name: theirs[re.sub(r"\.ssm\.\d\.", ".ssm.", name)] for name in model.state_dict()}
    model.load_state_dict(shared)
    x = torch.randn(2, 1, 28, 20, dtype=torch.double)
    difference = model.double().eval()(x) - raster.double().eval()(x)
    assert difference.abs().max() > 1e-12, "the order must matter, if little before training"
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_visual_mambas_are_hierarchical_and_isotropic():
    x = torch.randn(1, 1, 28, 28)
    maps = {
        name: [tuple(m.shape[1:]) for m in mambaout.create_model(name).forward_intermediates(x)[1]]
        for name in mambaout.list_models("visual_mamba_*")
    }
    assert maps == {
        "visual_mamba_fashion": [(48, 14, 14), (96, 7, 7)],
        "visual_mamba_zepto": [(32, 14, 14), (64, 7, 7)],
        "visual_mamba_iso": [(64, 14, 14)],
    }


def test_vit_at_another_size_interpolates_positions():
    model = mambaout.create_model("vit_ti", image_size=32, patch_size=8, depth=1, num_classes=3).eval()
    assert model(torch.randn(1, 3, 48, 64)).shape == (1, 3)
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        model(torch.randn(1, 3, 33, 32))


def test_initialisation_is_the_authors():
    torch.manual_seed(0)
    model = mambaout.create_model("mambaout_femto")
    assert abs(model.stages[3].blocks[0].fc1.weight.std().item() - 0.02) < 5e-4
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    rates = [b.drop_path.drop_prob for s in mambaout.create_model("mambaout_tiny", drop_path_rate=0.2).stages
             for b in s.blocks]  # fmt: skip
    assert rates == pytest.approx(torch.linspace(0, 0.2, 18).tolist())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mambaout.create_model("mambaout_tinny"), "did you mean mambaout_tiny"),
        (lambda: mambaout.create_model("mambaout_tiny", colour=1), "no setting colour; its settings are depths"),
        (lambda: mambaout.create_model("mambaout_tiny", token_mixer="rnn"), "one of gated_cnn, mamba"),
        (lambda: mambaout.create_model("vit_s", token_mixer="mamba"), "one of attention, causal_attention"),
        (lambda: mambaout.create_model("mambaout_tiny", depths=(1, 2)), "one entry a stage"),
        (lambda: mambaout.create_model("mambaout_tiny", token_mixer="mamba", scan="zig"), "one of raster, bidirect"),
        (lambda: mambaout.create_model("mambaout_tiny", scan="cross"), 'only token_mixer "mamba" has a scan'),
        (lambda: mambaout.create_model("mambaout_zepto", token_mixer="attention", head_dim=24), "divide the 32 chann"),
        (lambda: mambaout.create_model("mambaout_zepto", stem_stride=3), "stride must be 1, 2 or 4"),
        (lambda: mambaout.create_model("mambaout_zepto", num_classes=-1), "num_classes must be 0 or more"),
        (lambda: mambaout.create_model("mambaout_zepto", features_only=True, out_indices=(4,)), "stages 0..1"),
        (lambda: mambaout.create_model("vit_ti", image_size=30), "multiple of patch_size"),
        (lambda: mambaout.create_model("vit_ti", token_order="random"), "only causal attention depends"),
        (lambda: mambaout.create_model("vit_ti", in_chans=0), "in_chans must be positive"),
        (lambda: mambaout.create_model("mambaout_zepto", pretrained=True), "no released weights for mambaout_zepto"),
    ],
)
def test_bad_names_and_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["mambaout_zepto", "vit_ti"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 28, 28), "got 3 dimensions"),
        (torch.zeros(1, 28, 28, 1), "got 28 channels.*channels come second"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "got torch.uint8"),
        (torch.zeros(1, 1, 0, 28), "empty image"),
    ],
)
def test_bad_images(name, x, message):
    model = mambaout.create_model(name, in_chans=1)
    with pytest.raises(ValueError, match=message):
        model(x)
