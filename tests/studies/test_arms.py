"""The blocks of the controls do what their names say, and bring the parameters that are taken away for them."""

import pytest
import torch
from torch.nn import functional as F

from mambaout.layers import GatedCNNBlock, MambaBlock
from mambaout.models import MambaOut, MambaOutConfig
from mambaout.studies.arms import (
    BLOCKS,
    BareSSMBlock,
    ConvGELUBlock,
    ConvMeanBlock,
    LongConvBlock,
    extra_parameters,
    replace_blocks,
)

SMALL = MambaOutConfig(depths=(1, 2), dims=(8, 16), d_state=4, num_classes=10)
Z = torch.randn(2, 5, 6, 8, generator=torch.Generator().manual_seed(0))


def pair(kind, like=GatedCNNBlock, **options):  # type: ignore[no-untyped-def]
    """A block of the kind, and one of the library with the same weights."""
    torch.manual_seed(0)
    block, known = kind(8, **options), like(8, **options)
    known.load_state_dict(block.state_dict(), strict=False)
    return block, known


def test_the_factorial_of_the_activation_and_the_ssm() -> None:
    block, plain = pair(ConvGELUBlock)
    torch.testing.assert_close(block.token_mixer(Z), F.gelu(plain.token_mixer(Z)))
    block, mamba = pair(BareSSMBlock, MambaBlock, d_state=4)
    convolved = GatedCNNBlock.token_mixer(mamba, Z)
    torch.testing.assert_close(block.token_mixer(Z), mamba.ssm(convolved.flatten(1, 2)).view(Z.shape))
    assert not torch.allclose(block.token_mixer(Z), mamba.token_mixer(Z))


def test_the_mean_reaches_every_token_of_its_channel() -> None:
    block, plain = pair(ConvMeanBlock)
    y = plain.token_mixer(Z)
    torch.testing.assert_close(block.token_mixer(Z), y + y.flatten(1, 2).mean(1)[:, None, None])


@pytest.mark.parametrize("kind", [ConvMeanBlock, LongConvBlock])
def test_a_token_reads_all_of_a_grid_of_sixteen(kind) -> None:  # type: ignore[no-untyped-def]
    block = kind(4, expansion_ratio=2.0)
    image = torch.randn(1, 16, 16, 4, requires_grad=True)
    for row, column in ((0, 0), (8, 3), (15, 15)):
        (gradient,) = torch.autograd.grad(block.token_mixer(image)[0, row, column].square().sum(), image)
        assert (gradient[0].abs().amax(-1) > 0).all()
    assert block.token_mixer(image).shape == image.shape


def test_the_long_convolution_is_a_column_and_a_row() -> None:
    block, plain = pair(LongConvBlock, expansion_ratio=8 / 3)
    kernel = block.column.weight * block.row.weight  # (8, 1, 31, 31), of rank one
    with torch.no_grad():
        block.column.bias.zero_(), block.row.bias.zero_()
    y = F.conv2d(plain.token_mixer(Z).permute(0, 3, 1, 2), kernel, padding=15, groups=8).permute(0, 2, 3, 1)
    torch.testing.assert_close(block.token_mixer(Z), y)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_replaced_and_counted(name: str) -> None:
    model = MambaOut(SMALL)
    before = sum(p.numel() for p in model.parameters())
    replace_blocks(model, name)
    kinds = {type(block) for stage in model.stages for block in stage.blocks}
    assert len(kinds) == 1 and GatedCNNBlock not in kinds
    assert sum(p.numel() for p in model.parameters()) - before == extra_parameters(name, SMALL)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
