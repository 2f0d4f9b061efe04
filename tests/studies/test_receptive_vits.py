"""The two ViTs differ in their mask alone, a run is repeatable, and the weights come back."""

import dataclasses

import pytest
import torch

from mambaout.datasets.stamps import stamps
from mambaout.studies import kept, receptive_vits
from mambaout.studies.images import accuracy, normalise
from mambaout.studies.receptive_vits import STUDY, fresh, run, trained
from mambaout.studies.runner import read_results


def test_both_begin_with_the_same_weights_and_see_what_their_mask_allows() -> None:
    visible, causal = (fresh(STUDY.variants[name]).eval() for name in ("visible", "causal"))
    for name, tensor in visible.state_dict().items():
        assert torch.equal(tensor, causal.state_dict()[name])
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    for model, seen in ((visible, 64), (causal, 21)):
        token = model.forward_features(image)[0, 20]
        (gradient,) = torch.autograd.grad(token.square().sum(), image)
        patches = gradient[0].abs().amax(0).unfold(0, 8, 8).unfold(1, 8, 8).amax((2, 3))
        assert (patches > 0).sum() == seen


def test_a_run_is_repeatable() -> None:
    config = dataclasses.replace(STUDY.variants["causal"], images=64, epochs=1, dim=16, depth=1)
    values = run(config, 1, torch.device("cpu"))
    assert set(values) == {"accuracy", "train_loss", "params"} and 0 <= values["accuracy"] <= 1
    assert run(config, 1, torch.device("cpu")) == values


def test_kept_weights_stand_side_by_side(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(kept, "find", lambda name: tmp_path / name)
    models = {name: fresh(config, seed) for seed, (name, config) in enumerate(STUDY.variants.items(), 1)}
    for name, model in models.items():
        kept.keep(model, receptive_vits.WEIGHTS, name)
    for name, model in models.items():
        for key, tensor in trained(name).state_dict().items():
            torch.testing.assert_close(tensor, model.state_dict()[key].half().float(), rtol=0, atol=0)


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match="unknown variant 'full'; the study has visible, causal"):
        trained("full")


@pytest.mark.parametrize("variant", ["visible", "causal"])
def test_the_weights_in_the_repository_have_learned_what_the_result_file_says(variant: str) -> None:
    test = stamps("test", 500)
    (row,) = [r for r in read_results("receptive_vits") if r.variant == variant and r.metric == "accuracy"]
    assert accuracy(trained(variant), normalise(test.images), test.labels) == pytest.approx(row.value, abs=0.06)
