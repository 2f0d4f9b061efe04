"""Inputs and scores that the studies of classification share."""

import torch
from torch import nn

from mambaout import create_model
from mambaout.studies.images import accuracy, initialise, mirrored, normalise


def test_pixels_become_minus_one_to_one() -> None:
    grey = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1)
    assert normalise(grey).flatten().tolist() == [-1, 1] and normalise(grey).shape == (2, 1, 1, 1)
    assert normalise(torch.zeros(4, 3, 6, 5, dtype=torch.uint8)).shape == (4, 3, 6, 5)


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(400, 1, 28, 28)
    moved = mirrored(images, torch.Generator().manual_seed(0))
    flipped = (moved == images.flip(-1)).flatten(1).all(1)
    same = (moved == images).flatten(1).all(1)
    assert (flipped ^ same).all() and 150 < flipped.sum() < 250


def test_narrow_models_start_wider_than_the_authors() -> None:
    torch.manual_seed(0)
    model = create_model("mambaout_zepto", token_mixer="mamba")
    before = model.stages[1].blocks[0].ssm.dt_bias.clone()
    narrow = model.stages[1].blocks[0].fc1.weight.std()
    initialise(model)
    assert model.stages[1].blocks[0].fc1.weight.std() > 2 * narrow
    assert torch.equal(model.stages[1].blocks[0].ssm.dt_bias, before), "the SSM's time scales stay"


def test_accuracy_is_the_share_of_right_answers_and_leaves_the_mode() -> None:
    model = nn.Flatten()  # the logits are the pixels
    images = torch.eye(4).view(4, 1, 1, 4)
    labels = torch.tensor([0, 1, 2, 0])
    for training in (True, False):
        model.train(training)
        assert accuracy(model, images, labels) == 0.75 and model.training is training
