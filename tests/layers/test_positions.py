"""Sines and cosines tell each place of a grid from every other, and a row from a column."""

import pytest
import torch

from mambaout.layers.positions import sincos_positions
from mambaout.models import create_model


def test_each_place_has_a_vector_of_its_own() -> None:
    places = sincos_positions(16, 16, 32)
    assert places.shape == (16, 16, 32) and places.abs().max() <= 1
    distances = torch.cdist(places.flatten(0, 1), places.flatten(0, 1)) + 9 * torch.eye(256)
    assert distances.min() > 0.5
    torch.testing.assert_close(places[3, 5], torch.cat((places[3, 0, :16], places[0, 5, 16:])))
    torch.testing.assert_close(places[:, :, :16].transpose(0, 1), places[:, :, 16:])
    torch.testing.assert_close(places[7, 0, :8], (7 * 10_000.0 ** -torch.linspace(0, 1, 8)).sin())


def test_refuses_channels_that_cannot_be_shared_out() -> None:
    with pytest.raises(ValueError, match="a multiple of 4 channels, got 6"):
        sincos_positions(2, 2, 6)


def test_with_positions_attention_knows_where_a_token_is() -> None:
    """Without convolutions behind it, attention sees a bag of tokens; positions add no parameter."""
    models = {}
    for positions in (False, True):
        torch.manual_seed(0)
        shape = {"depths": (1,), "dims": (16,), "stem_stride": 1, "kernel_size": 1, "token_mixer": "attention"}
        models[positions] = create_model("mambaout_zepto", **shape, head_dim=8, positions=positions).eval()
    weights = [model.state_dict() for model in models.values()]
    assert weights[0].keys() == weights[1].keys() and models[True].cfg.positions
    image = torch.zeros(1, 1, 12, 12)
    for positions, model in models.items():
        inner = model.forward_features(image)[0, 3:-3, 3:-3].flatten(0, 1)  # beyond the padding of the stem
        assert ((inner - inner[0]).abs().amax() > 1e-3) == positions
        (only,) = model.forward_intermediates(image, intermediates_only=True)
        torch.testing.assert_close(only.permute(0, 2, 3, 1), model.forward_features(image))
