"""Every hook, wrapper and mode sees what it would see without the fast paths.

The oracle is the same model while the one rule, `mambaout.kernels.plain`, answers that somebody is watching.
"""

import copy
import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules import module as global_hooks
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mambaout.kernels import convolve, depthwise, fused, gated_cnn, selection
from mambaout.kernels.scan import parallel_scan
from mambaout.layers import SelectiveSSM, mamba
from mambaout.models.mambaout import MambaOut, MambaOutConfig

KINDS = {
    "gated_cnn": {"token_mixer": "gated_cnn", "conv_ratio": 0.5},
    "raster": {"token_mixer": "mamba", "d_state": 2},
    "cross": {"token_mixer": "mamba", "scan": "cross", "d_state": 2},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def _model(kind: str, drop_path_rate: float) -> MambaOut:
    torch.manual_seed(0)
    model = MambaOut(
        MambaOutConfig(depths=(1, 1), dims=(16, 16), num_classes=3, drop_path_rate=drop_path_rate, stem_stride=2,
                       kernel_size=3, **KINDS[kind])
    )  # fmt: skip
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)  # away from the start, where biases are 0 and blocks do little
    return model


def make(kind: str, drop_path_rate: float = 0.0) -> MambaOut:
    return copy.deepcopy(_model(kind, drop_path_rate))


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@contextmanager
def plain_form(scan: Callable[[], Any] = parallel_scan) -> Iterator[None]:
    """No fast path: the one rule says that everything is watched, and the scan consists of PyTorch's operations."""
    with pytest.MonkeyPatch.context() as patch, scan():
        for user in (convolve, depthwise, fused, gated_cnn, selection):
            patch.setattr(user, "is_watched", lambda *tensors: True)
        patch.setattr(mamba, "is_plain", lambda module, kind: False)
        yield


def same(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Equal structure, and tensors equal up to this share of their largest number."""
    (left, left_form), (right, right_form) = (tree_flatten(value) for value in (actual, expected))
    assert left_form == right_form
    for a, b in zip(left, right, strict=True):
        largest = b.detach().abs().max().item() if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest)


def same_as_plain(observe: Callable[[], Any], tolerance: float = 1e-4) -> Any:
    """What is observed, which must be equal without the fast paths."""
    actual = observe()
    with plain_form():
        same(actual, observe(), tolerance)
    return actual


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


# Hooks

CONTEXTS: dict[str, Callable[[], Any]] = {
    "train": nullcontext,
    "eval": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def flat(value: Any) -> list[Tensor]:
    return [t.detach().clone() for t in tree_leaves(value) if isinstance(t, Tensor)]


def local_hooks(model: nn.Module, seen: list[Any], backward: bool) -> list[Any]:
    handles = []
    for name, module in model.named_modules():
        note = functools.partial(lambda name, what, *values: seen.append((f"{name}: {what}", flat(values))), name)
        handles.append(module.register_forward_pre_hook(lambda m, a, note=note: note("before", a)))
        handles.append(module.register_forward_hook(
            lambda m, a, k, y, note=note: note("after", a, k, y), with_kwargs=True))  # fmt: skip
        if backward:
            handles.append(module.register_full_backward_pre_hook(lambda m, g, note=note: note("pre backward", g)))
            handles.append(module.register_full_backward_hook(lambda m, i, o, note=note: note("backward", i, o)))
    return handles


def all_modules_hooks(model: nn.Module, seen: list[Any], backward: bool) -> list[Any]:
    names = {module: name for name, module in model.named_modules()}

    def note(what: str) -> Callable[..., None]:
        return lambda module, *values: seen.append((f"{names[module]}: {what}", flat(values)))

    handles = [
        global_hooks.register_module_forward_pre_hook(note("before")),
        global_hooks.register_module_forward_hook(note("after")),
    ]
    if backward:
        handles.append(global_hooks.register_module_full_backward_pre_hook(note("pre backward")))
        handles.append(global_hooks.register_module_full_backward_hook(note("backward")))
    return handles


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("register", [local_hooks, all_modules_hooks])
@every_kind
def test_hooks_on_every_module(kind: str, register: Callable[..., list[Any]], context: str):
    model = make(kind, drop_path_rate=0.5).train(context == "train")
    backward = context in ("train", "eval")

    def observe() -> dict[str, Any]:
        seen: list[Any] = []
        handles = register(model, seen, backward)
        try:
            with CONTEXTS[context]():
                torch.manual_seed(3)
                x = images().requires_grad_(backward)
                y = model(x)
                if backward:
                    y.square().sum().backward()
        finally:
            for handle in handles:
                handle.remove()
        return {f"{name} {i}": values for i, (name, values) in enumerate(seen)}

    seen = same_as_plain(observe)
    called = {name.split(":")[0] for name in seen}
    silent = {"stages.0.blocks.0.ssm", "stages.1.blocks.0.ssm"} if kind == "cross" else set()  # lists of modules
    assert called == {name for name, _ in model.named_modules()} - silent


def leaves(kind: str) -> list[str]:
    return [
        name
        for name, module in _model(kind, 0.0).named_modules()
        if name and not isinstance(module, nn.ModuleList) and (name.startswith(("stem", "stages.1")) or "." not in name)
    ]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in leaves(kind)])
def test_one_hook_that_changes_an_output_takes_effect(kind: str, name: str):
    """One hook alone: the neighbours' fast paths must not be what makes it visible."""
    model, x = make(kind), images()
    before = model(x)
    for training in (True, False):
        handle = model.get_submodule(name).register_forward_hook(lambda module, args, y: y + y.roll(1, -1))
        with torch.set_grad_enabled(training):
            changed = same_as_plain(lambda: model(x))
        handle.remove()
        assert not torch.allclose(changed, before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(x), before)


# Wrappers


class LoRA(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * x.sum(-1, keepdim=True)


class Around(nn.Module):
    """A wrapper that passes attributes of what it wraps through, as adapters do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * self.inner(x)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class Scaled(Tensor):
    """A weight of a class of its own, as quantised weights are: whatever is done with it is done with its double."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def opened(value: Any) -> Any:
            return 2 * value.as_subclass(Tensor) if isinstance(value, Scaled) else value

        if func in (Tensor.detach, Tensor.requires_grad_):
            return super().__torch_function__(func, types, args, kwargs or {})
        args, kwargs = tree_map(opened, (args, kwargs or {}))
        return func(*args, **kwargs)


def scaled_weight(module: nn.Module) -> None:
    module.weight = nn.Parameter(module.weight.detach().as_subclass(Scaled), requires_grad=False)


def lora(block: nn.Module, name: str) -> None:
    old = block.get_submodule(name)
    new = LoRA(old.in_features, old.out_features, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    block.set_submodule(name, new)


def replaced_method(block: nn.Module, name: str, method: str = "forward") -> None:
    module = block.get_submodule(name)
    original = getattr(module, method)
    setattr(module, method, lambda x: tree_map(lambda t: 1.5 * t, original(x)))


def compiled_alone(block: nn.Module, name: str) -> None:
    module = block.get_submodule(name)
    module._compiled_call_impl = lambda x: 1.5 * module.forward(x)  # what module.compile() sets


def without_bias(block: nn.Module, name: str) -> None:
    block.get_submodule(name).register_parameter("bias", None)


def other_conv(block: Any, **options: Any) -> None:
    channels = block.conv.in_channels
    block.conv = nn.Conv2d(channels, channels, 3, **{"padding": 1, "groups": channels} | options)


LINEARS = ("fc1", "fc2")
PARTS = (*LINEARS, "conv")

CHANGES: dict[str, Callable[[Any, str], Any]] = {
    "parametrization": lambda b, n: parametrize.register_parametrization(b.get_submodule(n), "weight", Doubled()),
    "weight_norm": lambda b, n: parametrizations.weight_norm(b.get_submodule(n)),
    "old weight_norm": lambda b, n: nn.utils.weight_norm(b.get_submodule(n)),
    "spectral_norm": lambda b, n: parametrizations.spectral_norm(b.get_submodule(n)),
    "pruning": lambda b, n: prune.l1_unstructured(b.get_submodule(n), "weight", 0.5),
    "wrapper": lambda b, n: b.set_submodule(n, Around(b.get_submodule(n))),
    "replaced forward": replaced_method,
    "compiled alone": compiled_alone,
    "subclass of tensor": lambda b, n: scaled_weight(b.get_submodule(n)),
}

CASES: list[tuple[str, Callable[[Any], Any]]] = [
    (f"{change} of {name}", functools.partial(lambda f, n, b: f(b, n), apply, name))
    for change, apply in CHANGES.items()
    for name in (*PARTS, "x_proj")
]
CASES += [(f"LoRA at {name}", functools.partial(lambda n, b: lora(b, n), name)) for name in (*LINEARS, "x_proj")]
CASES += [(f"no bias in {name}", functools.partial(lambda n, b: without_bias(b, n), name)) for name in PARTS]
CASES += [
    (f"{name} of the SSM", functools.partial(lambda f, b: f(b, "ssm"), apply))
    for name, apply in {
        "wrapper": CHANGES["wrapper"],
        "replaced forward": replaced_method,
        "replaced select": lambda b, n: replaced_method(b, n, "select"),
        "parametrization of A_log": lambda b, n: parametrize.register_parametrization(
            b.get_submodule(n), "A_log", Doubled()),
        "compiled alone": compiled_alone,
    }.items()
]  # fmt: skip
CASES += [
    ("reflecting convolution", lambda b: other_conv(b, padding_mode="reflect")),
    ("dilated convolution", lambda b: other_conv(b, padding=2, dilation=2)),
    ("dense convolution", lambda b: other_conv(b, groups=1)),
    ("fc2 and fc1 of float64 products", lambda b: b.double()),
]


class Renamed:
    """A block whose SSM is found under one name in every kind: with several routes, the third one's."""

    def __init__(self, block: Any, kind: str) -> None:
        self.block, self.kind = block, kind

    def path(self, name: str) -> str:
        ssm = "ssm.2" if self.kind == "cross" else "ssm"
        return {"ssm": ssm, "x_proj": f"{ssm}.x_proj"}.get(name, name)

    def get_submodule(self, name: str) -> nn.Module:
        return self.block.get_submodule(self.path(name))

    def set_submodule(self, name: str, module: nn.Module) -> None:
        self.block.set_submodule(self.path(name), module)


@pytest.mark.parametrize("case", CASES, ids=[name for name, _ in CASES])
@every_kind
def test_wrappers(kind: str, case: tuple[str, Callable[[Any], Any]]):
    name, apply = case
    if kind == "gated_cnn" and ("SSM" in name or "x_proj" in name):
        return
    torch.manual_seed(0)
    block = make(kind).stages[1].blocks[0].eval()  # spectral_norm takes a step of its own each time in training
    x = torch.randn(2, 4, 4, 16)
    before = block(x)
    target: Any = block if name.endswith(("convolution", "products")) else Renamed(block, kind)
    apply(target)
    x = x.to(block.norm.weight.dtype)
    for with_grad in (True, False):
        with torch.set_grad_enabled(with_grad):
            after = same_as_plain(lambda: block(x))
    if "norm of" not in name or "spectral" in name:
        assert after.dtype == torch.float64 or (after - before).abs().max() > 1e-4
    names = [n for n, p in block.named_parameters() if p.requires_grad]
    assert names
    same_as_plain(lambda: gradients(block, block(x).square().sum()))


@pytest.mark.parametrize("owner", [nn.Linear, nn.Conv2d, SelectiveSSM])
@pytest.mark.parametrize("wraps", [True, False])
@every_kind
def test_a_forward_patched_for_the_whole_class(kind: str, wraps: bool, owner: Any, monkeypatch: pytest.MonkeyPatch):
    model, x, seen, original = make(kind), images(), [], owner.forward

    def patched(self: nn.Module, x: Tensor) -> Tensor:
        seen.append(self)
        return original(self, x)

    monkeypatch.setattr(owner, "forward", functools.wraps(original)(patched) if wraps else patched)
    for with_grad in (True, False):
        with torch.set_grad_enabled(with_grad):
            seen.clear()
            model(x)
        assert set(seen) == {m for m in model.modules() if type(m) is owner}


@every_kind
def test_call_patched_for_all_modules(kind: str, monkeypatch: pytest.MonkeyPatch):
    model, seen, original = make(kind), [], nn.Module.__call__

    def patched(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", patched)
    with torch.no_grad():
        model(images())
    assert set(seen) == {m for m in model.modules() if not isinstance(m, nn.ModuleList)}


# torch.func and derivatives


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def loss_of(model: nn.Module) -> Callable[..., Tensor]:
    return lambda p, x: functional_call(model, p, (x,)).square().sum()


def per_sample(model: nn.Module, x: Tensor) -> Any:
    loss = loss_of(model)
    return vmap(grad(lambda p, one: loss(p, one[None])), in_dims=(None, 0))(state(model), x)


def stacked(model: nn.Module, x: Tensor) -> Any:
    second = copy.deepcopy(model)
    for p in second.parameters():
        p.data *= 1.1
    parameters, buffers = stack_module_state([model, second])
    return vmap(lambda p, b: functional_call(model, (p, b), (x,)))(parameters, buffers)


def dual(model: nn.Module, x: Tensor) -> Any:
    with forward_ad.dual_level():
        y = model(forward_ad.make_dual(x, torch.ones_like(x)))
        return tuple(forward_ad.unpack_dual(y))


def penalty(model: nn.Module, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    return gradients(model, gradient.square().sum() + model(x).sum())


def batched_gradients(model: nn.Module, x: Tensor) -> Any:
    """Rows of a Jacobian by `vmap` over the backward pass: only there is anything transformed."""
    y = model(x)
    rows = torch.eye(y.numel()).view(-1, *y.shape)
    return torch.autograd.grad(y, list(model.parameters()), rows, is_grads_batched=True)


DERIVATIVES: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "functional_call": lambda m, x: functional_call(m, {n: 1.1 * p for n, p in state(m).items()}, (x,)),
    "vmap": lambda m, x: vmap(lambda one: m(one[None]))(x),
    "grad": lambda m, x: grad(loss_of(m))(state(m), x),
    "per-sample gradients": per_sample,
    "stacked parameters": stacked,
    "jvp": lambda m, x: jvp(m, (x,), (torch.ones_like(x),)),
    "jacfwd": lambda m, x: jacfwd(lambda p: functional_call(m, {"stem.conv1.bias": p}, (x,)))(m.stem.conv1.bias),
    "jacrev": lambda m, x: jacrev(m)(x),
    "forward mode": dual,
    "second derivatives": penalty,
    "hessian-vector product": lambda m, x: torch.autograd.functional.vhp(
        lambda t: m(t).square().sum(), x, torch.ones_like(x)),
    "vectorised jacobian": lambda m, x: torch.autograd.functional.jacobian(m, x, vectorize=True),
    "batched gradients": batched_gradients,
}  # fmt: skip


@pytest.mark.parametrize("derivative", DERIVATIVES)
@every_kind
def test_derivatives(kind: str, derivative: str):
    model = make(kind)
    same_as_plain(lambda: DERIVATIVES[derivative](model, images()), tolerance=1e-3)


# Graphs


def by_jit(model: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    return torch.jit.trace(model, x)


def by_onnx(model: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(file.getvalue())
    return lambda t: torch.from_numpy(np.asarray(session.run(None, {"x": t.numpy()})[0]))


TRACERS: dict[str, Callable[[nn.Module, Tensor], Callable[[Tensor], Any]]] = {
    "jit.trace": by_jit,
    "fx": lambda m, x: torch.fx.symbolic_trace(m),
    "make_fx": lambda m, x: make_fx(m)(x),
    "make_fx fake": lambda m, x: make_fx(m, tracing_mode="fake", _allow_non_fake_inputs=True)(x),
    "export": lambda m, x: torch.export.export(m, (x,), strict=False).module(),
    "strict export": lambda m, x: torch.export.export(m, (x,), strict=True).module(),
    "onnx": by_onnx,
    "compile": lambda m, x: torch.compile(m, backend="aot_eager"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
@pytest.mark.parametrize("tracer", TRACERS)
@every_kind
def test_graphs_depend_on_their_input(kind: str, tracer: str):
    model, x = make(kind).eval(), images()
    torch._dynamo.reset()
    with torch.no_grad():
        graph = TRACERS[tracer](model, x)
        for scale in (1.0, -2.0):  # another input than the one that was traced
            with plain_form():
                expected = model(scale * x)
            same(graph(scale * x), expected)


@every_kind
def test_operations_are_counted_as_without_fast_paths(kind: str):
    model = make(kind)

    def count() -> dict[Any, Any]:
        with FlopCounterMode(display=False) as counter:
            model(images()).sum().backward()
        return {k: dict(v) for k, v in counter.get_flop_counts().items()}

    actual = count()
    with plain_form(scan=nullcontext):
        assert actual == count()


# Precision, memory and devices


@every_kind
def test_autocast(kind: str):
    model, x = make(kind), images()
    for with_grad in (True, False):
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(with_grad):
            same_as_plain(lambda: model(x), tolerance=5e-2)


@every_kind
def test_double_precision_throughout(kind: str):
    model, x = make(kind).double(), images().double()
    reference, dtypes = make(kind).double(), set()
    for module in model.modules():
        module.register_forward_hook(lambda m, args, y: dtypes.add(y.dtype))
    y = model(x)
    assert dtypes == {torch.float64}
    with plain_form():
        expected = reference(x)
    for actual in (y, make(kind).double()(x)):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def pack_to_numpy() -> Any:
    return torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().numpy().copy(), torch.from_numpy)


@pytest.mark.parametrize("way", ["reentrant", "not reentrant", "saved_tensors_hooks", "save_on_cpu", "anomaly"])
@every_kind
def test_memory_saving_gives_the_same_gradients(kind: str, way: str):
    model, x = make(kind, drop_path_rate=0.5).train(), images().requires_grad_()
    contexts = {
        "saved_tensors_hooks": pack_to_numpy,
        "save_on_cpu": torch.autograd.graph.save_on_cpu,
        "anomaly": torch.autograd.detect_anomaly,
    }

    def observe() -> Any:
        torch.manual_seed(0)
        with contexts.get(way, nullcontext)():
            y = checkpoint(model, x, use_reentrant=way == "reentrant") if "reentrant" in way else model(x)
            model.zero_grad()
            y.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    same_as_plain(observe)


@every_kind
def test_hooks_on_parameters_and_their_gradients(kind: str):
    model, seen = make(kind), {}
    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda p, name=name: seen.setdefault(name, []).append(p.grad.clone()))
        p.register_hook(lambda g: 2 * g)

    def observe() -> Any:
        seen.clear()
        model.zero_grad()
        model(images()).square().sum().backward()
        return dict(sorted(seen.items()))

    assert {len(values) for values in same_as_plain(observe).values()} == {1}
    assert seen.keys() == dict(model.named_parameters()).keys()


@every_kind
def test_another_default_device_changes_nothing(kind: str):
    model, x = make(kind), images()

    def observe() -> Any:
        loss = model(x).square().sum()
        return loss, gradients(model, loss), model.eval()(x)

    expected = observe()
    with torch.device("meta"):
        actual = observe()
        for module in model.modules():
            if isinstance(module, SelectiveSSM):
                module.reset_parameters()
    torch.testing.assert_close(actual, expected)
