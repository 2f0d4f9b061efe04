"""The transforms of photographs against timm's, which trained and tested the released models."""

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from timm.data import auto_augment as timms
from torchvision.transforms.v2 import InterpolationMode

from mambaout.datasets import photo
from mambaout.training import Augment
from mambaout.training.photos import OPERATIONS, RandAugment, evaluation_transform, operate, training_transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILL = [124, 116, 104]
NAMES = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd",
    "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(photo("coffee").permute(1, 2, 0).numpy()).resize((150, 101))


def test_the_operations_are_timms_increasing_set():
    assert sorted(NAMES.values()) == sorted(timms._RAND_INCREASING_TRANSFORMS)
    assert tuple(NAMES) == OPERATIONS


@pytest.mark.parametrize("level", [0.0, 0.47, 0.9, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_timms(name, sign, level, image, monkeypatch):
    monkeypatch.setattr(timms, "_randomly_negate", lambda value: sign * value)
    level_of = timms.LEVEL_TO_ARG[NAMES[name]]
    arguments = level_of(10 * level, {}) if level_of else ()
    keywords = {"fillcolor": tuple(FILL), "resample": Image.Resampling.BICUBIC}
    if (name, level) == ("posterize", 1.0):  # no bits are left, which Pillow's newer versions refuse
        expected = Image.new("RGB", image.size)
    else:
        expected = timms.NAME_TO_OP[NAMES[name]](image, *arguments, **keywords)
    found = operate(image, name, level, sign, FILL, InterpolationMode.BICUBIC)
    difference = np.abs(np.asarray(found, float) - np.asarray(expected, float))
    assert found.size == image.size
    # PIL and torchvision scale the factors of colours alike, and may round differently in the last bit.
    assert difference.max() <= 1


def test_rand_augment_draws_two_operations_half_of_the_time(image, monkeypatch):
    drawn = []

    def record(image, name, level, sign, fill, mode):
        drawn.append((name, level, sign, mode))
        return image

    monkeypatch.setattr("mambaout.training.photos.operate", record)
    torch.manual_seed(0)
    augment = RandAugment(9, 0.5, FILL)
    for _ in range(3000):
        augment(image)
    names, levels, signs, modes = zip(*drawn, strict=True)
    assert 2850 < len(drawn) < 3150 and set(names) == set(OPERATIONS)
    assert 0.895 < np.mean(levels) < 0.902 and 0.04 < np.std(levels) < 0.05 and max(levels) == 1  # cut at 10
    assert abs(np.mean(signs)) < 0.06 and len(set(modes)) == 2


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
@pytest.mark.parametrize("name", ["coffee", "china"])
def test_evaluation_is_timms(name, crop_pct):
    image = Image.fromarray(photo(name).permute(1, 2, 0).numpy())
    theirs = timm.data.create_transform((3, 96, 96), crop_pct=crop_pct, interpolation="bicubic", mean=MEAN, std=STD)
    ours = evaluation_transform(96, MEAN, STD, crop_pct=crop_pct)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-6, rtol=0)


def test_training_transform(image):
    torch.manual_seed(0)
    plain = training_transform(Augment(flip=0, erase=0, crop=1.0), 48, MEAN, STD)
    assert plain(image).shape == (3, 48, 48) and plain(image).dtype == torch.float32
    full = training_transform(Augment(rand_augment=9, color_jitter=0.4), 48, MEAN, STD)
    kinds = [type(step).__name__ for step in full.transforms]
    # As in timm, which leaves the colour jitter out beside RandAugment.
    assert "RandAugment" in kinds and "ColorJitter" not in kinds and kinds[-1] == "RandomErasing"
    theirs = timm.data.create_transform(48, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4)
    assert "ColorJitter" not in str(theirs)
    jittered = training_transform(Augment(color_jitter=0.4), 48, MEAN, STD)
    assert "ColorJitter" in [type(step).__name__ for step in jittered.transforms]
    assert len({full(image).sum().item() for _ in range(8)}) == 8
