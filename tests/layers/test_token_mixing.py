"""Who may look at whom (Figure 3a), read off the Jacobian of each mixer."""

import pytest
import torch

from mambaout.kernels.depthwise import depthwise_conv2d
from mambaout.layers import Attention, MambaBlock, SelectiveSSM, TransformerBlock
from mambaout.models import create_model

LENGTH, DIM = 9, 8


def reads(function, length=LENGTH, dim=DIM):
    """Matrix (L, L): entry [t, s] is True when output token t depends on input token s."""
    x = torch.randn(1, length, dim, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x[None])[0], x[0])  # (L, D, L, D)
    return jacobian.abs().amax((1, 3)) > 0


def causal(length=LENGTH):
    return torch.ones(length, length, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    "mixer",
    [
        lambda: Attention(DIM, 2, causal=True),
        lambda: TransformerBlock(DIM, 2, causal=True),
        lambda: SelectiveSSM(DIM, d_state=4),
    ],
    ids=["attention", "transformer block", "ssm"],
)
def test_causal_mixers_read_all_earlier_tokens_and_no_later_one(mixer):
    torch.manual_seed(0)
    assert torch.equal(reads(mixer().double()), causal())


@pytest.mark.parametrize("mixer", [lambda: Attention(DIM, 2), lambda: TransformerBlock(DIM, 2)])
def test_fully_visible_mixers_read_every_token(mixer):
    torch.manual_seed(0)
    assert reads(mixer().double()).all()


def test_causal_attention_without_causal_is_the_same_layer():
    """The flag changes the mask and nothing else: the last token sees everything in both modes."""
    torch.manual_seed(0)
    full, masked = Attention(DIM, 2), Attention(DIM, 2, causal=True)
    masked.load_state_dict(full.state_dict())
    x = torch.randn(2, LENGTH, DIM)
    torch.testing.assert_close(full(x)[:, -1], masked(x)[:, -1])
    assert not torch.allclose(full(x)[:, 0], masked(x)[:, 0])


def test_convolution_reads_its_window_and_the_ssm_adds_everything_before():
    torch.manual_seed(0)
    block = MambaBlock(3, kernel_size=3).double()
    side, dim = 5, 3

    def as_map(x):
        return x.unflatten(1, (side, side))

    window = reads(lambda x: depthwise_conv2d(block.conv, as_map(x)).flatten(1, 2), side * side, dim)
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    near = ((rows[:, None] - rows).abs() <= 1) & ((columns[:, None] - columns).abs() <= 1)
    assert torch.equal(window, near)

    mixed = reads(lambda x: block.token_mixer(as_map(x)).flatten(1, 2), side * side, dim)
    assert torch.equal(mixed, causal(side * side).double() @ near.double() > 0)


@pytest.mark.parametrize(("token_mixer", "expected"), [("attention", torch.ones(16, 16, dtype=torch.bool)),
                                                       ("causal_attention", causal(16))])  # fmt: skip
def test_vit_in_both_modes(token_mixer, expected):
    torch.manual_seed(0)
    settings = {"dim": 12, "num_heads": 2, "depth": 2, "image_size": 8, "patch_size": 2, "num_classes": 0}
    model = create_model("vit_ti", token_mixer=token_mixer, **settings).double()
    tokens = lambda x: model.norm(model.blocks(x))  # noqa: E731
    assert torch.equal(reads(tokens, 16, 12), expected)
