"""Parts of a model that somebody replaces, wraps, hooks or transforms do what was done to them."""

import pytest
import torch
from every_model import NAMES, images, make
from torch import nn
from torch.func import functional_call, grad, jacfwd, jvp, stack_module_state, vmap

MODES = [pytest.param(False, id="inference"), pytest.param(True, id="training")]


@pytest.fixture
def model():
    """In which every part has a say."""
    model = make("mambaout_femto").eval()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


def blocks(model):
    return [block for stage in model.stages for block in stage.blocks]


def seen(model, x):
    """The same computed with a hook on every module, so that none can be passed over."""
    handles = [module.register_forward_hook(lambda *_: None) for module in model.modules()]
    y = model(x)
    for handle in handles:
        handle.remove()
    return y


@pytest.mark.parametrize("training", MODES)
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1, "padding_mode": "circular"},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "bias": False},
    ],
    ids=str,
)
def test_other_convolutions_are_respected(model, options, training):
    x = images(model)
    with torch.set_grad_enabled(training):
        before = model(x)
        old = model.stem.conv1
        model.stem.conv1 = nn.Conv2d(3, old.out_channels, 3, stride=2, **options)
        for block in blocks(model):
            channels = block.conv.in_channels
            wider = options | {"padding": 3 * options["padding"]}
            if options.get("padding_mode") == "circular":
                wider["padding_mode"] = "replicate"  # wraps no more than once around the last stage's single token
            block.conv = nn.Conv2d(channels, channels, 7, groups=channels, **wider)
        y = model(x)
        torch.testing.assert_close(y, seen(model, x), rtol=1e-4, atol=1e-5)
        assert (y - before).abs().max() > 1e-3


@pytest.mark.parametrize("training", MODES)
def test_linear_layers_without_bias(model, training):
    x = images(model)
    with torch.set_grad_enabled(training):
        for block in blocks(model):
            for name in ("fc1", "fc2"):
                old = getattr(block, name)
                setattr(block, name, nn.Linear(old.in_features, old.out_features, bias=False))
        torch.testing.assert_close(model(x), seen(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", MODES)
@pytest.mark.parametrize("place", ["fc1", "fc2", "conv", "norm", "stem.conv1", "stem.conv2", "head.fc1"])
def test_replaced_forwards_are_called(model, place, training):
    """As LoRA of the diffusion world and accelerate's hooks do it."""
    owners = [model] if "." in place else blocks(model)
    called = []
    for owner in owners:
        part = owner.get_submodule(place)
        part.forward = lambda x, old=part.forward: (called.append(place), 1.5 * old(x))[1]
    with torch.set_grad_enabled(training):
        model(images(model))
    assert len(called) == len(owners)


class Wrapper(nn.Module):
    """Has none of the attributes of what it wraps."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("training", MODES)
def test_wrapped_layers_compute_the_same(model, training):
    x = images(model)
    with torch.set_grad_enabled(training):
        expected = model(x)
        for owner in [model.stem, *(stage.downsample for stage in model.stages), *blocks(model)]:
            for name, part in list(owner.named_children()):
                if isinstance(part, nn.Linear | nn.Conv2d):
                    setattr(owner, name, Wrapper(part))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


class Int8(torch.Tensor):
    """A weight of 8 bits that knows `linear` alone, as quantised weights of other libraries do."""

    @staticmethod
    def __new__(cls, weight):
        return torch.Tensor._make_wrapper_subclass(cls, weight.shape, dtype=weight.dtype)

    def __init__(self, weight):
        self.scale = weight.abs().amax(1, keepdim=True) / 127
        self.whole = (weight / self.scale).round().to(torch.int8)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is nn.functional.linear:
            x, weight, bias = args
            return nn.functional.linear(x, weight.whole.to(x.dtype) * weight.scale, bias)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"a quantised weight does not know {function}")


def test_weights_of_eight_bits(model):
    x = images(model)
    with torch.no_grad():
        expected = model(x)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(Int8(module.weight.detach()), requires_grad=False)
        assert 0 < (model(x) - expected).norm() < 0.05 * expected.norm()


# Transformed


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("vit")])  # no CPU attention has a jvp
def test_forward_mode_derivatives(name):
    model = make(name).eval()
    x = images(model)[..., :12, :12]
    direction = torch.ones_like(x)
    y, change = jvp(model, (x,), (direction,))
    torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
    double, step = make(name).double().eval(), 1e-4
    quotient = (double(x.double() + step) - double(x.double() - step)) / (2 * step)
    torch.testing.assert_close(change.double(), quotient, rtol=1e-2, atol=1e-4)
    weights = dict(model.named_parameters())
    by_scale = jacfwd(lambda s: functional_call(model, weights, (s * x,)))(torch.tensor(1.0))
    assert by_scale.shape == (1, model.num_classes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_several_sets_of_weights_at_once(name):
    models = [make(name).eval(), make(name).eval()]
    for p in models[1].parameters():
        p.data *= 1.1
    x = images(models[0]) if name.startswith("vit") else images(models[0])[..., :12, :12]
    weights, _ = stack_module_state(models)

    def loss(weights):
        return functional_call(models[0], weights, (x,)).square().sum()

    gradients = vmap(grad(loss))(weights)
    with torch.no_grad():
        together = vmap(lambda weights: functional_call(models[0], weights, (x,)))(weights)
    for i, model in enumerate(models):
        torch.testing.assert_close(together[i], model(x), rtol=1e-4, atol=1e-5)
        model(x).square().sum().backward()
        for key, p in model.named_parameters():
            torch.testing.assert_close(gradients[key][i], p.grad, rtol=1e-3, atol=1e-4)
