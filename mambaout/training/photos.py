"""How photographs of any size become tensors: the paper's training transforms, and its evaluation's.

Built from torchvision's v2 transforms; RandAugment follows timm's, which the paper used. torchvision's own counts its
magnitude on a scale of 30, timm's on one of 10, so that 9 would mean something much weaker.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mambaout.training.recipe import Augment

LEVELS = 10  # the strongest magnitude
OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
_SMOOTH = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)


def training_transform(augment: Augment, size: int, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """An RGB image -> (C, size, size), cropped, flipped, recoloured, normalised and perhaps erased.

    C is the length of ``mean`` and ``std``: 3, or 1 for a model of grey images.
    """
    steps: list[nn.Module] = [
        v2.RandomChoice(  # bilinear or bicubic, as timm's "random" interpolation
            [v2.RandomResizedCrop(size, scale=(augment.crop, 1.0), interpolation=mode) for mode in _SMOOTH]
        ),
        v2.RandomHorizontalFlip(augment.flip),
    ]
    if augment.rand_augment:
        fill = [min(255, round(255 * value)) for value in (mean if len(mean) == 3 else [*mean] * 3)]
        steps.append(RandAugment(augment.rand_augment, augment.rand_augment_std, fill))
    elif augment.color_jitter:
        steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))
    steps += _to_tensor(mean, std)
    if augment.erase:
        steps.append(v2.RandomErasing(augment.erase, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value="random"))
    return v2.Compose(steps)


def evaluation_transform(
    size: int, mean: Sequence[float], std: Sequence[float], *, crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> nn.Module:
    """An RGB image -> the central (C, size, size), after the shorter side was scaled to size / crop_pct."""
    mode = InterpolationMode(interpolation)
    return v2.Compose([v2.Resize(int(size / crop_pct), mode), v2.CenterCrop(size), *_to_tensor(mean, std)])


def _to_tensor(mean: Sequence[float], std: Sequence[float]) -> list[nn.Module]:
    grey = [v2.Grayscale()] if len(mean) == 1 else []
    return [*grey, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


class RandAugment(nn.Module):
    """Two random operations, each applied with probability one half (Cubuk et al., 2020, as in timm).

    Args:
        magnitude, std: each operation draws its own strength from this normal distribution, cut to 0..10. All of
            them grow with it (timm's "inc").
        fill: colour of what comes in from outside, one number 0..255 a channel.
    """

    def __init__(self, magnitude: float, std: float, fill: Sequence[float]) -> None:
        super().__init__()
        self.magnitude, self.std, self.fill = magnitude, std, list(fill)

    def forward(self, image: Image.Image) -> Image.Image:
        """An RGB image -> another of the same size."""
        for chosen in torch.randint(len(OPERATIONS), (2,)).tolist():
            apply, sign, mode = (torch.rand(3) < 0.5).tolist()
            if apply:
                magnitude = self.magnitude + self.std * torch.randn(()).item()
                magnitude = min(max(magnitude, 0.0), LEVELS)
                image = operate(
                    image, OPERATIONS[chosen], magnitude / LEVELS, -1 if sign else 1, self.fill, _SMOOTH[mode]
                )
        return image

    def extra_repr(self) -> str:
        """The settings, for print(module)."""
        return f"magnitude={self.magnitude}, std={self.std}"


def operate(
    image: Image.Image,
    name: str,
    level: float,
    sign: int,
    fill: list[float],
    interpolation: InterpolationMode = InterpolationMode.BICUBIC,
) -> Image.Image:
    """One operation of RandAugment at ``level`` in [0, 1]; ``sign`` says which way, where there are two."""
    width, height = image.size
    around: dict[str, Any] = {"interpolation": interpolation, "fill": fill}
    factor = max(0.1, 1 + sign * 0.9 * level)
    match name:
        case "autocontrast" | "equalize" | "invert":
            return getattr(TF, name)(image)
        case "rotate":
            return TF.rotate(image, sign * 30 * level, **around)
        case "posterize":
            bits = 4 - int(4 * level)
            return TF.posterize(image, bits) if bits else image.point([0] * 768)  # Pillow refuses 0 bits, black
        case "solarize":
            return TF.solarize(image, 256 - int(256 * level))
        case "solarize_add":
            add = int(110 * level)
            return image.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)
        case "color":
            return TF.adjust_saturation(image, factor)
        case "contrast" | "brightness" | "sharpness":
            return getattr(TF, f"adjust_{name}")(image, factor)
    # A matrix from the output's pixels to the input's, about the corner.
    slope = sign * 0.3 * level
    matrix = {
        "shear_x": (1, slope, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, slope, 1, 0),
        "translate_x": (1, 0, sign * 0.45 * level * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * 0.45 * level * height),
    }[name]
    resample = {mode: getattr(Image.Resampling, mode.name) for mode in _SMOOTH}[interpolation]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=tuple(map(int, fill)))
