"""Gated CNN blocks and those that inherit from them against the plain form, on every path that a block can take."""

import copy

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import StochasticDepth

from mambaout.layers import AttentionBlock, DropPath, GatedCNNBlock, IdentityBlock, MambaBlock

BLOCKS = [GatedCNNBlock, MambaBlock, AttentionBlock, IdentityBlock]


def make(kind, dim=12, **options):
    torch.manual_seed(0)
    block = kind(dim, **options)
    for p in block.parameters():  # biases of zero would hide mistakes
        p.data += 0.05 * torch.randn_like(p)
    return block


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("options", [{}, {"conv_ratio": 8 / 3}, {"expansion_ratio": 2.0, "kernel_size": 3}])
def test_output_and_gradients_equal_the_plain_form(kind, options):
    block = make(kind, **options).double()
    x = torch.randn(2, 5, 7, 12, dtype=torch.double, requires_grad=True)
    upstream = torch.randn_like(x)
    inputs = [x, *block.parameters()]
    expected = reference.gated_cnn(block, x)
    torch.testing.assert_close(block(x), expected)
    ours = torch.autograd.grad(block(x), inputs, upstream)
    theirs = torch.autograd.grad(expected, inputs, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dim=st.integers(2, 20),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    contiguous=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_inference_equals_the_plain_form(batch, height, width, dim, dtype, contiguous):
    block = make(GatedCNNBlock, dim).to(dtype).eval()
    x = torch.randn(batch, height, width, dim, dtype=dtype)
    if not contiguous:
        x = x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3)
    before = x.clone()
    with torch.no_grad():
        y, expected = block(x), reference.gated_cnn(block, x)
    assert y.dtype == dtype and y.shape == x.shape
    assert reference.relative_error(y, expected) < {torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    assert torch.equal(x, before), "the input was changed in place"


def test_inference_in_chunks_equals_the_plain_form(monkeypatch):
    monkeypatch.setattr("mambaout.kernels.gated_cnn.CHUNK", 100)  # three tokens a chunk, the last one shorter
    block = make(GatedCNNBlock).eval()
    x = torch.randn(2, 5, 4, 12)
    with torch.no_grad():
        torch.testing.assert_close(block(x), reference.gated_cnn(block, x))


def test_hooks_and_replaced_linears_are_respected():
    block = make(GatedCNNBlock).eval()
    x = torch.randn(1, 4, 4, 12)
    seen = []
    block.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        block(x)
    assert len(seen) == 1

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    doubled = Doubled(block.fc2.in_features, 12)
    doubled.load_state_dict(block.fc2.state_dict())
    plain = copy.deepcopy(block)
    block.fc2 = doubled
    with torch.no_grad():
        torch.testing.assert_close(block(x) - x, 2 * (plain(x) - x))


def test_autocast_and_vmap_run():
    block = make(GatedCNNBlock)
    x = torch.randn(2, 4, 4, 12)
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
            assert reference.relative_error(block(x), reference.gated_cnn(block.float(), x)) < 3e-2
    per_sample = torch.func.vmap(torch.func.grad(lambda x: block(x[None]).square().sum()))(x)
    whole = torch.func.grad(lambda x: block(x).square().sum())(x)
    torch.testing.assert_close(per_sample, whole)


def test_the_ssm_is_the_only_difference():
    gated, mamba = GatedCNNBlock(16).state_dict(), MambaBlock(16).state_dict()
    assert {name for name in mamba if not name.startswith("ssm.")} == set(gated)
    assert all(mamba[name].shape == gated[name].shape for name in gated)


def test_the_identity_block_mixes_nothing_and_has_no_convolution():
    block = make(IdentityBlock).eval()
    assert not any(name.startswith("conv") for name in block.state_dict())
    x = torch.randn(1, 4, 4, 12)
    other = x.clone()
    other[0, 1, 2] += 1
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            changed = (block(x) != block(other)).any(-1)[0]
        assert changed.nonzero().tolist() == [[1, 2]]


def test_drop_path_is_torchvisions_stochastic_depth():
    x = torch.ones(4000, 2, 1)
    torch.manual_seed(0)
    ours = DropPath(0.25).train()(x)
    torch.manual_seed(0)
    theirs = StochasticDepth(0.25, "row").train()(x)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(DropPath(0.25).eval()(x), x)


def test_drop_path_acts_in_training_without_gradients():
    block = make(GatedCNNBlock, drop_path=0.5).train()
    x = torch.randn(64, 2, 2, 12)
    with torch.no_grad():
        unchanged = (block(x) == x).flatten(1).all(1).sum().item()
    assert 10 < unchanged < 54


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_ratio": 3.0}, "between 1 and"),
        ({"conv_ratio": 0.0}, "between 1 and"),
        ({"kernel_size": 4}, "must be odd"),
        ({"drop_path": 1.0}, "drop_prob"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GatedCNNBlock(12, **options)
