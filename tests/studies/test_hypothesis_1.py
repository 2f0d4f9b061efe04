"""The variants of Hypothesis 1 differ in their token mixer alone; images, their order and the parameters are shared."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from mambaout.analysis.cost import count_parameters
from mambaout.models.matching import count
from mambaout.studies import hypothesis_1, sets
from mambaout.studies.hypothesis_1 import (
    CONTROLS,
    MIXERS,
    STUDY,
    UNTUNED,
    Hypothesis1Config,
    fresh,
    model_config,
    run,
    trained_config,
    validate,
)
from mambaout.studies.tuning import at

CPU = torch.device("cpu")
LARGER = ("conv_wide", "ssm_uncut")  # on purpose


def test_there_are_nine_mixers_on_each_set_and_controls_on_two() -> None:
    assert len(MIXERS) == 9
    controls = {f"{data}/{arm}" for data in ("fashion_mnist", "clutter") for arm in CONTROLS}
    controls |= {f"clutter/{mixer}" for mixer in MIXERS}
    expected = ((STUDY.variants, "", controls), (STUDY.large, "_large", set()), (UNTUNED, "", set()))
    for variants, suffix, more in expected:
        mixers = {f"{data}{suffix}/{mixer}" for data in ("fashion_mnist", "stamps") for mixer in MIXERS}
        assert set(variants) == mixers | more


@pytest.mark.parametrize("name", [n for n in (*STUDY.variants, *STUDY.large) if not n.endswith(LARGER)])
def test_parameters_are_matched_within_one_percent(name: str) -> None:
    config = ({**STUDY.variants, **STUDY.large})[name]
    plain = model_config(dataclasses.replace(config, token_mixer="gated_cnn", scan="raster"))
    assert plain.expansion_ratio == 8 / 3
    assert abs(count_parameters(fresh(config)) / count(plain) - 1) < 0.01


@pytest.mark.parametrize("data", ["fashion_mnist", "clutter", "stamps"])
def test_variants_differ_in_the_mixer_and_its_width_alone(data: str) -> None:
    settings = [
        {**dataclasses.asdict(model_config(STUDY.variants[f"{data}/{mixer}"])), "token_mixer": "", "scan": "",
         "expansion_ratio": 0, "positions": False}
        for mixer in MIXERS
    ]  # fmt: skip
    assert all(other == settings[0] for other in settings)
    recipes = [
        {**dataclasses.asdict(STUDY.variants[f"{data}/{mixer}"]), "token_mixer": "", "scan": "", "positions": False}
        for mixer in MIXERS
    ]
    assert all(other == recipes[0] for other in recipes)
    placed = {mixer for mixer in MIXERS if STUDY.variants[f"{data}/{mixer}"].positions}
    assert placed == {"attention", "causal_attention"}, "those that know no order by themselves"


def test_what_the_larger_and_the_longer_arms_have_more_of() -> None:
    arms = ("gated_cnn", "conv_wide", "conv_longer")
    plain, wide, longer = (STUDY.variants[f"fashion_mnist/{arm}"] for arm in arms)
    assert wide.dims == tuple(5 * dim // 4 for dim in plain.dims) and fresh(wide).cfg.dims == wide.dims
    assert dataclasses.replace(longer, epochs=plain.epochs) == plain and longer.epochs > plain.epochs
    cut, uncut = (model_config(STUDY.variants[f"fashion_mnist/{arm}"]) for arm in ("ssm_raster", "ssm_uncut"))
    assert dataclasses.replace(cut, expansion_ratio=8 / 3) == uncut and cut.expansion_ratio < 8 / 3


@pytest.fixture
def small(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Hypothesis1Config:
    """One short run, which keeps its weights in a folder of its own."""
    config = Hypothesis1Config(data="stamps", images=64, epochs=2, batch_size=32)
    monkeypatch.setattr(hypothesis_1, "STUDY", dataclasses.replace(STUDY, variants={"stamps/x": config}, pairs=()))
    monkeypatch.setattr(sets, "SCORED", 50)
    monkeypatch.setattr(hypothesis_1, "data_dir", lambda: tmp_path)
    sets.load.cache_clear()
    yield config
    sets.load.cache_clear()


def test_a_run_is_repeatable_and_keeps_its_weights(small: Hypothesis1Config, tmp_path, monkeypatch) -> None:
    first = run(small, 0, CPU)
    assert first.keys() == {"accuracy", "accuracy_1", "accuracy_2", "train_loss", "params", "macs", "step_ms"}
    assert first["accuracy"] == first["accuracy_2"], "the curve ends where the run does"
    assert first["step_ms"] > 0
    assert validate(small, 0, CPU).keys() == {"validation_accuracy"}
    path = tmp_path / hypothesis_1.WEIGHTS / "x.safetensors"
    weights = load_file(path)
    assert {**first, "step_ms": 0} == {**run(small, 0, CPU), "step_ms": 0}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(path).items())
    written = path.read_bytes()

    monkeypatch.setattr(hypothesis_1, "find", lambda name: tmp_path / name)
    monkeypatch.setattr(hypothesis_1, "MIXERS", {"x": {}})
    model = hypothesis_1.trained("x")
    assert not model.training and trained_config("x") == small
    before = fresh(small).state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    run(small, 1, CPU)
    run(dataclasses.replace(small, weight_decay=0.0), 0, CPU)
    assert path.read_bytes() == written, "only seed 0 of a variant is kept"
    tuned = at(small, 1e-3)
    run(tuned, 0, CPU)
    assert trained_config("x") == tuned, "at whatever rate"


@pytest.mark.parametrize("mixer", MIXERS)
def test_kept_weights_tell_their_configuration(mixer: str) -> None:
    assert trained_config(mixer) == UNTUNED[f"stamps/{mixer}"]
    assert hypothesis_1.trained(mixer).cfg == model_config(trained_config(mixer))


def test_an_unknown_mixer_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown mixer 'ssm'; the study has gated_cnn, conv_gelu"):
        hypothesis_1.trained("ssm")
