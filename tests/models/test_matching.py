"""The eight models of the comparison of token mixers differ in the mixer, not in size."""

import dataclasses

import pytest

from mambaout.models import create_model
from mambaout.models.matching import count, match_parameters
from mambaout.models.registry import MODELS

VARIANTS = [
    {"token_mixer": "gated_cnn"},
    *({"token_mixer": "mamba", "scan": scan} for scan in ("raster", "bidirectional", "cross", "local")),
    {"token_mixer": "attention"},
    {"token_mixer": "causal_attention"},
    {"token_mixer": "identity"},
]


@pytest.mark.parametrize("name", ["mambaout_zepto", "mambaout_atto", "mambaout_atto64"])
def test_parameters_of_all_variants_can_be_matched(name):
    configs = [dataclasses.replace(MODELS[name], **variant) for variant in VARIANTS]
    target = max(count(config) for config in configs)
    for config in configs:
        matched = match_parameters(config, target)
        assert abs(count(matched) / target - 1) < 0.01
        assert dataclasses.replace(matched, expansion_ratio=config.expansion_ratio) == config, "one setting may change"
        assert matched.expansion_ratio >= config.expansion_ratio


def test_it_counts_what_is_built():
    config = dataclasses.replace(MODELS["mambaout_zepto"], token_mixer="mamba", scan="cross")
    model = create_model("mambaout_zepto", token_mixer="mamba", scan="cross")
    assert count(config) == sum(p.numel() for p in model.parameters())
    # 32 and 64 channels, expansion 8 / 3: nothing is left to change.
    assert count(match_parameters(config, count(config))) == count(config)


def test_too_small_a_model_is_refused():
    with pytest.raises(ValueError, match="100 parameters are too few: the narrowest has"):
        match_parameters(MODELS["mambaout_zepto"], 100)


def test_too_large_a_model_is_refused():
    with pytest.raises(ValueError, match="parameters are too many for an expansion ratio below 64"):
        match_parameters(MODELS["mambaout_zepto"], 10**9)
