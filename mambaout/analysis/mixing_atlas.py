"""The masks of many token mixers on one grid of tokens, each read off a random instance of the library's module."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from mambaout.analysis.mixing import reads
from mambaout.layers import Attention, GatedCNNBlock, MambaBlock
from mambaout.layers.mamba import mix_along
from mambaout.layers.scans import routes
from mambaout.layers.windowed import MaskedAttention, sliding_window, window_partition

# Of every instance: small, as sparsity does not depend on size. (LayerNorm over two channels has almost no gradient.)
DIM, HEADS, D_STATE = 3, 1, 4
CONVOLUTIONS = 5  # most 7 x 7 convolutions in a stack

# (scan of the library, name, its routes, what it is)
SCANS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("bidirectional", "Vim", ("forward", "backward"), "Raster order and its reverse, an SSM for each."),
    ("cross", "VMamba", ("rows", "columns", "rows back", "columns back"), "Cross-scan: rows, columns, both reversed."),
    ("local", "LocalMamba", ("2 × 2", "7 × 7", "2 × 2 back", "7 × 7 back"),
     "Window after window: neighbours in the image stay near on the route."),
    ("continuous", "PlainMamba", ("rows", "columns", "rows back", "columns back"),
     "Continuous 2-D scan, to and fro: the next token is always a neighbour."),
)  # fmt: skip


def atlas(height: int = 14, width: int = 14) -> list[dict[str, Any]]:
    """Mixers in several forms each, with their masks.

    SSMs are shown alone, without the convolution before them in a Mamba block.

    Returns:
        One dict a mixer: "group", "name", "text" (what it is) and "views", a list of dicts: "label", "reads" (L, L)
        bool, L = height width, and "order", the route (L,) that it reads along, or None.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [*_attentions(height, width), *_windows(height, width), *_ssms(height, width)]


def _attentions(height: int, width: int) -> list[dict[str, Any]]:
    raster, random = routes("raster", height, width), routes("random", height, width)
    shape = (height, width, DIM)
    first, second = (Attention(DIM, HEADS, causal=True).double() for _ in range(2))

    def in_order(*layers: tuple[nn.Module, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Layers one after the other, each along its route (1, L)."""

        def mixer(x: torch.Tensor) -> torch.Tensor:
            for layer, order in layers:
                x = mix_along([layer], x, order)
            return x

        return mixer

    causal = [
        _view("one layer", reads(in_order((first, raster)), *shape), raster[0]),
        _view("two layers", reads(in_order((first, raster), (second, raster)), *shape), raster[0]),
        _view("second backwards", reads(in_order((first, raster), (second, raster.flip(1))), *shape)),
        _view("random order", reads(in_order((first, random)), *shape), random[0]),
    ]
    visible = in_order((Attention(DIM, HEADS).double(), raster))
    return [
        _mixer("Attention", "Fully-visible", "Every token reads every token (Eq. 5), as in ViT.",
               [_view("one layer", reads(visible, *shape))]),
        _mixer("Attention", "Causal", "A token reads itself and what came before (Eq. 4), as in a language model.",
               causal),
    ]  # fmt: skip


def _windows(height: int, width: int) -> list[dict[str, Any]]:
    plain, dilated = sliding_window(7), sliding_window(7, dilation=2)
    cut, shifted = window_partition(7), window_partition(7, shift=3)

    def attention(*masks: Any) -> torch.Tensor:
        layers = (MaskedAttention(DIM, HEADS, mask) for mask in masks)
        return reads(nn.Sequential(*layers), height, width, DIM)

    def convolution(layers: int) -> torch.Tensor:
        return reads(nn.Sequential(*(GatedCNNBlock(DIM) for _ in range(layers))), height, width, DIM)

    stack = [
        _view("1 layer" if n == 1 else f"{n} layers", convolution(n)) for n in range(1, CONVOLUTIONS + 1)
    ]
    return [
        _mixer("Convolution and windows", "Convolution 7 × 7",
               "Gated CNN blocks. Each adds three tokens of sight on every side.", stack),
        _mixer("Convolution and windows", "Sliding window 7 × 7",
               "Attention over the 7 × 7 tokens around each: it reads what a convolution of that size reads.",
               [_view("1 layer", attention(plain)), _view("2 layers", attention(plain, plain))]),
        _mixer("Convolution and windows", "Dilated window",
               "7 × 7 tokens again, but every second one. Stacked, it never meets the tokens between.",
               [_view("1 layer", attention(dilated)), _view("2 layers", attention(dilated, dilated)),
                _view("plain, then dilated", attention(plain, dilated))]),
        _mixer("Convolution and windows", "Windows of 7 × 7",
               "Attention within fixed windows, as in Swin, which shifts the cuts in every second layer.",
               [_view("1 layer", attention(cut)), _view("2 layers", attention(cut, cut)),
                _view("second shifted", attention(cut, shifted))]),
    ]  # fmt: skip


def _ssms(height: int, width: int) -> list[dict[str, Any]]:
    raster = routes("raster", height, width)[0]
    one = _view("raster order", reads(MambaBlock(DIM, d_state=D_STATE).double().mix, height, width, DIM), raster)
    mixers = [_mixer("SSM", "Mamba's SSM", "One scan, row after row: causal (Eqs. 2 and 3).", [one])]
    for scan, name, labels, text in SCANS:
        block = MambaBlock(DIM, d_state=D_STATE, scan=scan).double()
        views = [_view("all routes", reads(block.mix, height, width, DIM))]
        ssms = cast("nn.ModuleList", block.ssm)
        for label, ssm, order in zip(labels, ssms, routes(scan, height, width), strict=True):
            alone = lambda x, ssm=ssm, order=order: mix_along([ssm], x, order[None])  # noqa: E731
            views.append(_view(label, reads(alone, height, width, DIM), order))
        mixers.append(_mixer("SSM", name, text, views))
    return mixers


def _mixer(group: str, name: str, text: str, views: list[dict[str, Any]]) -> dict[str, Any]:
    return {"group": group, "name": name, "text": text, "views": views}


def _view(label: str, matrix: torch.Tensor, order: torch.Tensor | None = None) -> dict[str, Any]:
    return {"label": label, "reads": matrix.numpy(), "order": None if order is None else order.tolist()}
