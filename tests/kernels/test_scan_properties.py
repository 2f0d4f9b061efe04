"""All forms of the scan agree, whatever the shapes, dtypes and strides."""

from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import NAMES, make_inputs, run
from torch import Tensor

from mambaout.kernels import scan_chunked
from mambaout.kernels.scan import selective_scan
from mambaout.kernels.scan_reference import selective_scan_reference

shapes = st.tuples(st.integers(1, 3), st.integers(1, 140), st.integers(1, 18), st.integers(1, 5))
seeds = st.integers(0, 1000)
fast = settings(deadline=None, max_examples=30)


def scramble(tensor: Tensor, layout: str) -> Tensor:
    """The same values in other memory: transposed, spread out, or reversed and read back."""
    if layout == "transposed":
        order = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(order).contiguous().permute(order)
    if layout == "spread":
        return torch.stack([tensor, torch.full_like(tensor, torch.nan)], dim=-1)[..., 0]
    if layout == "offset":
        return torch.cat([torch.full_like(tensor[:1], torch.nan), tensor])[1:]
    return tensor


def close(value: Tensor, exact: Tensor) -> bool:
    """To float32's precision, which a sum that cancels, or one in another order, may use up."""
    return (value - exact).norm().item() <= 1e-5 * (1 + exact.norm().item())


@fast
@given(shape=shapes, decay=st.floats(0, 100), seed=seeds, workspace=st.sampled_from([0, 2**21]))
def test_chunked_equals_reference(shape: tuple[int, int, int, int], decay: float, seed: int, workspace: int):
    inputs = make_inputs(*shape, decay=decay, seed=seed)
    with patch.object(scan_chunked, "WORKSPACE_BYTES", workspace):
        outputs, gradients = run(selective_scan, inputs)
    exact_outputs, exact_gradients = run(selective_scan_reference, inputs)
    for name, value, exact in zip(
        ("y", "last", *NAMES), outputs + gradients, exact_outputs + exact_gradients, strict=True
    ):
        assert torch.allclose(value, exact, rtol=1e-9, atol=1e-9), name


@fast
@given(shape=shapes, decay=st.floats(-0.2, 100), seed=seeds)
def test_float32_equals_reference(shape: tuple[int, int, int, int], decay: float, seed: int):
    """Negative decay: a memory that grows."""
    outputs, gradients = run(selective_scan, make_inputs(*shape, dtype=torch.float32, decay=decay, seed=seed))
    exact_outputs, exact_gradients = run(selective_scan_reference, make_inputs(*shape, decay=decay, seed=seed))
    for name, value, exact in zip(
        ("y", "last", *NAMES), outputs + gradients, exact_outputs + exact_gradients, strict=True
    ):
        assert close(value, exact), name


@fast
@given(
    shape=shapes,
    layouts=st.lists(
        st.sampled_from(["contiguous", "transposed", "spread", "offset"]),
        min_size=len(NAMES),
        max_size=len(NAMES),
    ),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=seeds,
)
def test_strides_do_not_matter(
    shape: tuple[int, int, int, int], layouts: list[str], dtype: torch.dtype, seed: int
):
    inputs = make_inputs(*shape, dtype=dtype, seed=seed)
    scrambled = [scramble(t.detach(), layout).requires_grad_() for t, layout in zip(inputs, layouts, strict=True)]
    plain_outputs, plain_gradients = run(selective_scan, inputs)
    outputs, gradients = run(selective_scan, scrambled)
    for value, exact in zip(outputs + gradients, plain_outputs + plain_gradients, strict=True):
        assert torch.allclose(value, exact, rtol=1e-12, atol=1e-12) if dtype == torch.float64 else close(value, exact)


@fast
@given(
    shape=shapes,
    dtypes=st.lists(
        st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
        min_size=len(NAMES),
        max_size=len(NAMES),
    ),
    seed=seeds,
)
def test_every_mixture_of_dtypes(shape: tuple[int, int, int, int], dtypes: list[torch.dtype], seed: int):
    inputs = [
        t.detach().to(dtype).requires_grad_() for t, dtype in zip(make_inputs(*shape, seed=seed), dtypes, strict=True)
    ]
    outputs, gradients = run(selective_scan, inputs)
    exact_outputs, _ = run(selective_scan_reference, inputs)
    assert [g.dtype for g in gradients] == dtypes
    for value, exact in zip(outputs, exact_outputs, strict=True):
        assert value.dtype == exact.dtype
        precision = torch.finfo(value.dtype).eps if value.dtype != torch.float64 else 1e-12
        scale = exact.abs().max().item() + 1.0
        assert (value.double() - exact.double()).abs().max().item() <= 50 * precision * scale
