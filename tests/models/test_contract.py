"""What timm's users expect of a model, on every model."""

import dataclasses
import math

import pytest
import timm
import torch
from every_model import NAMES, images, make
from timm.optim import param_groups_layer_decay
from torch import nn

import mambaout
from mambaout import is_model, list_pretrained
from mambaout.models import Features, get_pretrained_cfg, get_pretrained_cfg_value
from mambaout.models.registry import MODELS

CHOICES = [None, 1, (0,), (0, -1), (-1, 0)]


# Maps


@pytest.mark.parametrize("name", NAMES)
def test_intermediates_are_the_final_features_and_a_list(name):
    model = make(name).eval()
    x = images(model, 2)
    final, maps = model.forward_intermediates(x)
    info = timm.models.FeatureInfo(model.feature_info, len(model.feature_info))
    assert torch.equal(final, model.forward_features(x))
    assert [y.shape[1] for y in maps] == info.channels()
    assert [y.shape[2:] for y in maps] == [(math.ceil(32 / r), math.ceil(32 / r)) for r in info.reduction()]
    last = maps[-1] if model.output_fmt == "NHWC" else model.forward_intermediates(x, 1, norm=True)[1][0]
    assert torch.equal(last.flatten(2).transpose(1, 2), final.reshape(2, -1, model.num_features))
    own = model.forward_intermediates(x, output_fmt=model.output_fmt, intermediates_only=True)
    for a, b in zip(own, maps, strict=True):
        assert torch.equal(a.reshape(2, -1, a.shape[-1]), b.flatten(2).transpose(1, 2))
    with pytest.raises(ValueError, match="output_fmt must be NCHW or N"):
        model.forward_intermediates(x, output_fmt="CHWN")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_asked_for_is_not_computed(name):
    model = make(name).eval()
    x = images(model)
    whole = model.forward_intermediates(x)[1]
    parts = model.stages if model.output_fmt == "NHWC" else model.blocks
    for part in parts[1:]:
        part.register_forward_hook(lambda *_: pytest.fail("a later stage was computed"))
    (first,) = model.forward_intermediates(x, [0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(first, whole[0])
    for wrong in (0, len(whole) + 1, (len(whole),), ()):
        with pytest.raises(ValueError, match="1 to|must name some of"):
            model.forward_intermediates(x, wrong)


@pytest.mark.parametrize("name", ["mambaout_femto", "mambaout_base_plus_rw"])
@pytest.mark.parametrize("output_fmt", ["NCHW", "NHWC"])
def test_intermediates_equal_timms(name, output_fmt):
    theirs = timm.create_model(name, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)).eval()
    ours = mambaout.load_weights(make(name).eval(), theirs.state_dict())
    x = images(ours)
    with torch.no_grad():
        for indices in (None, 2, [0, 2]):
            expected = theirs.forward_intermediates(x, indices, output_fmt=output_fmt)
            found = ours.forward_intermediates(x, indices, output_fmt=output_fmt)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [True, False])
def test_intermediates_of_a_vit_equal_timms(norm):
    size = {"embed_dim": 16, "depth": 4, "num_heads": 2, "img_size": 32}
    theirs = timm.create_model(
        "vit_tiny_patch16_224", class_token=False, global_pool="avg", fc_norm=False, **size
    ).eval()
    ours = make("vit_ti").eval()
    renamed = {name.replace("patch_embed.proj", "patch_embed"): value for name, value in theirs.state_dict().items()}
    mambaout.load_weights(ours, renamed)
    x = images(ours)
    for output_fmt in ("NCHW", "NLC"):
        expected = theirs.forward_intermediates(x, [1, 3], norm=norm, output_fmt=output_fmt)
        found = ours.forward_intermediates(x, [1, 3], norm=norm, output_fmt=output_fmt)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("out_indices", CHOICES)
@pytest.mark.parametrize("name", NAMES)
def test_features_only_keeps_and_trains_what_it_gives(name, out_indices):
    whole = make(name).eval()
    model = make(name, features_only=True, out_indices=out_indices).eval()
    mambaout.load_weights(model, whole.state_dict())
    x = images(whole)
    maps = model(x)
    assert [y.shape[1] for y in maps] == model.feature_info.channels()
    assert [32 // y.shape[2] for y in maps] == model.feature_info.reduction()
    every = whole.forward_intermediates(x, intermediates_only=True)
    for i, y in zip(model.out_indices, maps, strict=True):
        torch.testing.assert_close(y, every[i])
        assert isinstance(whole.get_submodule(model.feature_info.module_name(i)), nn.Module)
    sum(y.sum() for y in maps).backward()
    assert all(p.grad is not None for p in model.parameters()), "a parameter without gradient stops DDP"
    if max(model.out_indices) == 0:
        assert not any("stages.1." in p or ("blocks.1." in p and "stages" not in p) for p in model.state_dict())
    assert not any(".head." in name for name in model.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_feature_info_answers_as_timms(name):
    base = make(name).feature_info
    ours = make(name, features_only=True, out_indices=(0, -1)).feature_info
    theirs = timm.models.FeatureInfo([dict(info) for info in base], ours.out_indices)
    assert len(ours) == len(theirs) and [*ours] == [*theirs]
    for index in (None, 0, [0]):
        for ask in ("channels", "reduction", "module_name"):
            assert getattr(ours, ask)(index) == getattr(theirs, ask)(index)
        for keys in (None, ["num_chs"]):
            assert ours.get_dicts(keys, index) == theirs.get_dicts(keys, index)


def test_features_come_as_lists_or_dicts_in_either_order_of_axes():
    model = make("mambaout_femto").eval()
    x = images(model)
    last = Features(make("mambaout_femto").eval(), (0, 3))(x)[1]
    as_dict = make("mambaout_femto", features_only=True, out_indices=(0, 3), feature_cls="dict").eval()(x)
    assert as_dict.keys() == {"0", "3"} and torch.equal(as_dict["3"], last)
    nhwc = make("mambaout_femto", features_only=True, out_indices=2, output_fmt="NHWC").eval()
    assert nhwc.output_fmt == "NHWC" and nhwc.out_indices == (2, 3)
    assert torch.equal(nhwc(x)[1], last.permute(0, 2, 3, 1))
    assert make("vit_s", features_only=True).out_indices == (1, 2, 3)  # timm's default, the last three
    for wrong, message in (({"feature_cls": "hook"}, "getter, list, dict"), ({"output_fmt": "NLC"}, "NCHW or NHWC")):
        with pytest.raises(ValueError, match=message):
            make("mambaout_femto", features_only=True, **wrong)


@pytest.mark.parametrize("name", NAMES)
def test_layers_can_be_pruned_by_hand(name):
    model = make(name).eval()
    x = images(model)
    first = model.forward_intermediates(x, [0], output_fmt=model.output_fmt)[1][0]
    assert model.prune_intermediate_layers([0]) == [0]
    assert torch.equal(model(x), first) and model.num_classes == 0
    assert model.num_features == model.feature_info[0]["num_chs"]
    model.reset_classifier(3, "avg")
    assert model(x).shape == (1, 3)


# Heads


@pytest.mark.parametrize("name", NAMES)
def test_the_head_can_be_taken_off_and_put_on(name):
    model = make(name, num_classes=5).eval()
    x = images(model)
    features = model.forward_features(x)
    before = model.forward_head(features, pre_logits=True)
    assert model(x).shape == (1, 5) and before.shape == (1, model.head_hidden_size)
    assert model.get_classifier().out_features == 5
    model.reset_classifier(0)
    assert torch.equal(model(x), before) and model.num_classes == 0
    model.reset_classifier(0, "")
    unpooled = model(x)
    assert unpooled.shape == (*features.shape[:-1], model.head_hidden_size)
    model.reset_classifier(3, "avg")
    assert model(x).shape == (1, 3) == (1, model.get_classifier().out_features)
    born = make(name, num_classes=0, global_pool="").eval()
    assert born(x).shape == unpooled.shape and born.num_classes == 0
    model.head = nn.Identity()
    assert model(x).shape == (features.shape if model.output_fmt == "NHWC" else (1, model.num_features))
    assert isinstance(model.get_classifier(), nn.Identity)
    with pytest.raises(ValueError, match='global_pool must be "avg"'):
        model.reset_classifier(3, "max")


@pytest.mark.parametrize("name", NAMES)
def test_dropout_stands_before_the_last_layer(name):
    model = make(name, drop_rate=0.25)
    assert model.drop_rate == 0.25
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25]


# What a model says of itself


@pytest.mark.parametrize("name", MODELS)
def test_pretrained_cfg_is_true(name):
    model = make(name)
    cfg = model.default_cfg
    assert cfg is model.pretrained_cfg and get_pretrained_cfg(name) == cfg
    assert {f"{cfg[key]}.weight" for key in ("first_conv", "classifier")} <= model.state_dict().keys()
    config = MODELS[name]
    assert cfg["input_size"][0] == config.in_chans == len(cfg["mean"]) == len(cfg["std"])
    assert cfg["num_classes"] == config.num_classes and get_pretrained_cfg_value(name, "colour") is None
    if "pool_size" in cfg:  # of the whole model, at the size that it is made for
        narrow = dataclasses.replace(config, dims=tuple(16 for _ in config.dims), depths=tuple(1 for _ in config.dims))
        with torch.no_grad():
            y = type(model)(narrow).eval().forward_features(torch.zeros(1, *cfg["input_size"]))
        assert y.shape[1:3] == cfg["pool_size"]
    data = timm.data.resolve_data_config(model=model)
    assert data["input_size"] == cfg["input_size"] and data["mean"] == cfg["mean"]
    assert cfg["test_input_size"][0] == cfg["input_size"][0]


def test_tags_name_trained_weights():
    tag = "sw_e150_r384_in12k_ft_in1k"
    model = mambaout.create_model(f"hf-hub:timm/mambaout_base_plus_rw.{tag}", dims=(8,) * 4, depths=(1, 1, 1, 1))
    theirs = timm.get_pretrained_cfg(f"mambaout_base_plus_rw.{tag}").to_dict()
    for key in ("tag", "input_size", "test_input_size", "pool_size", "crop_pct", "crop_mode", "mean", "hf_hub_id"):
        assert model.pretrained_cfg[key] == theirs[key], key
    twelve = mambaout.create_model("mambaout_base_plus_rw.sw_e150_in12k", dims=(8,) * 4, depths=(1, 1, 1, 1))
    assert twelve.num_classes == 11821
    same = mambaout.create_model("mambaout_base_plus_rw", pretrained_cfg=tag, dims=(8,) * 4, depths=(1, 1, 1, 1))
    assert same.pretrained_cfg == model.pretrained_cfg
    with pytest.raises(ValueError, match="has no trained weights 'in22k': did you mean mambaout_tiny.in1k"):
        mambaout.create_model("mambaout_tiny.in22k")
    with pytest.raises(ValueError, match="mambaout_zepto has no trained weights 'in1k': it has none"):
        get_pretrained_cfg("mambaout_zepto.in1k")


def test_names_are_found_as_in_timm():
    theirs = timm.list_models("mambaout*", pretrained=True)
    assert set(mambaout.list_models("mambaout*", pretrained=True, exclude_filters="*fashion")) == set(theirs)
    assert list_pretrained(["mambaout_tiny*", "vit*"]) == ["mambaout_tiny.in1k"]
    assert mambaout.list_models("*_tiny*") == ["mambaout_tiny"] and is_model("mambaout_tiny.in1k")
    assert mambaout.list_models(module="vit", exclude_filters=["vit_s", "vit_b"]) == ["vit_ti"]
    assert mambaout.list_models("*tall*", include_tags=True) == ["mambaout_base_tall_rw.sw_e500_in1k"]
    assert mambaout.list_models("mambaout_base_plus_rw.*384*", include_tags=True, name_matches_cfg=True) == [
        "mambaout_base_plus_rw.sw_e150_r384_in12k_ft_in1k"
    ]
    assert mambaout.list_models() == list(MODELS) and not is_model("resnet50")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_config_is_left_to_others(name):
    model = make(name)
    assert not hasattr(model, "config") and model.cfg.num_classes == model.num_classes
    model.config = {"of": "another library"}
    assert model.config == {"of": "another library"}


# Training


@pytest.mark.parametrize("name", NAMES)
def test_layer_wise_decay_by_timm(name):
    model = make(name)
    groups = param_groups_layer_decay(
        model, 0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5, verbose=False
    )
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert scales.keys() == {id(p) for p in named.values()}
    first, last = (scales[id(named[f"{model.pretrained_cfg[key]}.weight"])] for key in ("first_conv", "classifier"))
    assert first < last == 1.0
    stages = [scales[id(p)] for key, p in named.items() if ".blocks." in f".{key}" and key.endswith("weight")]
    assert stages == sorted(stages) and len(set(scales.values())) > 2
    kept = [key for key in named if key.endswith(("A_log", ".D", "dt_bias", "pos_embed"))]
    assert model.no_weight_decay() == set(kept) and not any(decay[id(named[key])] for key in kept)
    assert decay[id(model.get_classifier().weight)] == 0.05
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert sorted(key for group in coarse.values() for key in group) == sorted(named)


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_computes_blocks_twice_and_the_same(name):
    models = make(name), make(name)
    models[1].set_grad_checkpointing()
    calls = [0, 0]
    for i, model in enumerate(models):
        block = model.stages[0].blocks[0] if model.output_fmt == "NHWC" else model.blocks[0]
        block.register_forward_pre_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
        model(images(model)).sum().backward()
    assert calls == [1, 2]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    models[1].set_grad_checkpointing(False)
    models[1](images(models[1])).sum().backward()
    assert calls == [1, 3]
