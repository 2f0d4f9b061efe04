"""Inputs, training and scores that the studies of classification share."""

import math

import pytest
import torch
from torch import nn

from mambaout import create_model
from mambaout.studies.images import ShortTraining, accuracy, initialise, mirrored, normalise, train_classifier


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


def test_training_follows_the_configuration_step_by_step() -> None:
    config = ShortTraining(images=60, epochs=2, batch_size=4, lr=0.1, weight_decay=0.3, label_smoothing=0.2)
    assert config.steps_per_epoch == 15
    draw = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 6, generator=draw), torch.arange(4) % 3) for _ in range(30)]

    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    slow = nn.Linear(6, 3)
    slow.load_state_dict(model.state_dict())
    seen: list[int] = []
    last = train_classifier(model, batches, config, on_step=lambda step, _: seen.append(step))

    groups = [{"params": [slow.weight], "weight_decay": 0.3}, {"params": [slow.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    losses = []
    for step, (x, y) in enumerate(batches):
        rise, fall = 1e-3 + (1 - 1e-3) * step / 3, 0.01 + 0.99 * (1 + math.cos(math.pi * (step - 3) / 26)) / 2
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (rise if step < 3 else fall)
        log_probabilities = slow(x).log_softmax(1)
        loss = -(0.8 * log_probabilities[torch.arange(4), y] + 0.2 * log_probabilities.mean(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(slow.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(model.weight, slow.weight)
    torch.testing.assert_close(model.bias, slow.bias)
    assert last == pytest.approx(sum(losses) / 30) and seen == list(range(1, 31))
