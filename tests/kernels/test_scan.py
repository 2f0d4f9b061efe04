import math

import pytest
import torch
from mambapy.pscan import pscan
from scan_cases import NAMES, make_inputs, relative_error, run
from torch import Tensor

from mambaout.kernels import scan_chunked
from mambaout.kernels.scan import selective_scan, selective_scan_step
from mambaout.kernels.scan_reference import selective_scan_reference, zero_order_hold

# On a machine with a GPU every test also runs there, on the form that `selective_scan` takes there.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
on_every_device = pytest.mark.parametrize("device", DEVICES)


def with_options(scan):
    return lambda *i: scan(*i[:6], initial_state=i[6], return_last_state=True)


# ---- against independent oracles ------------------------------------------------------------------------------


def test_reference_equals_the_unrolled_sum():
    """y_t = sum over s <= t of C_t exp(A (delta_{s+1} + ... + delta_t)) delta_s B_s u_s, plus h_0's share."""
    u, delta, A, B, C, D, h0 = inputs = make_inputs(2, 9, 3, 4)
    elapsed = delta.cumsum(1)  # (B, L, D)
    decay = torch.exp((elapsed[:, :, None] - elapsed[:, None]).unsqueeze(-1) * A)  # (B, L, L, D, N)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    y = torch.einsum("btn,btsdn,ts,bsd,bsn->btd", C, decay, causal.double(), delta * u, B) + D * u
    y = y + torch.einsum("btn,btdn,bdn->btd", C, torch.exp(elapsed.unsqueeze(-1) * A), h0)
    assert torch.allclose(with_options(selective_scan_reference)(*inputs)[0], y, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_equals_mambapy(length: int):
    inputs = make_inputs(2, length, 5, 3)[:6]

    def mambapy(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        decay = torch.exp(delta.unsqueeze(-1) * A)  # (B, L, D, N)
        h = pscan(decay, (delta * u).unsqueeze(-1) * B.unsqueeze(2))
        return (h @ C.unsqueeze(-1)).squeeze(-1) + D * u

    ours, theirs = selective_scan(*inputs), mambapy(*inputs)
    assert torch.allclose(ours, theirs, rtol=1e-10)
    gradients = zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
        strict=True,
    )
    for name, (our, their) in zip(NAMES, gradients, strict=False):
        assert torch.allclose(our, their, rtol=1e-9, atol=1e-12), name


@on_every_device
@pytest.mark.parametrize("decay", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("length", [1, 3, 64, 65, 200])
def test_float32_is_within_1e_5_of_the_float64_reference(length: int, decay: float, device: str, form: str):
    exact_outputs, exact_gradients = run(selective_scan_reference, make_inputs(2, length, 24, 16, decay=decay))
    inputs = make_inputs(2, length, 24, 16, dtype=torch.float32, device=device, decay=decay)
    outputs, gradients = run(selective_scan, inputs)
    for name, value, exact in zip(("y", "last"), outputs, exact_outputs, strict=True):
        assert relative_error(value, exact) < 1e-5, name
    for name, value, exact in zip(NAMES, gradients, exact_gradients, strict=True):
        assert relative_error(value, exact) < 1e-5, name


# ---- gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 4, 9])
def test_gradcheck(length: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan_chunked, "WORKSPACE_BYTES", 0)  # the shortest chunks, 4 tokens
    assert torch.autograd.gradcheck(with_options(selective_scan), make_inputs(2, length, 2, 3))


@on_every_device
def test_gradients_through_one_result_only(device: str):
    inputs = make_inputs(2, 70, 3, 2, device=device)
    for chosen in (0, 1):
        ours = torch.autograd.grad(
            with_options(selective_scan)(*inputs)[chosen].square().sum(), inputs, materialize_grads=True
        )
        exact = torch.autograd.grad(
            with_options(selective_scan_reference)(*inputs)[chosen].square().sum(),
            inputs,
            materialize_grads=True,
        )
        for name, our, reference in zip(NAMES, ours, exact, strict=True):
            assert torch.allclose(our, reference, rtol=1e-9, atol=1e-10), name


@on_every_device
def test_backward_leaves_inputs_and_output_gradients_alone(device: str):
    """With one state per channel the transposed layouts coincide, so that a view could pass for a copy."""
    inputs = make_inputs(2, 5, 3, 1, device=device)
    outputs = with_options(selective_scan)(*inputs)
    weights = [torch.randn_like(o) for o in outputs]
    before = [t.detach().clone() for t in (*inputs, *outputs, *weights)]
    torch.autograd.grad(outputs, inputs, weights)
    assert all(torch.equal(t, old) for t, old in zip((*inputs, *outputs, *weights), before, strict=True))


def test_second_derivatives_are_right():
    assert torch.autograd.gradgradcheck(with_options(selective_scan), make_inputs(1, 5, 2, 2))


def test_second_derivatives_are_right_where_an_argument_was_computed_from_another(form: str):
    """As in `SelectiveSSM`, where the step sizes come from the tokens: their gradients must not be counted twice."""
    u, delta, A, B, C, D, _ = make_inputs(2, 20, 3, 4, dtype=torch.float32)
    found = []
    for scan, dtype in ((selective_scan, torch.float32), (selective_scan_reference, torch.float64)):
        x, *others = (t.detach().to(dtype).requires_grad_() for t in (u, delta, A, B, C, D))
        y = scan(x, others[0] * x.sigmoid(), *others[1:])
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append((gradient, *torch.autograd.grad(gradient.square().sum(), (x, *others))))
    for ours, exact in zip(*found, strict=True):
        assert relative_error(ours, exact) < 1e-4


@on_every_device
def test_a_penalty_on_the_gradient_is_no_constant(device: str, form: str):
    """Behind a plain sum the incoming gradient needs none itself; PyTorch's `once_differentiable` lets that pass."""
    penalties = []
    for scan, dtype in ((selective_scan, torch.float32), (selective_scan_reference, torch.float64)):
        inputs = make_inputs(2, 20, 3, 4, dtype=dtype, device=device)
        gradients = torch.autograd.grad(scan(*inputs[:6]).sum(), inputs[:6], create_graph=True)
        penalties.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs[:6]))
    for name, ours, exact in zip(NAMES, *penalties, strict=False):
        assert relative_error(ours, exact) < 1e-4, name


def test_saves_only_inputs_and_the_states_at_chunk_starts(form: str):
    inputs = make_inputs(2, 640, 16, 4, dtype=torch.float32)
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = selective_scan(*inputs[:6])
    states = sum(sizes.values()) - sum(t.nbytes for t in inputs[:6])
    chunk, order_and_first = (16, 640 * 4 + 2 * 16 * 4 * y.itemsize) if form == "fused" else (64, 0)
    assert y.requires_grad and states == 2 * (640 // chunk) * 16 * 4 * y.itemsize + order_and_first
    with torch.no_grad():
        assert not selective_scan(*inputs[:6]).requires_grad


# ---- the state ------------------------------------------------------------------------------------------------


@on_every_device
def test_steps_equal_the_scan(device: str):
    u, delta, A, B, C, D, state = inputs = make_inputs(2, 70, 3, 5, device=device)
    y, last_state = with_options(selective_scan)(*inputs)
    for t in range(u.shape[1]):
        y_t, state = selective_scan_step(state, u[:, t], delta[:, t], A, B[:, t], C[:, t], D)
        assert torch.allclose(y_t, y[:, t], rtol=1e-10, atol=1e-12)
    assert state.shape == last_state.shape and torch.allclose(state, last_state, rtol=1e-10, atol=1e-12)


@on_every_device
def test_a_sequence_can_be_read_in_parts(device: str):
    u, delta, A, B, C, D, h0 = inputs = make_inputs(2, 150, 3, 5, device=device)
    y, last_state = with_options(selective_scan)(*inputs)
    parts, state = [], h0
    for part in (slice(0, 1), slice(1, 67), slice(67, 150)):
        y_part, state = selective_scan(
            u[:, part],
            delta[:, part],
            A,
            B[:, part],
            C[:, part],
            D,
            initial_state=state,
            return_last_state=True,
        )
        parts.append(y_part)
    assert torch.allclose(torch.cat(parts, 1), y, rtol=1e-10, atol=1e-12)
    assert torch.allclose(state, last_state, rtol=1e-10, atol=1e-12)


@on_every_device
def test_extreme_decay_forgets_everything_but_the_current_token(device: str, form: str):
    """exp(delta A) underflows to 0, where forms in log-space divide zero by zero."""
    inputs = make_inputs(2, 90, 4, 3, dtype=torch.float32, device=device)
    with torch.no_grad():
        inputs[1].add_(1.0)
        inputs[2].sub_(1.0).mul_(1e4)
    outputs, gradients = run(selective_scan, inputs)
    u, delta, _, B, C, D, _ = inputs
    memoryless = (B * C).sum(-1, keepdim=True) * delta * u + D * u
    assert torch.allclose(outputs[0], memoryless, rtol=1e-4, atol=1e-5)
    assert all(torch.isfinite(g).all() for g in gradients)


@on_every_device
def test_is_strictly_causal(device: str):
    u, delta, A, B, C, D, _ = make_inputs(1, 9, 2, 3, device=device)

    def outputs(tokens: Tensor) -> Tensor:  # every input that depends on the token: (L, D + D + N + N)
        u, delta, B, C = tokens.split([2, 2, 3, 3], dim=1)
        return selective_scan(u[None], delta[None], A, B[None], C[None], D)[0]

    jacobian = torch.autograd.functional.jacobian(outputs, torch.cat([u[0], delta[0], B[0], C[0]], 1))
    reach = jacobian.abs().sum((1, 3))  # (L outputs, L inputs)
    assert (reach.triu(1) == 0).all()
    assert (reach.tril()[torch.ones(9, 9, dtype=torch.bool).tril()] > 0).all()


# ---- dtypes and shapes ----------------------------------------------------------------------------------------


@on_every_device
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_inputs_are_computed_in_float32(dtype: torch.dtype, device: str, form: str):
    low = make_inputs(2, 100, 6, 4, dtype=dtype, device=device)
    wide = [t.detach().float().requires_grad_() for t in low]
    low_outputs, low_gradients = run(selective_scan, low)
    wide_outputs, wide_gradients = run(selective_scan, wide)
    assert low_outputs[0].dtype == dtype and low_outputs[1].dtype == torch.float32
    assert torch.equal(low_outputs[0], wide_outputs[0].to(dtype))
    for name, low_gradient, wide_gradient, value in zip(NAMES, low_gradients, wide_gradients, low, strict=True):
        assert low_gradient.dtype == value.dtype
        # The gradient of y itself arrives rounded, so agreement is to its precision.
        assert relative_error(low_gradient, wide_gradient) < 4 * torch.finfo(dtype).eps, name


@on_every_device
def test_mixed_dtypes_as_under_autocast(device: str, form: str):
    u, delta, A, B, C, D, _ = make_inputs(2, 20, 6, 4, dtype=torch.float32, device=device)
    y = selective_scan(u.bfloat16(), delta, A, B.bfloat16(), C.bfloat16(), D)
    expected = selective_scan(u.bfloat16().float(), delta, A, B.bfloat16().float(), C.bfloat16().float(), D)
    assert y.dtype == torch.bfloat16 and torch.equal(y, expected.bfloat16())


@on_every_device
def test_autocast_changes_nothing(device: str, form: str):
    inputs = make_inputs(2, 70, 6, 4, dtype=torch.float32, device=device)
    outputs, gradients = run(selective_scan, inputs)
    with torch.autocast(device, dtype=torch.bfloat16):
        cast_outputs, cast_gradients = run(selective_scan, inputs)
    assert all(map(torch.equal, outputs + gradients, cast_outputs + cast_gradients))


def test_shapes_on_the_meta_device():
    y, last_state = with_options(selective_scan)(*make_inputs(2, 70, 6, 4, device="meta"))
    assert y.shape == (2, 70, 6) and last_state.shape == (2, 6, 4) and y.is_meta


@on_every_device
def test_empty_batch(device: str):
    y, last_state = with_options(selective_scan)(*make_inputs(0, 5, 3, 2, device=device))
    assert y.shape == (0, 5, 3) and last_state.shape == (0, 3, 2)


def test_compiled_model_keeps_the_scan_as_one_call():
    inputs = make_inputs(2, 70, 3, 2)[:6]

    def model(u: Tensor, *others: Tensor) -> Tensor:
        return selective_scan(u.sin(), *others).cos()

    graphs: list[torch.fx.GraphModule] = []

    def collect(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    assert torch.allclose(torch.compile(model, backend=collect)(*inputs), model(*inputs))
    assert sum(len(graph.graph.nodes) for graph in graphs) < 40


# ---- Equation 1 -----------------------------------------------------------------------------------------------


def test_zero_order_hold_is_the_matrix_exponential():
    """The exact solution of h' = A h + B u over a step is exp of the block matrix [[A, B], [0, 0]]."""
    _, delta, A, B, *_ = (t.detach() for t in make_inputs(1, 1, 3, 2))
    delta, B = delta[0, 0], B[0, 0]  # (D,), (N,)
    A_bar, B_bar = zero_order_hold(delta, A, B)
    for d in range(3):
        for n in range(2):
            block = torch.tensor([[A[d, n], B[n]], [0.0, 0.0]], dtype=torch.float64) * delta[d]
            exact = torch.matrix_exp(block)
            assert math.isclose(A_bar[d, n].item(), exact[0, 0].item(), rel_tol=1e-12)
            assert math.isclose(B_bar[d, n].item(), exact[0, 1].item(), rel_tol=1e-12)


@pytest.mark.parametrize("A", [0.0, -1e-30, -1e-7, -1e-4, -4e-3, -6e-3, -1.0, -200.0])
def test_zero_order_hold_is_accurate_for_every_decay(A: float):
    """In float32 against float64, in value and derivative, also where delta A tends to 0."""
    results = []
    for dtype in (torch.float32, torch.float64):
        delta = torch.tensor([0.5], dtype=dtype, requires_grad=True)
        _, B_bar = zero_order_hold(delta, torch.tensor([[A]], dtype=dtype), torch.ones(1, dtype=dtype))
        results.append((B_bar.item(), *(g.item() for g in torch.autograd.grad(B_bar.sum(), delta))))
    for single, double in zip(*results, strict=True):
        assert math.isclose(single, double, rel_tol=1e-5, abs_tol=1e-30)


def test_zero_order_hold_differs_from_the_scans_form_by_the_second_order_only():
    delta = torch.full((1,), 1e-3, dtype=torch.float64)
    _, B_bar = zero_order_hold(delta, -torch.ones(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    assert B_bar.item() / 1e-3 == pytest.approx(1 - 0.5e-3, abs=1e-6)


# ---- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("u", torch.zeros(2, 4), ValueError, r"u of shape \(batch, length, dim\), but got \(2, 4\)"),
        ("u", torch.zeros(2, 0, 3), ValueError, "at least one token"),
        ("delta", torch.zeros(2, 4, 1), ValueError, r"delta of shape .* = \(2, 4, 3\).* got \(2, 4, 1\)"),
        ("A", torch.zeros(3), ValueError, r"A of shape \(dim, state\), but got \(3,\)"),
        ("A", torch.zeros(4, 5), ValueError, r"A of shape .* = \(3, 5\).* got \(4, 5\)"),
        ("B", torch.zeros(2, 5, 4), ValueError, r"B of shape .* = \(2, 4, 5\).* got \(2, 5, 4\)"),
        ("C", torch.zeros(1, 4, 5), ValueError, r"C of shape .* = \(2, 4, 5\).* got \(1, 4, 5\)"),
        ("D", torch.zeros(1), ValueError, r"D of shape \(dim,\) = \(3,\).* got \(1,\)"),
        ("initial_state", torch.zeros(2, 5, 3), ValueError, r"initial_state of shape .* = \(2, 3, 5\)"),
        ("u", torch.zeros(2, 4, 3, dtype=torch.int64), TypeError, "u to be real floating point.*int64"),
        ("A", torch.zeros(3, 5, dtype=torch.complex64), TypeError, "A to be real floating point.*complex64"),
        ("B", [1.0], TypeError, "B to be a tensor, but got list"),
        ("u", None, TypeError, "u to be a tensor, but got NoneType"),
        ("delta", torch.zeros(2, 4, 3, device="meta"), ValueError, "u is on cpu and delta on meta"),
    ],
)
def test_bad_input_is_named(name: str, value: object, error: type[Exception], message: str):
    arguments = dict(zip(NAMES, make_inputs(2, 4, 3, 5), strict=True)) | {name: value}
    with pytest.raises(error, match=message):
        selective_scan(**arguments)
