"""The sparsity of the Jacobian against masks that are known, and against the whole Jacobian."""

import pytest
import torch
from torch import nn

from mambaout.analysis import mixing
from mambaout.analysis.mixing import causal_mask, reads
from mambaout.layers import Attention, GatedCNNBlock, IdentityBlock, MambaBlock, SelectiveSSM
from mambaout.layers.mamba import mix_along
from mambaout.layers.scans import SCANS, routes
from mambaout.layers.windowed import MaskedAttention, sliding_window, window_partition

H, W, D = 5, 6, 4
L = H * W
EVERY = torch.ones(L, L, dtype=torch.bool)


def near(reach):
    """Tokens whose rows and columns differ by at most `reach`."""
    row, column = torch.arange(L) // W, torch.arange(L) % W
    return ((row[:, None] - row).abs() <= reach) & ((column[:, None] - column).abs() <= reach)


def sequence(module):
    return lambda x: module(x.flatten(1, 2)).view_as(x)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (lambda: Attention(D, 2), EVERY),
        (lambda: Attention(D, 2, causal=True), EVERY.tril()),
        (lambda: SelectiveSSM(D, d_state=3), EVERY.tril()),
        (lambda: nn.Linear(D, D), EVERY.tril().triu()),
        (lambda: nn.Sequential(Attention(D, 2, causal=True), Attention(D, 2, causal=True)), EVERY.tril()),
    ],
    ids=["attention", "causal attention", "ssm", "linear", "two causal layers"],
)
def test_mixers_of_sequences(mixer, expected):
    torch.manual_seed(0)
    assert torch.equal(reads(mixer(), L, D), expected)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (lambda: GatedCNNBlock(D, kernel_size=3), near(1)),
        (lambda: nn.Sequential(*(GatedCNNBlock(D, kernel_size=3) for _ in range(3))), near(3)),
        (lambda: GatedCNNBlock(D), near(3)),
        (lambda: IdentityBlock(D), near(0)),
        (lambda: MaskedAttention(D, 2, sliding_window(3)), near(1)),
        (lambda: MaskedAttention(D, 2, sliding_window(3, 2)), sliding_window(3, 2)(H, W, None)),
        (lambda: MaskedAttention(D, 2, window_partition(3, 1)), window_partition(3, 1)(H, W, None)),
        (lambda: MambaBlock(D, kernel_size=3), (EVERY.tril().double() @ near(1).double()) > 0),
        (lambda: MambaBlock(D, kernel_size=3, scan="bidirectional"), EVERY),
    ],
    ids=["conv3", "three_conv3", "conv7", "identity", "sliding", "dilated", "shifted", "mamba", "vim"],
)
def test_mixers_of_images(mixer, expected):
    torch.manual_seed(0)
    assert torch.equal(reads(mixer(), H, W, D), expected)


@pytest.mark.parametrize("scan", SCANS)
def test_each_route_reads_what_came_before_on_it_and_a_scan_what_any_route_reads(scan):
    torch.manual_seed(0)
    block = MambaBlock(D, scan=scan).double()
    orders = routes(scan, H, W)
    ssms = [block.ssm] if len(orders) == 1 else block.ssm
    for ssm, order in zip(ssms, orders, strict=True):
        assert torch.equal(reads(lambda x, o=order, m=ssm: mix_along([m], x, o[None]), H, W, D), causal_mask(order))
    union = torch.stack([causal_mask(order) for order in orders]).any(0)
    assert torch.equal(reads(block.mix, H, W, D), union)


def test_causal_mask_by_hand():
    """Tokens are read in the order 2, 0, 1: token 0 reads 2 and itself, 1 reads all, 2 only itself."""
    assert causal_mask(torch.tensor([2, 0, 1])).int().tolist() == [[1, 0, 1], [1, 1, 1], [0, 0, 1]]


def test_it_equals_the_sparsity_of_the_whole_jacobian_in_one_part_or_many(monkeypatch):
    torch.manual_seed(0)
    mixer = nn.Sequential(GatedCNNBlock(D, kernel_size=3), MambaBlock(D, kernel_size=3)).double()
    x = torch.randn(H, W, D, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: mixer(x[None])[0], x).reshape(L, D, L, D)
    expected = jacobian.abs().amax((1, 3)) > 0
    assert torch.equal(reads(mixer, H, W, D), expected)
    monkeypatch.setattr(mixing, "NUMBERS", 7 * L * D)  # seven output tokens at a time
    assert torch.equal(reads(mixer, H, W, D), expected)


def test_weak_dependence_is_seen_and_none_is_not():
    weak = torch.eye(L, dtype=torch.double)
    weak[3, 5] = 1e-200
    assert torch.equal(reads(lambda x: weak @ x, L, D), weak != 0)


def test_the_module_stays_as_it_was():
    module = Attention(D, 2).train()
    before = module.qkv.weight.clone()
    reads(module, L, D)
    assert module.training and module.qkv.weight.dtype == torch.float32 and module.qkv.weight.grad is None
    assert torch.equal(module.qkv.weight, before)


def test_it_can_be_asked_where_gradients_are_off():
    with torch.no_grad():
        assert torch.equal(reads(Attention(D, 2, causal=True), L, D), torch.ones(L, L).tril().bool())


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        (lambda x: x[:, 1:], r"must keep its tokens \(30,\), but it gave \(29,\)"),
        (lambda x: (x - x).sqrt(), "not finite"),
    ],
)
def test_what_is_no_token_mixer_is_refused(mixer, message):
    with pytest.raises(ValueError, match=message):
        reads(mixer, L, D)
