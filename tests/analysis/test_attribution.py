"""Attributions against models whose answer is known, and what each method promises."""

import field_models as models
import numpy as np
import pytest
import torch
from torch import nn

from mambaout.analysis.attribution import attribute, integrated_gradients
from mambaout.analysis.randomisation import randomisation_check

METHODS = ("integrated_gradients", "occlusion", "grad_cam", "saliency")


def image(side: int = 16) -> torch.Tensor:
    return torch.randn(1, side, side, generator=torch.Generator().manual_seed(3))


def linear(side: int = 8) -> nn.Module:
    """logits = W x: the attribution of pixel i to class k is W_ki x_i."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 3))


@pytest.mark.parametrize("make", [models.mambaout, models.vit, lambda: models.mambaout("mamba")])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_every_model_and_leaves_it_as_it_was(make, method) -> None:  # type: ignore[no-untyped-def]
    model = make().train()
    result = attribute(model, image(), method, **({"tolerance": 1.0} if method == "integrated_gradients" else {}))
    assert result.map.shape == (16, 16) and np.isfinite(result.map).all() and np.ptp(result.map) > 0
    assert result.target == int(model.eval()(image()[None]).argmax())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_linear_model_by_hand() -> None:
    model, x = linear(), image(8)
    weight = model[1].weight[2].detach().view(8, 8).double().numpy()  # type: ignore[index, union-attr, operator]
    pixels = x[0].double().numpy()
    np.testing.assert_allclose(attribute(model, x, target=2).map, weight * pixels, rtol=1e-4, atol=1e-6)
    occluded = attribute(model, x, "occlusion", 2, window=1, stride=1).map
    np.testing.assert_allclose(occluded, weight * pixels, rtol=1e-3, atol=1e-6)
    for noise in (0.0, 0.3):
        np.testing.assert_allclose(attribute(model, x, "saliency", 2, noise=noise).map, np.abs(weight), rtol=1e-5)


def test_integrated_gradients_are_complete_or_refused() -> None:
    model, x = models.mambaout(), image()
    result = integrated_gradients(model, x, 1, steps=256, tolerance=0.01)
    with torch.no_grad():
        change = model(x[None])[0, 1] - model(torch.zeros_like(x)[None])[0, 1]
    assert result.map.sum() == pytest.approx(float(change), rel=0.011)
    assert result.completeness_error is not None and result.completeness_error <= 0.01
    with pytest.raises(ValueError, match="take more steps"):
        integrated_gradients(model, x, 1, steps=1, tolerance=1e-4)


def test_a_whole_image_of_channels_falls_once() -> None:
    """Three channels occluded together: the map, their sum, is the fall of the logit, not three times that."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    x = torch.randn(3, 4, 4)
    result = attribute(model, x, "occlusion", 0, window=4, stride=4)
    with torch.no_grad():
        fall = model(x[None])[0, 0] - model(torch.zeros(1, 3, 4, 4))[0, 0]
    np.testing.assert_allclose(result.map, float(fall), rtol=1e-4)


@pytest.mark.parametrize("stage", [0, 1, -1])
def test_grad_cam_is_the_map_weighted_by_its_mean_gradient(stage: int) -> None:
    model, x = models.mambaout(), image()
    result = attribute(model, x, "grad_cam", 1, stage=stage)
    model.requires_grad_(False)
    y = model.stem(x[None].requires_grad_())
    for s in model.stages[: stage % 2 + 1]:
        y = s(y)
    z = y
    for s in model.stages[stage % 2 + 1 :]:
        z = s(z)
    (gradient,) = torch.autograd.grad(model.forward_head(z)[0, 1], y)
    expected = (y * gradient.mean((1, 2), keepdim=True)).sum(-1)[0].detach().numpy()
    np.testing.assert_allclose(result.values[0], expected, rtol=1e-4, atol=1e-6)
    step = 16 // len(expected)  # location i lies at pixel step * i: there the enlarged map has its numbers
    np.testing.assert_allclose(result.map[::step, ::step], expected, rtol=1e-4, atol=1e-6)


def test_noise_is_drawn_from_its_seed_and_leaves_the_global_one() -> None:
    model, x = models.mambaout(), image()
    state = torch.random.get_rng_state()
    first, again, other = (attribute(model, x, "saliency", 0, samples=4, seed=s).map for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_randomisation_runs_from_the_output_to_the_input() -> None:
    model = models.mambaout()
    before = {name: p.clone() for name, p in model.named_parameters()}
    steps = randomisation_check(model, image(), "saliency", samples=2)
    assert [s.part for s in steps] == ["trained", "head", "stages.1", "stages.0", "stem"]
    assert steps[0].similarity == 1 and abs(steps[-1].similarity) < 0.5
    assert len({s.attribution.target for s in steps}) == 1
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    vit = randomisation_check(models.vit(), image(), "grad_cam")
    assert [s.part for s in vit] == ["trained", "head", "norm", "blocks.1", "blocks.0", "patch_embed", "pos_embed"]


def test_a_method_that_shows_the_image_alone_is_found_out() -> None:
    """Without weights that differ there is nothing to learn from: the map of a mean does not change."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    steps = randomisation_check(model, image(8), "occlusion", 0, window=1, stride=1)
    assert abs(steps[-1].similarity) > 0.99 and steps[-1].similarity_of_sizes > 0.99


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image": torch.zeros(1, 1, 16, 16)}, ValueError, r"\(C, H, W\)"),
        ({"method": "magic"}, ValueError, "known methods: integrated_gradients"),
        ({"target": 4}, ValueError, "4 classes, 0..3"),
        ({"model": nn.Conv2d(1, 1, 1)}, ValueError, "classifier"),
        ({"model": linear(16), "method": "grad_cam"}, TypeError, "needs a MambaOut or a ViT, got Sequential"),
        ({"method": "grad_cam", "stage": 2}, ValueError, "2 stages"),
    ],
)
def test_bad_questions(options, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        attribute(**{"model": models.mambaout(), "image": image(), **options})
