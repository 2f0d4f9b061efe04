"""Which pixels speak for a class: attribution maps of one image, over Captum.

Four methods with one face, :func:`attribute`. Whether such a map depends on what the model has learned at all is asked
by :func:`mambaout.analysis.randomisation.randomisation_check`. Captum is imported on first use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mambaout.analysis.features import feature_maps, frozen
from mambaout.analysis.receptive_measures import Array
from mambaout.analysis.receptive_theory import TheoreticalReceptiveField, theoretical_receptive_field
from mambaout.models import MambaOut, ViT

Method = Literal["integrated_gradients", "occlusion", "grad_cam", "saliency"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each pixel of one image counts for one class.

    Attributes:
        map: (H, W), channels summed; "saliency" is not negative, in the others what speaks against the class is.
        values: (C, H, W), before the sum; (1, h, w) of "grad_cam", at the resolution of its stage.
        method: see :func:`attribute`.
        target: the class.
        completeness_error: of "integrated_gradients", \\|sum of values - (f(image) - f(baseline))\\| as a share of
            \\|f(image) - f(baseline)\\|; None for the others, which promise nothing about their sum.
    """

    map: Array
    values: Array
    method: str
    target: int
    completeness_error: float | None = None


def attribute(
    model: nn.Module,
    image: torch.Tensor,
    method: Method = "integrated_gradients",
    target: int | None = None,
    **options: Any,
) -> Attribution:
    """The attribution map of one image.

    Args:
        model: a classifier, images (B, C, H, W) -> logits (B, classes). It runs in evaluation mode, and is left as it
            was. For "grad_cam" a MambaOut or a ViT.
        image: (C, H, W), prepared as the model expects it.
        method: "integrated_gradients" (Sundararajan et al., 2017), "occlusion" (Zeiler & Fergus, 2014), "grad_cam"
            (Selvaraju et al., 2017) or "saliency" (Simonyan et al., 2014; averaged over noise as in SmoothGrad,
            Smilkov et al., 2017).
        target: the class to explain; None for the one that the model predicts.
        options: of the method, :func:`integrated_gradients`, :func:`occlusion`, :func:`grad_cam` or :func:`saliency`.

    Raises:
        ValueError: no single image, an unknown method or class, or integrated gradients that are not complete.
    """
    methods: dict[str, Callable[..., Attribution]] = {
        "integrated_gradients": integrated_gradients,
        "occlusion": occlusion,
        "grad_cam": grad_cam,
        "saliency": saliency,
    }
    if method not in methods:
        raise ValueError(f"unknown method {method!r}; known methods: {', '.join(methods)}")
    return methods[method](model, image, target, **options)


def integrated_gradients(
    model: nn.Module,
    image: torch.Tensor,
    target: int | None = None,
    *,
    baseline: float | torch.Tensor = 0.0,
    steps: int = 64,
    tolerance: float = 0.05,
    batch: int = 8,
) -> Attribution:
    """The gradient, averaged along the straight line from a baseline to the image, times their difference.

    In exact arithmetic it is complete: it sums to f(image) - f(baseline). With finitely many steps it does so nearly,
    and how nearly is checked.

    Args:
        model, image, target: see :func:`attribute`.
        baseline: the image without content: a number, or (C, H, W). 0 is the mean image where images are normalised.
        steps: on the line (Gauss-Legendre).
        tolerance: the largest completeness error that is let through.
        batch: steps at once.

    Raises:
        ValueError: the completeness error is larger: the steps are too few for this model and image.
    """
    from captum.attr import IntegratedGradients

    with frozen(model):
        x, target = _prepare(model, image, target)
        start = torch.zeros_like(x) + torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
        values, delta = IntegratedGradients(model).attribute(
            x, start, target=target, n_steps=steps, internal_batch_size=batch, return_convergence_delta=True
        )
        with torch.no_grad():
            change = float((model(x) - model(start))[0, target])
    error = abs(float(delta)) / max(abs(change), torch.finfo(x.dtype).tiny)
    if not error <= tolerance:
        raise ValueError(
            f"integrated gradients with {steps} steps sum to {change + float(delta):.4g}, but the output changes by "
            f"{change:.4g}: take more steps, or a baseline that differs more"
        )
    return _attribution(values, "integrated_gradients", target, error)


def occlusion(
    model: nn.Module,
    image: torch.Tensor,
    target: int | None = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: float = 0.0,
    batch: int = 8,
) -> Attribution:
    """How far the class's logit falls when a square of the image is replaced, averaged over the squares on a pixel.

    Args:
        model, image, target: see :func:`attribute`.
        window: the square's side in pixels, an eighth of the image's by default.
        stride: pixels from square to square, half a window by default.
        baseline: what it is replaced by.
        batch: occluded images at once.
    """
    from captum.attr import Occlusion

    with frozen(model):
        x, target = _prepare(model, image, target)
        window = max(1, min(x.shape[2:]) // 8) if window is None else window
        stride = max(1, window // 2) if stride is None else stride
        channels = x.shape[1]
        values = Occlusion(model).attribute(
            x,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=baseline,
            target=target,
            perturbations_per_eval=batch,
        )
    return _attribution(values / channels, "occlusion", target)  # the whole fall would count for every channel


def grad_cam(model: nn.Module, image: torch.Tensor, target: int | None = None, *, stage: int = -1) -> Attribution:
    """A stage's map, its channels weighted by the mean gradient of the class's logit, and enlarged to the image.

    Each location is put where it lies by :func:`mambaout.analysis.receptive_theory.theoretical_receptive_field`, with
    linear interpolation between. What speaks against the class stays, as negative numbers.

    Args:
        model: a MambaOut or a ViT.
        image, target: see :func:`attribute`.
        stage: which map, -1 is the last.

    Raises:
        TypeError: another model.
        ValueError: a stage that the model has not.
    """
    from captum.attr import LayerGradCam

    if not isinstance(model, MambaOut | ViT):
        raise TypeError(f"grad_cam needs a MambaOut or a ViT, got {type(model).__name__}")
    field = theoretical_receptive_field(model, stage)
    seen = _Seen(model, stage % len(model.feature_info))
    with frozen(model):
        x, target = _prepare(model, image, target)
        values = LayerGradCam(seen, seen.map).attribute(x.requires_grad_(), target=target)  # (1, 1, h, w)
    small = values.detach()[0].cpu().double().numpy()
    return Attribution(_enlarge(small[0], field, (x.shape[2], x.shape[3])), small, "grad_cam", target)


def saliency(
    model: nn.Module,
    image: torch.Tensor,
    target: int | None = None,
    *,
    samples: int = 16,
    noise: float = 0.1,
    batch: int = 8,
    seed: int = 0,
) -> Attribution:
    """The gradient of the class's logit, averaged over noisy copies of the image; the map sums its absolute values.

    Args:
        model, image, target: see :func:`attribute`.
        samples: noisy copies.
        noise: its standard deviation, as a share of the image's range; with 0 the gradient itself.
        batch: copies at once.
        seed: of the noise.
    """
    from captum.attr import NoiseTunnel, Saliency

    with frozen(model):
        x, target = _prepare(model, image, target)
        gradient = Saliency(model)
        if noise == 0:
            values = gradient.attribute(x.requires_grad_(), target=target, abs=False)
        else:
            with torch.random.fork_rng([x.device] if x.is_cuda else []):
                torch.manual_seed(seed)
                values = NoiseTunnel(gradient).attribute(
                    x,
                    nt_type="smoothgrad",
                    nt_samples=samples,
                    nt_samples_batch_size=min(batch, samples),
                    stdevs=noise * float(x.max() - x.min()),
                    target=target,
                    abs=False,
                )
    result = _attribution(values, "saliency", target)
    return Attribution(np.abs(result.values).sum(0), result.values, "saliency", target)


class _Seen(nn.Module):
    """A model whose stage's map passes, as (B, C, h, w), through a layer of its own, where Captum can look."""

    def __init__(self, model: MambaOut | ViT, stage: int) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.map = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) -> logits, like the model's."""
        if isinstance(self.model, ViT):
            (y,) = feature_maps(self.model, x)
            return self.model.forward_head(self.map(y).flatten(2).transpose(1, 2))
        x = self.model.tokens(x)
        for i, stage in enumerate(self.model.stages):
            x = stage(x)
            if i == self.stage:
                x = self.map(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.model.forward_head(x)


def _prepare(model: nn.Module, image: torch.Tensor, target: int | None) -> tuple[torch.Tensor, int]:
    """The image as a batch of one (1, C, H, W) where the model is, and the class."""
    if image.ndim != 3:
        raise ValueError(f"expected one image of shape (C, H, W), got {tuple(image.shape)}")
    x = image.detach()[None].to(next(model.parameters()))
    with torch.no_grad():
        logits = model(x)
    if logits.ndim != 2:
        raise ValueError(f"expected a classifier that gives (1, classes), but it gave {tuple(logits.shape)}")
    classes = logits.shape[1]
    if target is None:
        return x.clone(), int(logits.argmax())
    if not 0 <= target < classes:
        raise ValueError(f"target must be one of the model's {classes} classes, 0..{classes - 1}, got {target}")
    return x.clone(), target


def _attribution(values: torch.Tensor, method: str, target: int, error: float | None = None) -> Attribution:
    array = values.detach()[0].cpu().double().numpy()  # (C, H, W)
    return Attribution(array.sum(0), array, method, target, error)


def _enlarge(small: Array, field: TheoreticalReceptiveField, size: tuple[int, int]) -> Array:
    """(h, w) -> (H, W): linear between the locations' places in the image, constant beyond the outermost."""
    for axis in (0, 1):
        first = field.centre((0, 0), size)[axis]
        places = first + field.stride[axis] * np.arange(small.shape[axis])
        small = np.apply_along_axis(lambda row, p=places, n=size[axis]: np.interp(np.arange(n), p, row), axis, small)
    return small
