"""The Mamba block along any token order, against a loop over routes and tokens."""

import pytest
import torch
from torch import nn

from mambaout.layers import MambaBlock, SelectiveSSM, selective_scan_reference
from mambaout.layers.scans import SCANS, routes


def by_hand(block, x):
    """Loop over routes: permute, scan token by token, put back, average."""
    ssms = [block.ssm] if isinstance(block.ssm, SelectiveSSM) else list(block.ssm)
    tokens, outputs = x.flatten(1, 2), []
    for ssm, route in zip(ssms, routes(block.scan, *x.shape[1:3]).tolist(), strict=True):
        u = torch.stack([tokens[:, token] for token in route], dim=1)
        delta, A, B, C = ssm.select(u)
        y = selective_scan_reference(u, delta, A, B, C, ssm.D)
        outputs.append(torch.stack([y[:, route.index(token)] for token in range(len(route))], dim=1))
    return (sum(outputs) / len(outputs)).view_as(x)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("size", [(3, 5), (8, 1), (1, 1)])
def test_mix_and_its_gradients_equal_the_loop(scan, size):
    torch.manual_seed(0)
    block = MambaBlock(6, d_state=3, scan=scan).double()
    x = torch.randn(2, *size, 6, dtype=torch.double, requires_grad=True)
    expected = by_hand(block, x)
    torch.testing.assert_close(block.mix(x), expected)
    inputs, upstream = [x, *block.ssm.parameters()], torch.randn_like(x)
    ours = torch.autograd.grad(block.mix(x), inputs, upstream)
    theirs = torch.autograd.grad(expected, inputs, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_raster_keeps_names_parameters_and_random_numbers():
    """Weights of Mamba blocks saved before there were scans must load, and runs must repeat."""
    torch.manual_seed(0)
    block = MambaBlock(8, d_state=4)
    after = torch.rand(1)
    names = {f"ssm.{name}" for name in ("x_proj.weight", "dt_weight", "dt_bias", "A_log", "D")}
    assert {name for name in block.state_dict() if name.startswith("ssm.")} == names
    torch.manual_seed(0)
    other = MambaBlock(8, d_state=4, scan="random")
    assert torch.equal(torch.rand(1), after)
    other.load_state_dict(block.state_dict())


@pytest.mark.parametrize(("scan", "count"), [("bidirectional", 2), ("cross", 4), ("local", 4), ("continuous", 4)])
def test_each_route_has_an_ssm_of_its_own(scan, count):
    one, many = (sum(p.numel() for p in MambaBlock(8, scan=s).ssm.parameters()) for s in ("raster", scan))
    assert many == count * one
    ssms = MambaBlock(8, scan=scan).ssm
    assert isinstance(ssms, nn.ModuleList) and len(ssms) == count
    assert not torch.equal(ssms[0].dt_bias, ssms[1].dt_bias)


def test_the_scale_at_the_start_is_the_same_for_any_number_of_routes():
    """With C = 0 and D = 1 every SSM passes its input through, and so must their mean."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 8)
    for scan in SCANS:
        block = MambaBlock(8, scan=scan)
        for ssm in block.modules():
            if isinstance(ssm, SelectiveSSM):
                nn.init.zeros_(ssm.x_proj.weight[-ssm.d_state :])
        torch.testing.assert_close(block.mix(x), x)


def test_it_runs_compiled_and_under_autocast():
    torch.manual_seed(0)
    block = MambaBlock(8, d_state=4, scan="local").eval()
    x = torch.randn(2, 5, 4, 8)
    with torch.no_grad():
        expected = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(block(x).float(), expected, rtol=0.05, atol=0.05)
        torch.testing.assert_close(torch.compile(block, backend="eager")(x), expected)


def test_an_unknown_scan_is_refused():
    with pytest.raises(ValueError, match="unknown scan 'spiral'"):
        MambaBlock(8, scan="spiral")
