"""Bytes and MACs against real tensors and PyTorch's counter; retention against derivatives."""

import math
from collections import deque

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mambaout.analysis import memory
from mambaout.analysis.cost import count_flops, count_macs
from mambaout.kernels.depthwise import depthwise_conv2d
from mambaout.layers import Attention, GatedCNNBlock, SelectiveSSM, selective_scan_reference


def macs(function, *args):
    """The result, and half of the FLOPs that PyTorch counts: those of products of matrices, and convolutions."""
    flops = count_flops(function, *args)
    assert flops % 2 == 0
    return function(*args), flops // 2


# Bytes and multiply-adds


@pytest.mark.parametrize("heads", [1, 3])
@torch.no_grad()
def test_attention_against_its_cache_and_the_flop_counter(heads):
    dim, attention, cache = 48, Attention(48, heads, causal=True), None
    for t in range(1, 12):
        (_, cache), counted = macs(attention.step, torch.randn(1, dim), cache)
        step = memory.attention_step(t, dim)
        assert step.nbytes() == cache.nbytes and step.macs == counted and step.delay == 0
    half = memory.attention_step(t, dim).nbytes(2)
    assert half == cache.keys.half().nbytes + cache.values.half().nbytes


def test_attention_steps_add_up_to_the_parallel_form():
    """`cost` counts half of the square of all pairs; the steps count the diagonal in full."""
    dim, length = 24, 40
    attention = Attention(dim, 2, causal=True)
    total = sum(memory.attention_step(t, dim).macs for t in range(1, length + 1))
    assert total - count_macs(attention, length, dim) == length * dim


class Multiplications(TorchDispatchMode):
    """Counts the numbers that element-wise products give, which FlopCounterMode does not."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket == torch.ops.aten.mul:
            self.total += result.numel()
        return result


@pytest.mark.parametrize(("dim", "d_state"), [(48, 4), (40, 16)])
@torch.no_grad()
def test_the_ssm_against_its_state_and_both_counters(dim, d_state):
    torch.manual_seed(0)
    ssm, x, state = SelectiveSSM(dim, d_state=d_state), torch.randn(1, 7, dim), None
    step = memory.ssm_step(dim, d_state)
    for token in x.unbind(1):
        (y, new), counted = macs(ssm.step, token, state)
        assert new.nbytes == step.nbytes() and counted == step.projections
        delta, A, B, C = ssm.select(token)
        old = torch.zeros_like(new) if state is None else state
        with Multiplications() as written_out:  # Delta u first: the order with the fewest products
            again = torch.exp(delta[..., None] * A) * old + (delta * token)[..., None] * B[:, None]
            out = (again * C[:, None]).sum(-1) + ssm.D * token
        assert written_out.total == step.mixing
        torch.testing.assert_close((out, again), (y, new))
        state = new
    assert count_macs(ssm, 7, dim) == 7 * step.macs


@pytest.mark.parametrize("kernel_size", [1, 2, 4, 7])
@torch.no_grad()
def test_a_causal_convolution_needs_no_more_than_its_window(kernel_size):
    torch.manual_seed(0)
    dim, length = 6, 15
    x, weight = torch.randn(length, dim), torch.randn(dim, 1, kernel_size)
    expected = F.conv1d(F.pad(x.T, (kernel_size - 1, 0)), weight, groups=dim).T
    window: deque[torch.Tensor] = deque(maxlen=kernel_size - 1)
    for t in range(1, length + 1):
        seen = [torch.zeros(dim)] * (kernel_size - 1 - len(window)) + [*window, x[t - 1]]
        torch.testing.assert_close((torch.stack(seen, 1) * weight[:, 0]).sum(1), expected[t - 1])
        window.append(x[t - 1])
        step = memory.causal_conv_step(t, dim, kernel_size)
        assert step.nbytes() == sum(row.nbytes for row in window)
        assert step.macs == weight.numel()
    _, counted = macs(lambda: F.conv1d(F.pad(x.T, (kernel_size - 1, 0)), weight, groups=dim))
    assert counted == length * step.macs


@pytest.mark.parametrize(("kernel_size", "height", "width"), [(3, 4, 5), (7, 9, 8), (1, 2, 3)])
@torch.no_grad()
def test_an_image_convolution_as_a_stream_answers_late_and_keeps_its_rows(kernel_size, height, width):
    """Tokens come in raster order; the answer for one is given as soon as its window is complete."""
    torch.manual_seed(0)
    block = GatedCNNBlock(4, kernel_size=kernel_size)
    dim, reach = block.split[-1], kernel_size // 2
    z = torch.randn(1, height, width, dim)
    whole, counted = macs(lambda: F.conv2d(z.permute(0, 3, 1, 2), block.conv.weight, None, 1, reach, 1, dim))
    steps = [memory.image_conv_step(t, dim, kernel_size, width) for t in range(1, height * width + 1)]
    assert counted == sum(step.macs for step in steps) == count_macs(block, height, width, 4) - rest(block, z)
    expected = depthwise_conv2d(block.conv, z)[0].flatten(0, 1)  # (H W, dim)
    torch.testing.assert_close(whole[0].flatten(1).T + block.conv.bias, expected)

    delay, held = steps[0].delay, {}
    zeros = torch.zeros(height * width + delay, dim)
    zeros[: height * width] = z[0].flatten(0, 1)
    for now, token in enumerate(zeros):  # zeros after the last token flush the answers that are still due
        held[now] = token
        due = now - delay
        if due >= 0:
            answer = block.conv.bias.clone()
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    row, column = due // width + dy, due % width + dx
                    if row >= 0 and 0 <= column < width:
                        answer += held[row * width + column] * block.conv.weight[:, 0, dy + reach, dx + reach]
            torch.testing.assert_close(answer, expected[due], rtol=1e-4, atol=1e-5)
        held.pop(now - 2 * delay, None)
        if now < height * width:
            assert sum(row.nbytes for row in held.values()) == steps[now].nbytes()


def rest(block, z):
    """MACs of everything in a Gated CNN block but its convolution."""
    tokens, dim, hidden = z.shape[1] * z.shape[2], block.fc2.out_features, block.fc2.in_features
    return tokens * (5 * dim + 3 * dim * hidden)


def test_attention_outgrows_the_state_after_half_its_numbers():
    """2 t D > D N from t = N / 2 + 1 on, at any width."""
    for dim, d_state in ((64, 16), (768, 4)):
        state = memory.ssm_step(dim, d_state).numbers
        assert memory.attention_step(d_state // 2, dim).numbers == state
        assert memory.attention_step(d_state // 2 + 1, dim).numbers > state


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: memory.attention_step(0, 8), "t must be at least 1, got 0"),
        (lambda: memory.ssm_step(8, 0), "d_state must be at least 1, got 0"),
        (lambda: memory.image_conv_step(1, 8, 4, 9), "kernel_size must be odd to have a centre, got 4"),
        (lambda: memory.retention(torch.ones(3, 2), -torch.ones(3, 2)), r"got \(3, 2\) and \(3, 2\)"),
    ],
)
def test_impossible_sizes_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# What is left of each token


@pytest.fixture
def selected():
    """An SSM's own choices for 9 tokens, in float64: u, delta, A, B."""
    torch.manual_seed(0)
    ssm = SelectiveSSM(6, d_state=3).double()
    u = torch.randn(9, 6, dtype=torch.double)
    delta, A, B, _ = (tensor.detach() for tensor in ssm.select(u))
    return u, 20 * delta, A.double(), B  # longer steps, so that forgetting shows


def state_from_writing(written, delta, A):
    """h_t of every t, as a function of what each token writes (L, D, N): the recurrence in its plainest form."""
    state, out = torch.zeros_like(written[0]), []
    for w, d in zip(written, delta, strict=True):
        state = torch.exp(d[:, None] * A) * state + w
        out.append(state)
    return torch.stack(out)


def test_retention_is_the_derivative_of_the_state(selected):
    u, delta, A, B = selected
    written = (delta * u)[..., None] * B[:, None]
    torch.testing.assert_close(state_from_writing(written, delta, A), memory.states(u, delta, A, B))
    jacobian = torch.autograd.functional.jacobian(lambda w: state_from_writing(w, delta, A), written)
    left = torch.einsum("tdnsdn->tsdn", jacobian)  # each number of state depends on its own writing only
    assert jacobian.count_nonzero() == left.count_nonzero()
    torch.testing.assert_close(memory.retention(delta, A), left.mean((2, 3)))


def test_retention_is_the_product_of_the_decays(selected):
    _, delta, A, _ = selected
    kept = memory.retention(delta, A)
    for t in range(9):
        for s in range(9):
            product = torch.ones_like(A) if s <= t else torch.zeros_like(A)
            for r in range(s + 1, t + 1):
                product = product * torch.exp(delta[r, :, None] * A)
            torch.testing.assert_close(kept[t, s], product.mean())
    torch.testing.assert_close(memory.survival(delta, A)[1:], kept.diagonal(-1))
    assert torch.equal(kept.diagonal(), torch.ones(9, dtype=torch.double))
    assert all((kept[s:, s].diff() < 0).all() for s in range(9)) and (kept.triu(1) == 0).all()


def test_contributions_are_the_gradient_norm_times_the_input_and_add_up_to_the_state(selected):
    u, delta, A, B = selected

    def last_states(u):  # the selection held fixed
        return state_from_writing((delta * u)[..., None] * B[:, None], delta, A)

    jacobian = torch.autograd.functional.jacobian(last_states, u)  # (t, D, N, s, D)
    through = torch.einsum("tdnsd->tsdn", jacobian)
    norms = (through * u[None, :, :, None]).flatten(2).norm(dim=2)
    share = memory.contributions(u, delta, A, B)
    torch.testing.assert_close(share, norms)
    for s in range(9):  # one token alone leaves exactly its own part
        alone = torch.zeros_like(u)
        alone[s] = u[s]
        torch.testing.assert_close(memory.states(alone, delta, A, B).flatten(1).norm(dim=1), share[:, s])


def test_the_state_is_that_of_the_scan(selected):
    u, delta, A, B = selected
    _, last = selective_scan_reference(u[None], delta[None], A, B[None], B[None], return_last_state=True)
    torch.testing.assert_close(memory.states(u, delta, A, B)[-1], last[0])


def test_short_steps_after_many_long_ones_keep_their_digits():
    delta, A = torch.full((400, 1), 50.0), -torch.ones(1, 1)
    delta[-1] = 1e-4
    kept = memory.retention(delta, A)
    assert kept[-1, -2].item() == pytest.approx(math.exp(-1e-4), abs=1e-9)
    assert kept[-1, 0] == 0 and torch.isfinite(kept).all()
