"""The one loop, and the optimiser, schedule and moving average that it drives."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambaout.training import Diverged, fit
from mambaout.training.optim import MovingAverage, adamw, parameter_groups, shuffled, warmup_cosine


def problem(steps=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    batches = [(torch.randn(5, 4), torch.randint(3, (5,))) for _ in range(steps)]
    optimizer = adamw(model, 1e-2, 0.05)
    return model, batches, optimizer, warmup_cosine(optimizer, steps, 3)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_fit_is_the_obvious_loop(clip_norm):
    model, batches, optimizer, schedule = problem()
    told = []
    losses = fit(
        model, batches, cross_entropy, optimizer, schedule, clip_norm=clip_norm, on_step=lambda *a: told.append(a)
    )
    other, batches, optimizer, schedule = problem()
    expected = []
    for batch in batches:
        loss = cross_entropy(other, batch)
        optimizer.zero_grad()
        loss.backward()
        if clip_norm:
            nn.utils.clip_grad_norm_(other.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        expected.append(loss.item())
    assert losses == expected and told == list(enumerate(expected, 1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_loss_that_is_no_number_stops_before_the_step():
    model, batches, optimizer, schedule = problem()
    batches[4] = (batches[4][0] * math.inf, batches[4][1])
    good, _, _, _ = problem()
    steps = []
    with pytest.raises(Diverged, match=r"loss of step 5 is nan; the step before had \d\.\d+\. Try a lower"):
        fit(model, batches, cross_entropy, optimizer, schedule, on_step=lambda step, _: steps.append(step))
    assert steps == [1, 2, 3, 4]
    fit(good, *[problem()[1][:4], cross_entropy], *_optimisers(good))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), good.parameters(), strict=True))


def _optimisers(model):
    optimizer = adamw(model, 1e-2, 0.05)
    return optimizer, warmup_cosine(optimizer, 12, 3)


def test_schedule_rises_linearly_and_falls_along_a_cosine():
    _, _, optimizer, _ = problem()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = warmup_cosine(optimizer, 11, 4, start=0.1, end=0.01)
    rates = []
    for _ in range(14):
        rates.append(schedule.get_last_lr()[0] / 2)
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0])
    assert rates[7] == pytest.approx(0.01 + 0.99 / 2)  # halfway from step 4 to step 10
    assert rates[10:] == pytest.approx([0.01] * 4)  # and stays
    with pytest.raises(ValueError, match="must take less than all 4 steps"):
        warmup_cosine(optimizer, 4, 4)


def test_only_weights_decay():
    model, *_ = problem()
    decayed, kept = parameter_groups(model, 0.05)
    assert [p.shape for p in decayed["params"]] == [(8, 4), (3, 8)]
    assert len(kept["params"]) == 4 and kept["weight_decay"] == 0


def test_moving_average():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(model, 0.7)
    expected = [p.clone() for p in model.parameters()]
    for step in range(1, 9):
        for p in model.parameters():
            p.data += torch.randn_like(p)
        model(torch.randn(4, 2))
        average.update(model)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p for e, p in zip(expected, model.parameters(), strict=True)]
    for a, b in zip(average.model.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    other = MovingAverage(copy.deepcopy(model), 0.7)
    other.load_state_dict(average.state_dict())
    assert other.updates == 8 and torch.equal(other.model[0].weight, average.model[0].weight)


def test_each_pass_visits_every_image_once():
    batches = list(shuffled(10, 3, 2, torch.Generator().manual_seed(0)))
    assert len(batches) == 6 and all(len(b) == 3 for b in batches)
    for epoch in (batches[:3], batches[3:]):
        assert len(set(torch.cat(epoch).tolist())) == 9
