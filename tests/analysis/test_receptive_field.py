"""Fields that are known, and every fast path against the obvious script."""

import field_models as models
import numpy as np
import pytest
import torch
from torch import nn

from mambaout.analysis import receptive_field
from mambaout.analysis.features import feature_maps, frozen
from mambaout.analysis.receptive_field import effective_receptive_field, effective_receptive_fields

MODELS = {
    "mambaout": (lambda: models.mambaout(), 20),
    "mamba": (lambda: models.mambaout("mamba", "bidirectional"), 12),
    "vit": (lambda: models.vit(), 16),
    "causal vit": (lambda: models.vit("causal_attention"), 16),
    "plain": (lambda: models.loud(nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.GELU(), nn.Conv2d(6, 5, 3))), 12),
}


def images(n: int, side: int) -> torch.Tensor:
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(2))


def obvious(
    model: nn.Module, x: torch.Tensor, stage: int, location: tuple[int, int], weights: torch.Tensor
) -> np.ndarray:
    """One image at a time, one location at a time, with the parameters' gradients: (N, C, H, W)."""
    gradients = []
    for image, v in zip(x, weights.expand(len(x), -1), strict=True):
        leaf = image[None].clone().requires_grad_()
        model.zero_grad()
        (feature_maps(model, leaf)[stage][0, :, location[0], location[1]] * v).sum().backward()
        gradients.append(leaf.grad[0])  # type: ignore[index]
    return torch.stack(gradients).double().numpy()


def close(actual: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("memory", [1, 2**31], ids=["one image at a time", "batched"])
def test_all_locations_of_many_images_equal_the_obvious_script(name: str, memory: int) -> None:
    make, side = MODELS[name]
    model, x = make(), images(3, side)
    expected: dict[tuple[int, int], np.ndarray] = {}
    for kind, reduce in (("absolute", np.abs), ("squared", np.square), ("signed", np.array)):
        fields = effective_receptive_fields(model, x, locations="all", kind=kind, direction="sum", memory=memory)
        height, width = fields[0].map_size
        assert [f.location for f in fields] == [(i, j) for i in range(height) for j in range(width)]
        for field in fields[:: len(fields) // 3]:
            if field.location not in expected:
                expected[field.location] = obvious(model, x, -1, field.location, torch.ones(1))
            wanted = reduce(expected[field.location]).sum(1)  # (N, H, W)
            assert field.samples is not None and close(field.samples, wanted) and close(field.map, wanted.mean(0))


def test_batches_of_backward_passes_are_used_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    grad = torch.autograd.grad

    def spy(*args: object, **options: object) -> object:
        if not options.get("create_graph"):  # which a block asks for inside of its own backward pass
            calls.append(bool(options.get("is_grads_batched")))
        return grad(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.autograd, "grad", spy)
    effective_receptive_fields(models.mambaout(), images(1, 16), locations="all")  # 4 x 4 of them
    assert calls == [True, True]
    calls.clear()
    effective_receptive_fields(models.mambaout(), images(10, 16))
    assert calls == [False] * 3  # of 1, 8 and 1 images
    calls.clear()
    effective_receptive_fields(models.mambaout("mamba"), images(1, 16), locations="all")
    assert calls == [False] * 16


def test_stages_and_locations_share_passes_and_answer_in_the_order_of_the_question() -> None:
    model, x = models.mambaout(), images(2, 16)
    asked = [(0, 0), "center", (-1, 1)]
    fields = effective_receptive_fields(model, x, stages=(-1, 0, 1), locations=asked)  # type: ignore[arg-type]
    assert [(f.stage, f.location) for f in fields] == [
        (1, (0, 0)), (1, (2, 2)), (1, (3, 1)),
        (0, (0, 0)), (0, (4, 4)), (0, (7, 1)),
        (1, (0, 0)), (1, (2, 2)), (1, (3, 1)),
    ]  # fmt: skip
    alone = effective_receptive_field(model, x, 0, (7, 1))
    assert close(fields[5].map, alone.map)
    assert np.array_equal(fields[0].map, fields[6].map)
    assert fields[5].centre == (14, 2) and fields[5].stride == (2, 2)


def test_random_signs_do_not_depend_on_the_batches_and_estimate_every_channel() -> None:
    model, x = models.mambaout(), images(1, 16)
    many = x.expand(400, -1, -1, -1)
    field = effective_receptive_field(model, many, 0, (1, 2), kind="squared")
    again = effective_receptive_field(model, many[:9], 0, (1, 2), kind="squared", memory=1)
    assert field.samples is not None and again.samples is not None and close(field.samples[:9], again.samples)
    every = sum(obvious(model, x, 0, (1, 2), v)[0, 0] ** 2 for v in torch.eye(8))  # each channel by itself
    assert np.abs(field.map - every).max() < 0.2 * every.max()


def test_the_sum_of_channels_is_blind_behind_a_layer_norm_and_random_signs_are_not() -> None:
    model = models.vit()
    nn.init.ones_(model.norm.weight)
    x = images(2, 16)
    blind = effective_receptive_field(model, x, direction="sum")
    seeing = effective_receptive_field(model, x)
    assert blind.map.max() < 1e-5 * seeing.map.max()


def test_channels_and_weights() -> None:
    model, x = models.mambaout(), images(2, 16)
    weights = torch.tensor([2.0, -1.0])
    field = effective_receptive_field(model, x, 0, (3, 3), channels=[5, -8], direction=weights, kind="signed")
    full = torch.zeros(8)
    full[5], full[0] = 2, -1
    assert close(field.map, obvious(model, x, 0, (3, 3), full).sum(1).mean(0))
    only = effective_receptive_field(model, x, 0, (3, 3), channels=[4])
    assert close(only.map, np.abs(obvious(model, x, 0, (3, 3), torch.eye(8)[4])).sum(1).mean(0))


@pytest.mark.parametrize("side", [9, 10])
def test_one_convolution_sees_its_kernel(side: int) -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    field = effective_receptive_field(conv, images(2, side), kind="signed")
    expected = np.zeros((side, side))
    expected[side // 2 - 1 : side // 2 + 2, side // 2 - 1 : side // 2 + 2] = conv.weight[0, 0].detach().numpy()
    assert close(field.map, expected)
    nn.init.ones_(conv.weight)
    field = effective_receptive_field(conv, images(2, side))
    assert field.area(1) == pytest.approx(9) and field.area(0.9) == pytest.approx(8.1)
    assert field.shift() == pytest.approx((0, 0), abs=1e-9)
    assert field.anisotropy() == pytest.approx(1) and field.causal_asymmetry() == pytest.approx(0, abs=1e-9)


def test_random_linear_convolutions_give_a_gaussian_that_grows_with_the_root_of_depth() -> None:
    """Luo et al. (2016), Section 2: with n layers of weights of one sign the variance is n times one kernel's."""
    torch.manual_seed(0)
    areas = {}
    for depth in (4, 16):
        layers = [nn.Conv2d(1, 1, 5, padding=2, bias=False) for _ in range(depth)]
        for layer in layers:
            layer.weight.data.uniform_()
        field = effective_receptive_field(nn.Sequential(*layers), images(1, 101))
        single = [effective_receptive_field(layer, images(1, 101)) for layer in layers]
        one_kernel = [field.covariance() - np.eye(2) / 12 for field in single]
        np.testing.assert_allclose(field.covariance() - np.eye(2) / 12, sum(one_kernel), rtol=1e-3, atol=1e-2)
        areas[depth] = field.area(0.5)
        # The half of a Gaussian's mass lies within an ellipse of area 2 pi ln 2 times the root of the determinant.
        gaussian = 2 * np.pi * np.log(2) * np.sqrt(np.linalg.det(field.covariance()))
        assert field.area(0.5) == pytest.approx(gaussian, rel=0.06)
    assert np.sqrt(areas[16] / areas[4]) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("make", [lambda: models.vit("causal_attention"), lambda: models.mambaout("mamba")])
def test_causal_mixers_see_nothing_after_the_token(make) -> None:  # type: ignore[no-untyped-def]
    model, x = make(), images(2, 16)
    fields = effective_receptive_fields(model, x, locations="all")
    for field in fields:
        allowed = receptive_field.theoretical_receptive_field(model).support(field.location, (16, 16)).numpy()
        assert not field.map[~allowed].any()
    if hasattr(model, "patch_embed"):  # patches do not overlap: what comes after is cut off cleanly
        assert all(field.causal_asymmetry() == 1 for field in fields[1:])
        assert fields[0].causal_asymmetry() == 0  # the first token sees itself alone


def test_full_attention_sees_to_both_sides() -> None:
    field = effective_receptive_field(models.vit(), images(2, 16), location=(1, 1))
    assert (field.map > 0).all() and abs(field.causal_asymmetry()) < 0.9


@pytest.mark.parametrize("flatten", [False, True])
def test_global_pooling_sees_everything_alike(flatten: bool) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if flatten else []))
    field = effective_receptive_field(model, images(2, 6))
    assert field.map_size == (1, 1) and field.location == (0, 0) and field.centre == (2.5, 2.5)
    np.testing.assert_allclose(field.map, 1 / 36, rtol=1e-6)
    assert field.area(0.5) == pytest.approx(18) and field.shift() == pytest.approx((0, 0), abs=1e-9)


def test_any_function_and_any_list_of_maps() -> None:
    x = images(2, 8)
    field = effective_receptive_field(lambda x: [x, x[:, :, ::2, ::2] ** 2], x, 1, (1, 3), kind="signed")
    expected = np.zeros((8, 8))
    expected[2, 6] = 2 * x[:, 0, 2, 6].double().mean()
    assert close(field.map, expected)
    assert field.centre == (2.5, 6.5) and field.stride == (2, 2)  # the middle of its share: how it is made is not known


def test_timm_s_models() -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("mambaout_femto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)).eval()
    fields = effective_receptive_fields(model, torch.randn(1, 3, 64, 64), stages=(0, 3))
    assert [f.map_size for f in fields] == [(16, 16), (2, 2)]


def test_the_model_stays_as_it_was_even_after_an_error() -> None:
    model = models.mambaout().train()
    model.head.eval()
    model.stem.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    with torch.no_grad():  # a surrounding one does not matter
        effective_receptive_field(model, images(1, 16))
    with pytest.raises(ValueError, match="location"):
        effective_receptive_field(model, images(1, 16), location=(4, 0))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_nothing_of_the_parameters_is_differentiated() -> None:
    conv = nn.Conv2d(1, 1, 3)
    with frozen(conv):
        assert not conv(images(1, 4)).requires_grad
    assert conv(images(1, 4)).requires_grad


def test_the_memory_budget_decides_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return torch.tanh(x * 2)  # keeps its output, and nothing else, for the backward pass

    kept = 4 * 16 * 16
    effective_receptive_field(forward, images(8, 16), memory=int(3.1 * kept * (1 + receptive_field.BACKWARD)))
    assert sizes == [1, 3, 3, 1]


def test_samples_can_be_left_away() -> None:
    field = effective_receptive_field(models.mambaout(), images(2, 16), keep_samples=False)
    assert field.samples is None
    with pytest.raises(ValueError, match="keep_samples"):
        field.interval(lambda f: f.area(0.5))


def test_half_precision_images_follow_the_model() -> None:
    field = effective_receptive_field(models.mambaout().double(), images(1, 16))
    assert field.map.dtype == np.float64 and field.map.max() > 0


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    effective_receptive_field(models.mambaout(), images(1, 16))
    assert not capsys.readouterr().err  # no terminal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": torch.zeros(1, 8, 8)}, r"\(N, C, H, W\)"),
        ({"images": torch.zeros(0, 1, 8, 8)}, "at least one"),
        ({"stage": 2}, "model's 2, 0..1"),
        ({"location": (0, 4)}, r"outside the map of 4 x 4"),
        ({"kind": "log"}, "absolute"),
        ({"channels": [12]}, r"0..11"),
        ({"channels": []}, r"0..11"),
        ({"direction": "up"}, "signs"),
        ({"direction": torch.ones(3)}, "12 weights"),
        ({"kind": "signed", "direction": "signs"}, "averages to nothing"),
        ({"images": torch.full((1, 1, 16, 16), float("nan"))}, "not finite"),
    ],
)
def test_bad_questions(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(models.mambaout(), **{"images": images(1, 16), **options})  # type: ignore[arg-type]


def test_what_gives_no_maps_is_refused() -> None:
    with pytest.raises(TypeError, match=r"but the model gave \(1, 1, 8\)"):
        effective_receptive_field(lambda x: x[:, :, 0], images(1, 8))
