"""The selective SSM: initialisation, causality, and one token at a time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambaout.layers import MambaBlock, SelectiveSSM
from mambaout.models import create_model


def test_initialisation():
    torch.manual_seed(0)
    ssm = SelectiveSSM(512, d_state=8)
    assert ssm.dt_rank == 32
    torch.testing.assert_close(-ssm.A_log.exp(), -torch.arange(1.0, 9).expand(512, 8))  # S4D-real
    dt = F.softplus(ssm.dt_bias)
    assert 1e-3 * 0.999 <= dt.min() and dt.max() <= 0.1 * 1.001
    assert abs(dt.log().mean() - torch.tensor([1e-3, 1e-1]).log().mean()) < 0.2  # log-uniform, not uniform
    assert torch.equal(ssm.D, torch.ones(512))


def test_a_generic_initialisation_leaves_the_time_scales_alone():
    def generic(module):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    for build in (lambda: SelectiveSSM(64).apply(generic), lambda: create_model("mambaout_zepto", token_mixer="mamba")):
        module = build()
        for ssm in (m for m in module.modules() if isinstance(m, SelectiveSSM)):
            dt = F.softplus(ssm.dt_bias)
            assert 1e-3 * 0.999 <= dt.min() and dt.max() <= 0.1 * 1.001
            assert ssm.dt_weight.abs().max() <= ssm.dt_rank**-0.5


@pytest.mark.parametrize("length", [1, 2, 17])
def test_step_equals_scan(length):
    torch.manual_seed(0)
    ssm = SelectiveSSM(24, d_state=4)
    x = torch.randn(3, length, 24)
    with torch.no_grad():
        parallel = ssm(x)
        state, outputs = None, []
        for token in x.unbind(1):
            y, state = ssm.step(token, state)
            outputs.append(y)
            assert state.shape == (3, 24, 4)  # constant memory
    torch.testing.assert_close(torch.stack(outputs, 1), parallel, rtol=1e-5, atol=1e-6)


def test_mamba_block_mixes_what_the_convolution_gives():
    """Eq. 11: the SSM sees GELU(Conv(Z)); with C = 0 and D = 1 it passes that through."""
    torch.manual_seed(0)
    block = MambaBlock(8)
    with torch.no_grad():
        block.ssm.x_proj.weight[-block.ssm.d_state :] = 0
        z = torch.randn(2, 3, 4, 8)
        torch.testing.assert_close(block.token_mixer(z), F.gelu(super(MambaBlock, block).token_mixer(z)))
