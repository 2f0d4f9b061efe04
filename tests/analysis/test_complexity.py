"""The formulas against PyTorch's FLOP counter on the real modules, our MAC counts, and the paper's numbers."""

import math
import re
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from mambaout.analysis import complexity, cost, paper
from mambaout.analysis.cost import count_flops
from mambaout.layers import Attention, AttentionBlock, GatedCNNBlock, MambaBlock, SelectiveSSM, TransformerBlock
from mambaout.layers.transformer import Mlp
from mambaout.layers.windowed import MaskedAttention, window_partition

SIZES = [(16, 48), (64, 32), (144, 96)]  # (L, D); 16 = 4 x 4, 64 = 8 x 8, 144 = 12 x 12 tokens


def counted(module: nn.Module, *shape: int) -> int:
    """FLOPs of a forward pass by PyTorch's counter: it knows products of matrices, attention and convolutions."""
    return count_flops(module, torch.randn(1, *shape))


class TestAgainstTheFlopCounter:
    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_transformer_block_is_eq_6(self, length, dim):
        flops = complexity.transformer_block(length, dim)
        assert flops.total == 24 * dim**2 * length + 4 * dim * length**2
        assert counted(TransformerBlock(dim, num_heads=4), length, dim) == flops.total

    @pytest.mark.parametrize("chosen", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
    @pytest.mark.parametrize("heads", [1, 2, 8])
    def test_attention_whatever_the_heads_and_the_kernel(self, heads, chosen):
        with sdpa_kernel(chosen):
            assert counted(Attention(64, heads), 49, 64) == complexity.attention(49, 64).total

    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_mlp(self, length, dim):
        assert counted(Mlp(dim, 4 * dim), length, dim) == complexity.mlp(length, dim).total

    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_gated_cnn_block(self, length, dim):
        side = math.isqrt(length)
        assert counted(GatedCNNBlock(dim), side, side, dim) == complexity.gated_cnn_block(length, dim).total

    def test_gated_cnn_block_as_a_polynomial(self):
        assert complexity.gated_cnn_block(100, 96).total == 16 * 96**2 * 100 + 98 * 96 * 100

    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_ssm_and_mamba_block(self, length, dim):
        """The counter sees the linear layers and, of the recurrence, the product C h; the rest are small operations."""
        side, readout = math.isqrt(length), 2 * 16 * length * dim
        ssm = complexity.ssm(length, dim)
        assert counted(SelectiveSSM(dim), length, dim) == ssm.linear["select delta, B, C"] + readout
        rest = ssm.linear["recurrence"] - readout
        assert counted(MambaBlock(dim), side, side, dim) == complexity.mamba_block(length, dim).total - rest


class OperationCounter(TorchDispatchMode):
    """Counts how many numbers each operation writes."""

    def __init__(self):
        super().__init__()
        self.numbers = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        self.numbers[function.overloadpacket.__name__] += first.numel()
        return result


def test_the_recurrence_counted_operation_by_operation():
    """One token of a scan, written out: exp and softplus apart, 6 N + 3 operations a channel."""
    dim, state = 5, 4
    h, A, B, C = (torch.randn(dim, state) for _ in range(4))
    delta, u, D = (torch.randn(dim) for _ in range(3))
    with OperationCounter() as counter:
        decay = torch.exp(delta[:, None] * A)  # N multiplications
        h = decay * h + (delta * u)[:, None] * B  # N + N multiplications and N additions, and 1
        y = h * C  # N multiplications
        y = y.sum(1) + D * u  # N additions (the first to 0), 1 multiplication, 1 addition
    arithmetic = counter.numbers["mul"] + counter.numbers["add"] + dim * state
    assert arithmetic == complexity.ssm(1, dim, state).linear["recurrence"]
    assert complexity.ssm(1, dim, state).linear["recurrence"] == dim * (6 * state + 3)
    assert y.shape == (dim,)


def test_what_eq_6_leaves_out():
    length, dim, heads = 36, 48, 4
    block = TransformerBlock(dim, heads)
    with OperationCounter() as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        block(torch.randn(1, length, dim))
    left_out = complexity.left_out(length, dim, heads)
    seen = counter.numbers
    softmax = next(number for name, number in seen.items() if "softmax" in name)
    assert softmax == left_out["softmax"]
    assert seen["native_layer_norm"] == left_out["LayerNorm"]
    assert seen["gelu"] == left_out["GELU"]
    assert seen["add"] == left_out["residuals"]
    assert seen["addmm"] == left_out["biases"]  # every linear layer adds its bias to each number that it writes
    # For a square input they are below a tenth of Eq. 6 even at ten FLOPs for each number.
    assert 10 * sum(complexity.left_out(196, 384, 6).values()) < 0.1 * complexity.transformer_block(196, 384).total


class TestAgainstOurMacs:
    """What `layer_costs` counts, apart from LayerNorm."""

    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_twice_the_macs(self, length, dim):
        side = math.isqrt(length)
        for causal in (False, True):
            macs = self.without_norms(TransformerBlock(dim, 4, causal=causal), length, dim)
            assert complexity.transformer_block(length, dim, causal=causal).total == 2 * macs
        macs = self.without_norms(GatedCNNBlock(dim), side, side, dim)
        assert complexity.gated_cnn_block(length, dim).total == 2 * macs

    @pytest.mark.parametrize(("length", "dim"), SIZES)
    def test_half_as_much_again_in_the_recurrence(self, length, dim):
        macs = cost.count_macs(SelectiveSSM(dim), length, dim)
        recurrence = (4 * 16 + 2) * length * dim
        flops = complexity.ssm(length, dim)
        assert flops.linear["recurrence"] == 1.5 * recurrence
        assert flops.linear["select delta, B, C"] == 2 * (macs - recurrence)

    def test_attention_in_windows_and_in_the_gated_block_and_ssms_on_several_routes(self):
        """Against our MAC counts of the modules, which know these."""
        length, dim, side = 64, 32, 8
        masked = MaskedAttention(dim, 4, window_partition(4))
        assert complexity.windowed_attention(length, dim, 16).total == 2 * cost.count_macs(masked, side, side, dim)
        block = AttentionBlock(dim, num_heads=4)
        macs = self.without_norms(block, side, side, dim)
        assert complexity.attention_block(length, dim).total == 2 * macs
        one, four = (
            self.without_norms(MambaBlock(dim, scan=scan), side, side, dim) for scan in ("raster", "cross")
        )
        flops, extra = complexity.mamba_block(length, dim, routes=4).total, complexity.ssm(length, dim).total
        assert four - one == 3 * cost.count_macs(SelectiveSSM(dim), length, dim)
        assert flops - complexity.mamba_block(length, dim).total == 3 * extra

    @staticmethod
    def without_norms(module, *shape):
        return sum(layer.macs for layer in cost.layer_costs(module, *shape) if layer.kind != "LayerNorm")


def formula(item: str):
    """(value, note) of a row of the paper's formulas, picked by its beginning."""
    rows = paper.table("formulas").set_index("item")
    (name,) = [name for name in rows.index if name.startswith(item)]
    return rows.loc[name, "value"], str(rows.loc[name, "note"])


class TestAgainstThePaper:
    """Every number of data/paper/formulas.csv that Section 3.2 gives, and those computed from them."""

    def test_eq_6(self):
        value, _ = formula("Transformer block FLOPs")
        assert value == "24 D^2 L + 4 D L^2"
        linear, quadratic = map(int, re.fullmatch(r"(\d+) D\^2 L \+ (\d+) D L\^2", value).groups())
        flops = complexity.transformer_block(1, 1)
        assert (sum(flops.linear.values()), sum(flops.quadratic.values())) == (linear, quadratic)

    def test_eq_7(self):
        value, _ = formula("ratio of quadratic to linear")
        assert value == "r_L = 4 D L^2 / (24 D^2 L) = L / (6 D)"
        for length, dim in SIZES:
            assert complexity.ratio(length, dim) == length / (6 * dim)
            flops = complexity.transformer_block(length, dim)
            assert complexity.ratio(length, dim) == pytest.approx(
                sum(flops.quadratic.values()) / sum(flops.linear.values())
            )

    def test_rule_and_thresholds(self):
        assert formula("long-sequence rule")[0] == "L > 6 D"
        assert complexity.threshold(1) == 6
        for item, dim in (("tau_small", 384), ("tau_base", 768)):
            assert complexity.threshold(dim) == int(formula(item)[0])
            assert f"D = {dim}" in next(name for name in paper.table("formulas")["item"] if name.startswith(item))

    @pytest.mark.parametrize(
        ("item", "label", "size"),
        [
            ("tokens ImageNet", "ImageNet", (224, 224)),
            ("tokens COCO", "COCO", (800, 1280)),
            ("tokens ADE20K", "ADE20K", (512, 2048)),
        ],
    )
    def test_tokens_and_their_ratios(self, item, label, size):
        value, note = formula(item)
        place = next(place for place in complexity.INPUTS if place["label"] == label)
        assert (place["height"], place["width"], place["patch"]) == (*size, 16)
        length = complexity.tokens(*size, 16)
        assert length == int(value)
        for dim, name in ((384, "ViT-S"), (768, "ViT-B")):
            printed = re.search(rf"([\d.]+) \({name}\)", note)[1]
            decimals = len(printed.partition(".")[2])
            assert round(complexity.ratio(length, dim), decimals) == float(printed)

    def test_the_fine_print(self):
        """4K tokens lie above ViT-S's threshold and just under ViT-B's."""
        for length in (4000, 4096):
            assert complexity.threshold(384) < length < complexity.threshold(768)
            assert complexity.ratio(length, 768) > 0.85


class TestParts:
    @pytest.mark.parametrize("name", complexity.MIXERS)
    def test_growth(self, name):
        """Doubling the tokens doubles the linear parts and quadruples the quadratic ones."""
        once, twice = complexity.MIXERS[name](64, 48), complexity.MIXERS[name](128, 48)
        assert once.parts.keys() == twice.parts.keys()
        assert all(twice.linear[part] == 2 * once.linear[part] for part in once.linear)
        assert all(twice.quadratic[part] == 4 * once.quadratic[part] for part in once.quadratic)
        assert once.total == sum(once.parts.values())

    def test_a_sum_loses_nothing_where_names_meet(self):
        full, windowed = complexity.attention(64, 48), complexity.windowed_attention(64, 48)
        assert (full + full).total == 2 * full.total
        assert (full + windowed).total == full.total + windowed.total
        assert (full + windowed).quadratic == full.quadratic

    def test_only_attention_has_a_quadratic_part(self):
        quadratic = {name for name, mixer in complexity.MIXERS.items() if mixer(8, 8).quadratic}
        assert quadratic == {"attention", "causal_attention", "transformer_block", "attention_block"}

    def test_half_of_it_when_causal(self):
        full, causal = complexity.attention(64, 48), complexity.causal_attention(64, 48)
        assert full.linear == causal.linear
        assert sum(full.quadratic.values()) == 4 * 48 * 64**2 == 2 * sum(causal.quadratic.values())

    def test_share_and_threshold_belong_together(self):
        """At the threshold both parts weigh the same, for any MLP ratio and in both modes."""
        for mlp_ratio in (2, 4):
            for causal in (False, True):
                length = int(complexity.threshold(96, mlp_ratio, causal))
                flops = complexity.transformer_block(length, 96, mlp_ratio, causal)
                assert flops.quadratic_share == 0.5
                assert complexity.ratio(length, 96, mlp_ratio, causal) == 1

    def test_a_patch_that_sticks_out_is_a_token(self):
        assert complexity.tokens(224, 224, 16) == 196
        assert complexity.tokens(225, 224, 16) == 15 * 14
        assert complexity.tokens(1, 1, 16) == 1


class TestCrossing:
    LENGTHS = (64, 128, 256, 512, 1024)

    def test_of_straight_lines_on_logarithmic_axes_is_exact(self):
        quadratic = [length**2 for length in self.LENGTHS]
        linear = [300 * length for length in self.LENGTHS]
        assert complexity.crossing(self.LENGTHS, quadratic, linear) == pytest.approx(300)

    def test_the_two_parts_of_eq_6_cross_at_the_threshold(self):
        parts = [complexity.transformer_block(length, 48) for length in self.LENGTHS]
        quadratic, linear = ([sum(getattr(part, kind).values()) for part in parts] for kind in ("quadratic", "linear"))
        assert complexity.crossing(self.LENGTHS, quadratic, linear) == pytest.approx(complexity.threshold(48))

    def test_the_last_of_several_counts(self):
        assert 256 < complexity.crossing(self.LENGTHS, [3, 1, 1, 3, 3], [2] * 5) < 512

    def test_none_and_always(self):
        assert complexity.crossing(self.LENGTHS, [3, 3, 3, 3, 1], [2] * 5) is None
        assert complexity.crossing(self.LENGTHS, [3] * 5, [2] * 5) == 64
        with pytest.raises(ValueError, match="equally long rows, got 5, 4 and 5"):
            complexity.crossing(self.LENGTHS, [1] * 4, [2] * 5)


class TestSplitTime:
    LENGTHS = (512, 1024, 2048, 4096)

    def test_finds_the_parts_of_an_exact_polynomial(self):
        times = [3e-6 * length + 2e-9 * length**2 for length in self.LENGTHS]
        assert complexity.split_time(self.LENGTHS, times) == pytest.approx((3e-6, 2e-9))

    def test_of_eq_6_it_is_the_threshold(self):
        flops = [complexity.transformer_block(length, 96).total for length in self.LENGTHS]
        linear, quadratic = complexity.split_time(self.LENGTHS, flops)
        assert linear / quadratic == pytest.approx(complexity.threshold(96))

    def test_weighs_relative_errors(self):
        """An error of ten per cent weighs the same at every length."""
        exact = [1e-6 * length + 1e-9 * length**2 for length in self.LENGTHS]
        linear, quadratic = complexity.split_time(self.LENGTHS, [1.1 * exact[0], *exact[1:]])
        assert abs(linear / 1e-6 - 1) < 0.2 and abs(quadratic / 1e-9 - 1) < 0.2

    def test_no_part_is_negative(self):
        assert complexity.split_time(self.LENGTHS, [length**1.5 for length in (1, 3, 9, 27)])[0] >= 0
        linear, quadratic = complexity.split_time(self.LENGTHS, [length**0.8 for length in self.LENGTHS])
        assert quadratic == 0 and linear > 0
        linear, quadratic = complexity.split_time(self.LENGTHS, [length**2.5 for length in self.LENGTHS])
        assert linear == 0 and quadratic > 0

    def test_one_length_says_nothing(self):
        with pytest.raises(ValueError, match="at least two; got 1 and 1"):
            complexity.split_time([8], [1.0])
