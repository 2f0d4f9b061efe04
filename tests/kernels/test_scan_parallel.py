"""The scan in log2(L) steps gives the reference's numbers, gradients among them, in a graph of log2(L) size."""

import math

import pytest
import torch

from mambaout.kernels.scan import parallel_scan, selective_scan
from mambaout.kernels.scan_parallel import selective_scan_parallel
from mambaout.kernels.scan_reference import selective_scan_reference
from mambaout.layers import SelectiveSSM


def arguments(length, seed=0):
    torch.manual_seed(seed)
    u, delta = torch.randn(2, length, 5).double(), torch.rand(2, length, 5).double()
    A, D = -torch.rand(5, 3).double() * 4, torch.randn(5).double()
    B, C = torch.randn(2, length, 3).double(), torch.randn(2, length, 3).double()
    return [t.requires_grad_() for t in (u, delta, A, B, C, D)]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 196])
@pytest.mark.parametrize("with_state", [False, True])
def test_equals_the_reference_in_values_and_gradients(length, with_state):
    given = arguments(length)
    state = torch.randn(2, 5, 3).double().requires_grad_() if with_state else None
    y, last = selective_scan_parallel(*given, state)
    expected, expected_last = selective_scan_reference(*given, initial_state=state, return_last_state=True)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, expected_last)
    direction, inputs = torch.randn_like(y), [*given, *([state] if with_state else [])]

    def gradients(y, last):
        return torch.autograd.grad((y * direction).sum() + last.square().sum(), inputs, materialize_grads=True)

    for found, right in zip(gradients(y, last), gradients(expected, expected_last), strict=True):
        torch.testing.assert_close(found, right)


def test_strong_decay_neither_overflows_nor_gives_nan():
    u, delta, A, B, C, D = arguments(64)
    given = (u, delta * 1e3, A, B, C, D)
    y, _ = selective_scan_parallel(*given)
    torch.testing.assert_close(y, selective_scan_reference(*given))
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), [u, A]))


def test_half_precision_computes_in_float32():
    given = [t.detach().half() for t in arguments(33)]
    y, last = selective_scan_parallel(*given)
    assert y.dtype == torch.half and last.dtype == torch.float32
    torch.testing.assert_close(y, selective_scan_reference(*given))


@pytest.mark.parametrize("length", [16, 196])
def test_the_graph_grows_with_the_logarithm(length):
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda *given: selective_scan_parallel(*given)[0])(*(t.detach() for t in arguments(length))).graph
    assert len(graph.nodes) < 25 + 8 * math.ceil(math.log2(length))


def test_the_switch_changes_the_form_and_is_put_back(monkeypatch):
    import mambaout.kernels.scan as scan

    calls = []
    monkeypatch.setattr(scan, "selective_scan_parallel", lambda *a: calls.append(1) or selective_scan_parallel(*a))
    ssm, x = SelectiveSSM(8, d_state=2), torch.randn(1, 12, 8)
    expected = ssm(x)
    with parallel_scan():
        torch.testing.assert_close(ssm(x), expected)
        with pytest.raises(ValueError, match="of shape"), parallel_scan():
            selective_scan(x, x, x, x, x)
        ssm(x)
    assert calls == [1, 1]
    ssm(x)
    assert calls == [1, 1]


def test_wrong_shapes_are_still_named_inside_the_switch():
    u, delta, A, B, C, _ = arguments(4)
    with parallel_scan(), pytest.raises(ValueError, match="expects B of shape"):
        selective_scan(u, delta, A, B[:, :2], C)
