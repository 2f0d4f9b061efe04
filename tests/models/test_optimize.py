"""Rewrites for inference leave the outputs as they are, and the original model alone."""

import pytest
import torch

import mambaout


@pytest.mark.parametrize(
    ("name", "token_mixer"),
    [("mambaout_zepto", "gated_cnn"), ("mambaout_zepto", "mamba"), ("mambaout_base_wide_rw", "gated_cnn")],
)
@pytest.mark.parametrize("multiple", [8, 64])
def test_padding_leaves_the_outputs_equal(name, token_mixer, multiple):
    torch.manual_seed(0)
    model = mambaout.create_model(
        name, dims=(20, 35), depths=(1, 3), in_chans=1, token_mixer=token_mixer, drop_path_rate=0.3
    )
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    fast = mambaout.optimize_for_inference(model, multiple)
    assert all(b.split[0] % multiple == 0 for stage in fast.stages for b in stage.blocks)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model.eval()(x), rtol=1e-5, atol=1e-6)
    fast.train()  # stochastic depth is gone for good
    torch.testing.assert_close(fast(x), model(x), rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())


def test_bases_widths_become_multiples():
    with torch.device("meta"):
        model = mambaout.create_model("mambaout_base")
    fast = mambaout.optimize_for_inference(model, 64)
    assert [stage.blocks[0].split[0] for stage in model.stages] == [341, 682, 1365, 2048]
    assert [stage.blocks[0].split[0] for stage in fast.stages] == [384, 704, 1408, 2048]
    with pytest.raises(ValueError, match="multiple must be 1 or more"):
        mambaout.optimize_for_inference(model, 0)
