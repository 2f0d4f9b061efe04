"""Attention one token at a time: the cache of keys and values."""

import dataclasses
import re

import pytest
import torch

from mambaout.layers import Attention


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("length", [1, 2, 33])
@torch.no_grad()
def test_step_equals_the_parallel_form(length, heads):
    torch.manual_seed(0)
    attention = Attention(32, heads, causal=True)
    x = torch.randn(3, length, 32)
    cache, outputs = None, []
    for t, token in enumerate(x.unbind(1), start=1):
        y, cache = attention.step(token, cache)
        outputs.append(y)
        assert len(cache) == t and cache.keys.shape == cache.values.shape == (3, heads, t, 32 // heads)
    torch.testing.assert_close(torch.stack(outputs, 1), attention(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_cache_holds_every_key_and_value_unchanged():
    """Lossless: after all tokens, the first key is still the projection of the first token."""
    torch.manual_seed(0)
    attention = Attention(16, 2, causal=True)
    x = torch.randn(1, 9, 16)
    cache = None
    for token in x.unbind(1):
        _, cache = attention.step(token, cache)
    _, keys, values = attention.qkv(x).split(16, dim=-1)
    torch.testing.assert_close(cache.keys.transpose(1, 2).flatten(2), keys)
    torch.testing.assert_close(cache.values.transpose(1, 2).flatten(2), values)


def test_one_cache_serves_with_and_without_gradients():
    """Tensors of inference mode may not be written to outside of it, and nothing that a gradient needs ever."""
    torch.manual_seed(0)
    attention = Attention(8, 2, causal=True)
    x = torch.randn(1, 6, 8)
    cache = None
    for t, mode in enumerate((torch.inference_mode, torch.inference_mode, torch.no_grad, torch.no_grad)):
        with mode():
            y, cache = attention.step(x[:, t], cache)
    torch.testing.assert_close(y, attention(x)[:, 3])
    with torch.inference_mode():
        y, cache = attention.step(x[:, 4], cache)
    torch.testing.assert_close(y, attention(x)[:, 4])


@torch.no_grad()
def test_places_are_made_ahead_and_never_shared_twice():
    attention, cache, rooms = Attention(8, 2, causal=True), None, set()
    for _ in range(64):
        _, cache = attention.step(torch.randn(1, 8), cache)
        if cache.room is not None:
            rooms.add(cache.room.keys.shape[2])
    assert rooms == {2, 4, 8, 16, 32, 64}  # copied six times in all, not 63 times
    one, other = (attention.step(torch.randn(1, 8), cache)[1] for _ in range(2))
    assert one.room is not other.room and torch.equal(one.keys[:, :, :64], other.keys[:, :, :64])
    assert not torch.equal(one.keys[:, :, 64], other.keys[:, :, 64])


@torch.no_grad()
def test_a_sequence_can_be_continued_in_two_ways():
    torch.manual_seed(0)
    attention = Attention(16, 2, causal=True)
    first, one, other = torch.randn(3, 1, 16)
    _, start = attention.step(first)
    alone, _ = attention.step(one, start)
    attention.step(other, start)
    again, _ = attention.step(one, start)
    assert len(start) == 1 and torch.equal(alone, again)
    with pytest.raises(dataclasses.FrozenInstanceError):
        start.keys = start.values


def test_gradients_reach_earlier_tokens_through_the_cache():
    torch.manual_seed(0)
    attention = Attention(8, 2, causal=True)
    first, second = torch.randn(1, 8, requires_grad=True), torch.randn(1, 8)
    _, cache = attention.step(first)
    y, _ = attention.step(second, cache)
    y.sum().backward()
    assert first.grad.abs().max() > 0


def test_what_a_step_cannot_do_is_said():
    token = torch.randn(2, 8)
    with pytest.raises(ValueError, match=r"step needs causal attention.*causal=True"):
        Attention(8, 2).step(token)
    causal = Attention(8, 2, causal=True)
    for wrong in (token[:, None], token[0], torch.randn(2, 9)):
        with pytest.raises(ValueError, match=re.escape(f"of shape (batch, 8), got {tuple(wrong.shape)}")):
            causal.step(wrong)
    _, cache = causal.step(token)
    with pytest.raises(ValueError, match=re.escape("the cache has keys of shape (2, 2, 1, 4), but this token needs")):
        causal.step(token[:1], cache)
    with pytest.raises(ValueError, match="the cache has keys"):
        Attention(8, 4, causal=True).step(token, cache)
