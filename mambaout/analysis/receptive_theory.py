"""What an output could see: the theoretical receptive field, exactly and by arithmetic alone.

A model is read as a chain of steps between maps, each of which says which positions it reads: a window (convolution,
pooling), the tokens that came no later on a route (causal attention, an SSM), or everything (attention, global
pooling). Layers that treat each position by itself are no step. Residual branches add none either, as a block's
branch reads all that its shortcut reads.

For windows alone, size, stride and offset follow from the usual recurrence (Araujo, Norris & Sim, Distill 2019); with
the other steps the field has no fixed size, and :meth:`TheoreticalReceptiveField.support` says for each location what
it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.layers import AttentionBlock, Downsample, DropPath, GatedCNNBlock, IdentityBlock, MambaBlock, Stem
from mambaout.layers.scans import inverse, routes
from mambaout.models import Features, MambaOut, ViT

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Output (i, j) reads rows ``i * stride - padding + dilation * t`` for t < kernel, and columns likewise."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    last_padding: Pair | None = None  # below and at the right, where it differs

    def out_size(self, size: Pair) -> Pair:
        """Height and width of the map that it makes from one of this size."""
        after = self.last_padding or self.padding
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        height, width = ((size[i] + self.padding[i] + after[i] - reach[i] - 1) // self.stride[i] + 1 for i in (0, 1))
        return height, width

    def read(self, mask: torch.Tensor, size: Pair) -> torch.Tensor:
        """What the marked outputs (H', W') read of a map of ``size``: (H, W)."""
        ones = torch.ones(1, 1, *self.kernel)
        hits = F.conv_transpose2d(mask[None, None].float(), ones, stride=self.stride, dilation=self.dilation)[0, 0] > 0
        (top, left), (height, width) = self.padding, size  # hits begins in the padding, and may end before the map
        hits = F.pad(hits, (0, max(0, left + width - hits.shape[1]), 0, max(0, top + height - hits.shape[0])))
        return hits[top : top + height, left : left + width]


@dataclass(frozen=True)
class Routes:
    """Each token reads those that came no later on any of the routes that (height, width) has: (R, L)."""

    orders: Callable[[int, int], torch.Tensor]

    def out_size(self, size: Pair) -> Pair:
        """A mixer keeps its tokens."""
        return size

    def read(self, mask: torch.Tensor, size: Pair) -> torch.Tensor:
        """What the marked tokens (H, W) read: (H, W)."""
        place = inverse(self.orders(*size))  # (R, L)
        last = place[:, mask.flatten()].amax(1, keepdim=True)  # (R, 1): the latest marked token of each route
        return (place <= last).any(0).view(size)


@dataclass(frozen=True)
class Everything:
    """Each output reads the whole map: fully-visible attention, or, with ``pool``, the mean over the map."""

    pool: bool = False

    def out_size(self, size: Pair) -> Pair:
        """One position with ``pool``, else as before."""
        return (1, 1) if self.pool else size

    def read(self, mask: torch.Tensor, size: Pair) -> torch.Tensor:
        """All True: (H, W)."""
        return torch.ones(size, dtype=torch.bool)


Step = Window | Routes | Everything

# Each position by itself: no step. BatchNorm is one of them in evaluation mode; LayerNorm acts on the channels here.
POINTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d, DropPath,
)  # fmt: skip


@dataclass(frozen=True)
class TheoreticalReceptiveField:
    """What each location of a map could see of the image, whatever the weights.

    Attributes:
        steps: the chain from the image to the map.
        size: height and width in pixels that one location reads, without clipping at the image's border; None when a
            step reads further than a window. It spans the padding, and with dilation it may have holes.
        stride: pixels between neighbouring locations.
        offset: row and column of the first pixel that location (0, 0) reads through windows; negative in the padding.
        local: height and width in pixels that windows alone reach; equal to ``size`` where that is not None.
    """

    steps: tuple[Step, ...]
    size: Pair | None
    stride: Pair
    offset: Pair
    local: Pair

    def map_size(self, height: int, width: int) -> Pair:
        """Height and width of the map for an image of height x width pixels."""
        return self._sizes((height, width))[-1]

    def centre(self, location: Pair, image_size: Pair) -> tuple[float, float]:
        """Row and column of the location's own place in the image, in pixels (a pixel's middle is a whole number).

        Mixers that read a whole map do not move it. It is where windows are centred, which need not be the middle of
        the location's share of the image: with the 3 x 3 convolutions of stride 2 of a MambaOut, location i lies at
        pixel ``stride * i``, at the first corner of its share.
        """
        sizes = self._sizes(image_size)
        if any(isinstance(step, Everything) and step.pool for step in self.steps):
            return (image_size[0] - 1) / 2, (image_size[1] - 1) / 2
        row, column = _inside(location, sizes[-1])
        return (
            self.offset[0] + (self.local[0] - 1) / 2 + self.stride[0] * row,
            self.offset[1] + (self.local[1] - 1) / 2 + self.stride[1] * column,
        )

    def support(self, location: Pair, image_size: Pair) -> torch.Tensor:
        """Which pixels the location could see: (H, W) bool.

        Raises:
            ValueError: a location outside the map.
        """
        sizes = self._sizes(image_size)
        mask = torch.zeros(sizes[-1], dtype=torch.bool)
        mask[_inside(location, sizes[-1])] = True
        for step, size in zip(reversed(self.steps), reversed(sizes[:-1]), strict=True):
            mask = step.read(mask, size)
        return mask

    def _sizes(self, image_size: Pair) -> list[Pair]:
        """Of the image and of the map after each step."""
        sizes = [image_size]
        for step in self.steps:
            sizes.append(step.out_size(sizes[-1]))
        if min(sizes[-1]) < 1:
            raise ValueError(f"an image of {image_size[0]} x {image_size[1]} pixels is too small for this model")
        return sizes


def theoretical_receptive_field(model: nn.Module, stage: int = -1) -> TheoreticalReceptiveField:
    """What each location of a stage's map could see of the image.

    Args:
        model: a MambaOut with any token mixer, a ViT, or a module made of convolutions, pooling, layers that treat
            each position by itself, the blocks of :mod:`mambaout.layers`, and ``nn.Sequential`` of these.
        stage: of a model with stages, -1 is the last; other modules have one.

    Raises:
        TypeError: a layer whose reach is not known.
        ValueError: a stage that the model has not.
    """
    steps = chain(model, stage)
    size, stride, offset = [1, 1], [1, 1], [0, 0]
    for step in steps:
        if isinstance(step, Window):
            for i in (0, 1):
                size[i] += (step.kernel[i] - 1) * step.dilation[i] * stride[i]
                offset[i] -= step.padding[i] * stride[i]
                stride[i] *= step.stride[i]
    local = size[0], size[1]
    bounded = all(isinstance(step, Window) for step in steps)
    return TheoreticalReceptiveField(
        tuple(steps), local if bounded else None, (stride[0], stride[1]), (offset[0], offset[1]), local
    )


def chain(module: nn.Module, stage: int = -1) -> list[Step]:
    """The steps from a module's input to the map of a stage, in the order of computation."""
    stages = len(module.stages) if isinstance(module, MambaOut) else 1
    stages = len(module.out_indices) if isinstance(module, Features) else stages
    if not -stages <= stage < stages:
        raise ValueError(f"stage must name one of the {stages} stages 0..{stages - 1}, or count from -1; got {stage}")
    if isinstance(module, MambaOut):
        return chain(module.stem) + [step for s in module.stages[: stage % stages + 1] for step in _stage(s)]
    if isinstance(module, Features):
        index = module.out_indices[stage]
        return chain(module.model)[: index + 2] if isinstance(module.model, ViT) else chain(module.model, index)
    if isinstance(module, ViT):
        return _conv(module.patch_embed) + _vit_routes(module)
    if isinstance(module, nn.Sequential):
        return [step for layer in module for step in chain(layer)]
    if isinstance(module, nn.Conv2d):
        return _conv(module)
    if isinstance(module, Stem):
        return _conv(module.conv1) + _conv(module.conv2)
    if isinstance(module, Downsample):
        return _conv(module.conv)
    if isinstance(module, GatedCNNBlock):
        return _block(module)
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return [_pool(module)]
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return [Everything(pool=True)]
    if isinstance(module, POINTWISE):
        return []
    raise TypeError(
        f"the reach of {type(module).__name__} is not known; known are MambaOut, ViT, their blocks, nn.Sequential, "
        "convolutions, max and average pooling, and layers that treat each position by itself"
    )


def _stage(stage: nn.Module) -> list[Step]:
    return chain(stage.downsample) + chain(stage.blocks)  # type: ignore[arg-type]


def _block(block: GatedCNNBlock) -> list[Step]:
    """Convolution, then what stands behind it; the block's shortcut, gate and identity channels read less."""
    if isinstance(block, IdentityBlock):
        return []
    steps = _conv(block.conv)
    if isinstance(block, MambaBlock):
        scan = block.scan
        steps.append(Routes(lambda height, width: routes(scan, height, width)))
    if isinstance(block, AttentionBlock):
        steps.append(Routes(lambda h, w: routes("raster", h, w)) if block.attn.causal else Everything())
    return steps


def _vit_routes(model: ViT) -> list[Step]:
    """One step for each block; a causal one reads along its own route."""
    config = model.cfg
    if config.token_mixer == "attention":
        return [Everything() for _ in model.blocks]

    def step(block: int) -> Step:
        def order(height: int, width: int) -> torch.Tensor:
            orders = routes(config.token_order, height, width)
            return orders[block % len(orders)][None]

        return Routes(order)

    return [step(i) for i in range(len(model.blocks))]


def _conv(conv: nn.Conv2d) -> list[Step]:
    if conv.padding_mode != "zeros":
        raise TypeError(f"padding must be with zeros, got {conv.padding_mode!r}: a pixel would be read twice")
    kernel, stride, dilation = _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.dilation)
    if conv.padding == "valid":
        return [Window(kernel, stride, (0, 0), dilation)]
    if conv.padding == "same":
        height, width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        before = height // 2, width // 2
        return [Window(kernel, stride, before, dilation, (height - before[0], width - before[1]))]
    return [Window(kernel, stride, _pair(conv.padding), dilation)]  # type: ignore[arg-type]


def _pool(pool: nn.MaxPool2d | nn.AvgPool2d) -> Window:
    if pool.ceil_mode:
        raise TypeError("pooling with ceil_mode is not supported: its last windows differ from the others")
    stride = pool.kernel_size if pool.stride is None else pool.stride
    dilation = pool.dilation if isinstance(pool, nn.MaxPool2d) else 1
    return Window(_pair(pool.kernel_size), _pair(stride), _pair(pool.padding), _pair(dilation))


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _inside(location: Pair, size: Pair) -> Pair:
    """The location with negative numbers resolved, or a ValueError."""
    if not all(-n <= i < n for i, n in zip(location, size, strict=True)):
        raise ValueError(f"location {tuple(location)} lies outside the map of {size[0]} x {size[1]} positions")
    return location[0] % size[0], location[1] % size[1]
