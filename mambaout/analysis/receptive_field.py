"""What an output really sees: effective receptive fields (Luo et al., 2016).

The effective receptive field of an output is the gradient of that output with respect to the image, averaged over
images. What it *could* see is in :mod:`mambaout.analysis.receptive_theory`, how to measure a field in
:mod:`mambaout.analysis.receptive_measures`.

Fast where the usual script is not: parameters ask for no gradient, images go in batches, one forward pass serves all
locations and stages, and both are cut so that they fit a memory budget.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mambaout.analysis.features import Model, feature_maps, frozen
from mambaout.analysis.receptive_measures import Array, EffectiveReceptiveField, FieldMap, log_area_ratio
from mambaout.analysis.receptive_theory import TheoreticalReceptiveField, theoretical_receptive_field
from mambaout.layers import SelectiveSSM

__all__ = [
    "EffectiveReceptiveField",
    "FieldMap",
    "TheoreticalReceptiveField",
    "effective_receptive_field",
    "effective_receptive_fields",
    "log_area_ratio",
    "theoretical_receptive_field",
]

Location = tuple[int, int] | Literal["center"]
Kind = Literal["absolute", "squared", "signed"]
Direction = Literal["signs", "sum"] | torch.Tensor

BATCH = {"cpu": 8, "cuda": 128}  # images (copies of images, in backward) from which more at once are not faster
MEMORY = 2**31  # bytes
BACKWARD = 0.4  # memory of a backward pass, in units of what the forward pass keeps for it: measured, with a margin


def effective_receptive_field(
    model: Model, images: torch.Tensor, stage: int = -1, location: Location = "center", **options: Any
) -> EffectiveReceptiveField:
    """The effective receptive field of one location of one stage, averaged over images.

    Args:
        model: anything that :func:`mambaout.analysis.features.feature_maps` understands; it runs in evaluation mode,
            and is left as it was.
        images: (N, C, H, W), prepared as the model expects them.
        stage: which map, -1 is the last.
        location: row and column in that map, negative ones count from the end; "center" is (h // 2, w // 2), which in
            a map of even size lies half a location below and right of the middle.
        options: see :func:`effective_receptive_fields`.

    Returns:
        The map and its measures, see :class:`~mambaout.analysis.receptive_measures.EffectiveReceptiveField`.
    """
    return effective_receptive_fields(model, images, [stage], [location], **options)[0]


def effective_receptive_fields(
    model: Model,
    images: torch.Tensor,
    stages: Sequence[int] = (-1,),
    locations: Sequence[Location] | Literal["all"] = ("center",),
    *,
    kind: Kind = "absolute",
    channels: Sequence[int] | None = None,
    direction: Direction | None = None,
    keep_samples: bool = True,
    memory: int = MEMORY,
    seed: int = 0,
    progress: bool | None = None,
) -> list[EffectiveReceptiveField]:
    """The effective receptive fields of several locations and stages from shared forward passes.

    An output location has many channels, and a gradient needs one number. Their plain sum, which most scripts take, is
    constant behind a LayerNorm of equal gains: its gradient is rounding noise. So by default each image draws a random
    sign for each channel; the squared map is then an unbiased estimate of the sum over channels of each one's squared
    gradient, and the absolute map sees all channels too.

    Args:
        model, images: see :func:`effective_receptive_field`.
        stages: which maps.
        locations: which outputs of each map, or "all", row by row.
        kind: "absolute", the mean over images of the sum over the image's channels of \\|gradient\\|; "squared",
            likewise with gradient²; "signed", with the gradient itself, so that what differs between images cancels.
        channels: of the output, all by default.
        direction: which number is differentiated: "signs", the default of "absolute" and "squared"; "sum" over
            channels, the default of "signed"; or weights for the chosen channels, (C,).
        keep_samples: keep each image's own map (8 H W bytes for each image and field), for intervals.
        memory: bytes that the passes may use, roughly; one image at a time is the least.
        seed: of the signs.
        progress: a bar; None shows it in a terminal, when it takes long.

    Returns:
        For each stage in turn, a field for each location.

    Raises:
        ValueError: no images, an unknown stage, location or channel, or a gradient that is not finite.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"expected images of shape (N, C, H, W), at least one; got {tuple(images.shape)}")
    if kind not in ("absolute", "squared", "signed"):
        raise ValueError(f'kind must be "absolute", "squared" or "signed", got {kind!r}')
    if direction is None:
        direction = "sum" if kind == "signed" else "signs"
    elif isinstance(direction, str) and direction == "signs" and kind == "signed":
        raise ValueError('a signed map of random signs averages to nothing; ask for direction="sum" or for weights')
    work = _Work(model, images, list(stages), locations, kind, channels, direction, keep_samples, memory, seed)
    with frozen(model), torch.enable_grad():
        return work.run(progress)


@dataclass
class _Work:
    """One call of :func:`effective_receptive_fields`: its arguments, checked against the maps of the first image."""

    model: Model
    images: torch.Tensor
    stages: list[int]
    locations: Sequence[Location] | Literal["all"]
    kind: str
    channels: Sequence[int] | None
    direction: Direction
    keep_samples: bool
    memory: int
    seed: int

    def run(self, progress: bool | None) -> list[EffectiveReceptiveField]:
        from tqdm.auto import tqdm

        n, like = len(self.images), self._like()
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        # Of the autograd functions of our own, those of the scan know no vmap.
        self.batched = isinstance(self.model, nn.Module) and not any(isinstance(m, SelectiveSSM) for m in modules)
        first, kept = self._measured_forward(self.images[:1].to(like))
        self._resolve(first[1])
        fields = [(stage, place) for stage, places in self.places.items() for place in places]
        totals: dict[Any, Array] = {field: np.zeros(self.images.shape[2:]) for field in fields}
        samples: dict[Any, list[Array]] = {field: [] for field in fields}
        at_once = BATCH.get(like.device.type, 8)
        batch = max(1, min(at_once, int(self.memory / (kept * (1 + BACKWARD)))))
        bar = tqdm(total=n * len(fields), unit="field", desc="receptive fields", delay=2,
                   disable=None if progress is None else not progress)  # fmt: skip
        with bar:
            start = 0
            while start < n:
                x, maps = first if start == 0 else self._forward(self.images[start : start + batch].to(like))
                first = (x, [])  # or the first graph would live on
                stop = start + len(x)
                room = self.memory / (len(x) * kept) - 1  # for backward passes, in units of what one image keeps
                copies = max(1, min(at_once // len(x), int(room / BACKWARD))) if self.batched else 1
                parts = [(stage, places[i : i + copies]) for stage, places in self.places.items()
                         for i in range(0, len(places), copies)]  # fmt: skip
                for done, (stage, part) in enumerate(parts, start=1):
                    weights = self.directions[stage]
                    weights = weights[start:stop] if len(weights) > 1 else weights  # (B or 1, C)
                    gradients = self._gradients(x, maps[stage], weights, part, keep_graph=done < len(parts))
                    for place, value in zip(part, map(self._reduce, gradients), strict=True):  # value (B, H, W)
                        totals[stage, place] += value.sum(0)
                        if self.keep_samples:
                            samples[stage, place].append(value)
                    bar.update(len(part) * len(x))
                del x, maps
                start = stop
        return [self._field(*field, totals[field] / n, samples[field]) for field in self.asked]

    def _like(self) -> torch.Tensor:
        """A tensor of the device and dtype that the model computes with."""
        parameters = self.model.parameters() if isinstance(self.model, nn.Module) else iter(())
        return next((p for p in parameters if p.is_floating_point()), self.images)

    def _forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = x.detach().clone().requires_grad_()
        return x, feature_maps(self.model, x)

    def _measured_forward(self, x: torch.Tensor) -> tuple[tuple[torch.Tensor, list[torch.Tensor]], int]:
        """A forward pass, and the bytes of what it keeps for the backward pass without the parameters."""
        parameters = self.model.parameters() if isinstance(self.model, nn.Module) else ()
        known = {p.untyped_storage().data_ptr() for p in parameters}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # the tensor itself would be a cycle where a step keeps its own output

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = self._forward(x)
        return result, max(sum(kept.values()), x.nbytes)

    def _resolve(self, maps: list[torch.Tensor]) -> None:
        """Names to numbers: which places of which stages, in which direction of the channels."""
        self.places: dict[int, list[tuple[int, int]]] = {}
        self.directions: dict[int, torch.Tensor] = {}
        self.asked: list[tuple[int, tuple[int, int]]] = []
        self.sizes = {i: (y.shape[2], y.shape[3]) for i, y in enumerate(maps)}
        for stage in self.stages:
            if not -len(maps) <= stage < len(maps):
                raise ValueError(f"stage must be one of the model's {len(maps)}, 0..{len(maps) - 1} or -1; got {stage}")
            stage %= len(maps)
            places = _places(self.locations, self.sizes[stage])
            self.asked += [(stage, place) for place in places]
            self.places[stage] = list(dict.fromkeys(self.places.get(stage, []) + places))
            self.directions[stage] = self._direction(maps[stage].shape[1]).to(maps[stage])

    def _direction(self, channels: int) -> torch.Tensor:
        """Weights of the output's channels: (1, C), or (N, C) where each image has its own."""
        chosen = torch.arange(channels)
        if self.channels is not None:
            chosen = torch.as_tensor(self.channels, dtype=torch.long)
            if not len(chosen) or not (-channels <= int(chosen.min()) and int(chosen.max()) < channels):
                raise ValueError(f"channels must name some of 0..{channels - 1}, got {list(self.channels)}")
            chosen %= channels
        if isinstance(self.direction, torch.Tensor):
            if self.direction.shape != (len(chosen),):
                raise ValueError(f"expected {len(chosen)} weights of channels, got {tuple(self.direction.shape)}")
            values = self.direction.detach().cpu()[None]
        elif self.direction == "sum":
            values = torch.ones(1, len(chosen))
        elif self.direction == "signs":
            generator = torch.Generator().manual_seed(self.seed)
            values = torch.randint(0, 2, (len(self.images), len(chosen)), generator=generator) * 2.0 - 1
        else:
            raise ValueError(f'direction must be "signs", "sum" or weights (C,), got {self.direction!r}')
        weights = values.new_zeros(len(values), channels)
        weights[:, chosen] = values
        return weights

    def _gradients(
        self, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, places: list[tuple[int, int]], keep_graph: bool
    ) -> Iterator[torch.Tensor]:
        """For each place the gradient of its output, channels weighted (B or 1, C), for the images: (B, C, H, W).

        Several places at once are one batch of vector-Jacobian products, where the model's operations allow that.
        """
        if len(places) > 1 and self.batched:
            asked = y.new_zeros(len(places), *y.shape)  # (K, B, C, h, w)
            for k, (row, column) in enumerate(places):
                asked[k, :, :, row, column] = weights
            yield from torch.autograd.grad(y, x, asked, retain_graph=keep_graph, is_grads_batched=True)[0]
            return
        for done, (row, column) in enumerate(places, start=1):
            output = (y[:, :, row, column] * weights).sum()
            yield torch.autograd.grad(output, x, retain_graph=keep_graph or done < len(places))[0]

    def _reduce(self, gradient: torch.Tensor) -> Array:
        """(B, C, H, W) -> (B, H, W), summed over the image's channels in float64."""
        if not gradient.isfinite().all():
            raise ValueError("the gradient is not finite: look at the images, or compute in a wider dtype")
        g = gradient.double()
        g = g.abs() if self.kind == "absolute" else g.square() if self.kind == "squared" else g
        return g.sum(1).cpu().numpy()

    def _field(
        self, stage: int, place: tuple[int, int], mean: Array, samples: list[Array]
    ) -> EffectiveReceptiveField:
        height, width = self.images.shape[2:]
        size = self.sizes[stage]
        stride = height / size[0], width / size[1]
        centre = (place[0] + 0.5) * stride[0] - 0.5, (place[1] + 0.5) * stride[1] - 0.5  # of its share of the image
        try:
            known = theoretical_receptive_field(self.model, stage)  # type: ignore[arg-type]
            centre, stride = known.centre(place, (height, width)), known.stride
        except (TypeError, ValueError):  # the reach of its layers is not known, nor how it makes its stages
            pass
        kept = np.concatenate(samples) if self.keep_samples else None
        return EffectiveReceptiveField(mean, centre, stride, stage, place, size, self.kind, kept)


def _places(locations: Sequence[Location] | Literal["all"], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns in a map of this size."""
    height, width = size
    if locations == "all":
        return [divmod(i, width) for i in range(math.prod(size))]
    places = []
    for location in locations:
        row, column = (height // 2, width // 2) if location == "center" else location
        if not (-height <= row < height and -width <= column < width):
            raise ValueError(f"location ({row}, {column}) lies outside the map of {height} x {width} positions")
        places.append((row % height, column % width))
    return places
