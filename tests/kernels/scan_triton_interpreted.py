"""The Triton kernels on CPU tensors. `test_scan_triton.py` runs this file in a process of its own, because Triton
reads TRITON_INTERPRET when it is imported."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import NAMES, make_inputs, relative_error, run
from triton.runtime.interpreter import InterpreterBuilder

from benchmarks import roofline
from mambaout.kernels import scan_triton
from mambaout.kernels.scan_reference import selective_scan_reference


def triton_scan(u, delta, A, B, C, D=None, *, initial_state=None, return_last_state=False):
    y, last_state = scan_triton.selective_scan_triton(u, delta, A, B, C, D, initial_state)
    return (y, last_state) if return_last_state else y


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Tiles small enough for the interpreter, so that short inputs span several chunks and channel blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_triton, "CHUNK", 8)  # 4 in float64
        patch.setattr(scan_triton, "NUM_WARPS", 1)
        yield


def assert_equal_to_reference(inputs, rtol: float, atol: float) -> None:
    outputs, gradients = run(triton_scan, inputs)
    exact_outputs, exact_gradients = run(selective_scan_reference, inputs)
    for name, value, exact in zip(
        ("y", "last", *NAMES), outputs + gradients, exact_outputs + exact_gradients, strict=True
    ):
        assert torch.allclose(value, exact, rtol=rtol, atol=atol), name


@settings(deadline=None, max_examples=8)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    decay=st.floats(0, 100),
    seed=st.integers(0, 1000),
)
def test_equals_the_reference(shape: tuple[int, int, int, int], decay: float, seed: int):
    assert_equal_to_reference(make_inputs(*shape, decay=decay, seed=seed), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 4, 8, 4), (1, 5, 9, 5), (2, 9, 3, 1), (1, 3, 2, 40), (1, 3, 1, 70)]
)
def test_edges_of_the_tiles(shape: tuple[int, int, int, int]):
    assert_equal_to_reference(make_inputs(*shape), rtol=1e-9, atol=1e-9)


def test_the_tiles_of_the_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan_triton, "CHUNK", 32)  # 16 in float64
    monkeypatch.setattr(scan_triton, "NUM_WARPS", 4)
    assert_equal_to_reference(make_inputs(1, 17, 3, 16), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("decay", [0.01, 1.0, 1000.0])
def test_float32_is_within_1e_5_of_the_float64_reference(decay: float):
    outputs, gradients = run(triton_scan, make_inputs(1, 21, 5, 4, decay=decay, dtype=torch.float32))
    exact_outputs, exact_gradients = run(selective_scan_reference, make_inputs(1, 21, 5, 4, decay=decay))
    for name, value, exact in zip(
        ("y", "last", *NAMES), outputs + gradients, exact_outputs + exact_gradients, strict=True
    ):
        assert relative_error(value, exact) < 1e-5, name


def test_optional_arguments_and_strides():
    u, delta, A, B, C, _, _ = make_inputs(2, 6, 3, 2)
    arguments = [t.detach().mT.contiguous().mT.requires_grad_() for t in (u, delta, A, B, C)]
    y, exact = triton_scan(*arguments), selective_scan_reference(*arguments)
    assert torch.allclose(y, exact, rtol=1e-12)
    gradients = zip(
        torch.autograd.grad(y.square().sum(), arguments),
        torch.autograd.grad(exact.square().sum(), arguments),
        strict=True,
    )
    assert all(torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12) for ours, theirs in gradients)
    with torch.no_grad():
        assert not triton_scan(*arguments).requires_grad


@pytest.mark.parametrize("shape", [(0, 5, 3, 2), (2, 5, 3, 0), (1, 3, 2, 5)])
def test_takes_the_chunked_form_where_no_tile_fits(shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan_triton, "MAX_STATES", 4)
    monkeypatch.setattr(scan_triton, "_launch_options", None)
    assert_equal_to_reference(make_inputs(*shape), rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_right():
    """Behind a plain sum too, where the incoming gradient needs none itself."""
    found = []
    for scan in (triton_scan, selective_scan_reference):
        inputs = make_inputs(1, 6, 3, 2)[:6]
        gradients = torch.autograd.grad(scan(*inputs).sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs))
    assert all(torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12) for ours, theirs in zip(*found, strict=True))


def test_gradient_through_the_last_state_only():
    inputs = make_inputs(1, 6, 3, 2)
    gradients = []
    for scan in (triton_scan, selective_scan_reference):
        _, last_state = scan(*inputs[:6], initial_state=inputs[6], return_last_state=True)
        gradients.append(torch.autograd.grad(last_state.square().sum(), inputs, materialize_grads=True))
    assert all(torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12) for ours, theirs in zip(*gradients, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_inputs_are_computed_in_float32(dtype: torch.dtype):
    inputs = make_inputs(1, 9, 5, 3, dtype=dtype)
    outputs, gradients = run(triton_scan, inputs)
    exact_outputs, exact_gradients = run(
        selective_scan_reference, [t.detach().float().requires_grad_() for t in inputs]
    )
    assert [g.dtype for g in gradients] == [dtype] * 7
    assert outputs[0].dtype == dtype and outputs[1].dtype == torch.float32
    assert relative_error(outputs[0], exact_outputs[0]) < torch.finfo(dtype).eps
    assert relative_error(outputs[1], exact_outputs[1]) < 1e-6
    for value, exact in zip(gradients, exact_gradients, strict=True):
        assert relative_error(value, exact) < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("shape", [(2, 11, 12, 4), (1, 9, 5, 12)])
def test_the_bytes_of_the_roofline_are_those_that_the_kernels_touch(
    shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
):
    """Every address that a load or a store reaches, counted once for each kernel."""
    touched: list[dict[int, int]] = []  # for each kernel: address -> bytes

    def watch(owner: type, method: str, mask_at: int | None) -> None:
        original = getattr(owner, method)

        def watched(self, pointers, *arguments):
            addresses = pointers.data if mask_at is None else pointers.data[arguments[mask_at].data]
            item = pointers.get_element_ty().primitive_bitwidth // 8
            touched[-1].update(dict.fromkeys(addresses.ravel().tolist(), item))
            return original(self, pointers, *arguments)

        monkeypatch.setattr(owner, method, watched)

    def fresh_count(kernel):
        class Counted:
            def __getitem__(self, grid):
                touched.append({})
                return kernel[grid]

        return Counted()

    watch(InterpreterBuilder, "create_masked_load", 0)
    watch(InterpreterBuilder, "create_masked_store", 1)
    for name in ("_forward_kernel", "_backward_kernel"):
        monkeypatch.setattr(scan_triton, name, fresh_count(getattr(scan_triton, name)))
    inputs = make_inputs(*shape, dtype=torch.float32)[:6]
    with torch.no_grad():
        triton_scan(*inputs)
    triton_scan(*inputs).sum().backward()
    expected = roofline.scan_work("forward", *shape) + roofline.scan_work("forward+backward", *shape)[:2]
    assert [sum(count.values()) for count in touched] == [work.bytes for work in expected]
