"""Which images come when, and that neither processes, pieces, workers nor continuations change it."""

import pytest
import torch
from tiny import tiny_data, tiny_recipe

from mambaout.models import create_model
from mambaout.training import Augment, Data, Tensors
from mambaout.training.batches import FolderBatches, MemoryBatches, Order, Preparation, Share
from mambaout.training.folders import Photos, read_folder
from mambaout.training.photos import training_transform
from mambaout.training.sources import ClutterSource, Held, StampSource, source

CPU = torch.device("cpu")
PREPARE = Preparation((0.5,), (0.25,), 4)
WHOLE = Share()


def memory(share=WHOLE, **changes):
    return MemoryBatches(Held(tiny_data(), Data("tiny")), tiny_recipe(**changes), PREPARE, share, CPU)


def joined(steps):
    """[[(x, y), ...] for each step] -> [(x, y) of the whole step]."""
    return [tuple(torch.cat(parts) for parts in zip(*pieces, strict=True)) for pieces in steps]


def equal(a, b):
    return all(torch.equal(p, q) for m, n in zip(a, b, strict=True) for p, q in zip(m, n, strict=True))


def test_an_epoch_visits_every_image_once_in_its_own_order():
    order = Order(20, 6, seed=1)
    epochs = [torch.cat([order.indices(3 * e + i) for i in (1, 2, 3)]) for e in range(3)]
    assert all(len(set(epoch.tolist())) == 18 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert [order.epoch(step) for step in (1, 3, 4, 7)] == [0, 0, 1, 2]
    assert torch.equal(Order(20, 6, seed=1).indices(8), order.indices(8))
    assert not torch.equal(Order(20, 6, seed=2).indices(8), order.indices(8))


@pytest.mark.parametrize(("processes", "pieces"), [(2, 1), (1, 4), (2, 2)])
def test_shared_batches_are_the_whole_batch(processes, pieces):
    whole = joined(memory()(1, 4))
    shares = [joined(memory(Share(rank, processes, pieces))(1, 4)) for rank in range(processes)]
    together = [tuple(torch.cat(t) for t in zip(*step, strict=True)) for step in zip(*shares, strict=True)]
    assert equal(whole, together)
    assert len(next(memory(Share(0, processes, pieces))(1, 1))) == pieces


def test_a_continued_run_takes_the_same_batches():
    assert equal(joined(memory()(1, 9))[5:], joined(memory()(6, 9)))


def test_batches_are_normalised_and_targets_are_probabilities():
    plain = {"augment": Augment(flip=0, erase=0)}
    ((x, y),) = next(memory(**plain)(1, 1))
    indices = Order(96, 16, 0).indices(1)
    images, labels = tiny_data().train(0, 0)
    torch.testing.assert_close(x, (images[indices].float() / 255 - 0.5) / 0.25)
    assert torch.equal(y.argmax(1), labels[indices]) and torch.equal(y.sum(1), torch.ones(16))
    ((_, mixed),) = next(memory()(1, 1))
    torch.testing.assert_close(mixed.sum(1), torch.ones(16))
    assert (mixed > 0).sum(1).max() == 2


def test_a_model_for_rgb_that_was_made_for_grey_images_gets_grey_images():
    model = create_model("mambaout_femto", in_chans=1, num_classes=10)
    x = Preparation.of(model).normalise(torch.full((2, 1, 5, 5), 0.449))
    assert x.shape == (2, 1, 5, 5) and x.abs().max() < 1e-5


class Fresh(Tensors):
    def train(self, seed, epoch):
        images, labels = super().train(seed, epoch)
        return images + epoch, labels


def test_fresh_sources_are_asked_each_epoch():
    x = torch.zeros(32, 1, 4, 4, dtype=torch.uint8)
    y = torch.zeros(32, dtype=torch.long)
    fresh = Fresh(x, y, x, y, "abcd", fresh=True)
    recipe = tiny_recipe(augment=Augment(flip=0, erase=0))
    batches = MemoryBatches(Held(fresh, Data("x")), recipe, Preparation((0,), (1,), 4), WHOLE, CPU)
    seen = [round(x.max().item() * 255) for ((x, _),) in batches(1, 6)]
    assert seen == [0, 0, 1, 1, 2, 2]


def test_holdout_and_subset():
    whole = tiny_data()
    held = Held(whole, Data("tiny", holdout=20, subset=30))
    images, labels = held.train(0, 0)
    test, _ = held.test()
    assert len(labels) == 30 and len(test) == 20
    known = {tuple(image.flatten().tolist()) for image in images}
    assert not any(tuple(image.flatten().tolist()) in known for image in test)
    assert len(Held(whole, Data("tiny", holdout=20)).train(0, 0)[1]) == 76
    one, other = (Held(whole, Data("tiny", subset=30)).train(seed, 0)[0] for seed in (0, 5))
    assert torch.equal(one, other)
    with pytest.raises(ValueError, match="must leave some of the 96"):
        Held(whole, Data("tiny", holdout=96))


def test_loading_an_image_leaves_the_gpus_random_numbers_alone(photos, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    list(folder(photos)(1, 2))
    assert not seeded


def test_shares():
    assert Share.of(64, None, 1, 2) == Share(1, 2, 1)
    assert Share.of(64, 8, 1, 2) == Share(1, 2, 4)
    for batch, micro, processes in ((64, 48, 1), (64, 64, 2), (3, None, 4)):
        with pytest.raises(ValueError, match="cannot be divided among"):
            Share.of(batch, micro, 0, processes)


def folder(photos, workers=0, share=WHOLE):
    recipe = tiny_recipe(
        batch_size=4, data=Data("folder", photos), augment=Augment(rand_augment=9, mixup=0.8, cutmix=1.0)
    )
    transform = training_transform(recipe.augment, 24, (0.5,) * 3, (0.25,) * 3)
    images = Photos(photos, read_folder(recipe.data).train, transform)
    return FolderBatches(images, recipe, Preparation((0.5,) * 3, (0.25,) * 3, 2), share, CPU, workers)


def test_folders_give_the_same_whoever_loads(photos):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = joined(folder(photos)(1, 6))
    assert torch.equal(torch.get_rng_state(), state)  # the model's random numbers are its own
    assert whole[0][0].shape == (4, 3, 24, 24)
    assert equal(whole, joined(folder(photos, workers=2)(1, 6)))
    assert equal(whole[3:], joined(folder(photos)(4, 6)))
    halves = [joined(folder(photos, share=Share(rank, 2))(1, 6)) for rank in (0, 1)]
    assert equal(whole, [tuple(torch.cat(t) for t in zip(*step, strict=True)) for step in zip(*halves, strict=True)])
    # The same image differs from epoch to epoch.
    assert not any(torch.equal(a, b) for a in whole[0][0] for b in whole[4][0])


def test_the_books_sets():
    images, labels = source(Data("fashion_mnist")).test()
    assert images.shape == (10_000, 1, 28, 28) and len(labels) == 10_000
    stamps = StampSource(size=32, count=40, test_count=20)
    first, second = (stamps.train(0, epoch)[0] for epoch in (0, 1))
    assert first.shape == (40, 3, 32, 32) and not torch.equal(first, second) and stamps.fresh
    assert torch.equal(first, StampSource(size=32, count=40, test_count=20).train(0, 0)[0])
    assert len(stamps.test()[1]) == 20 and len(stamps.classes) == 10
    assert source(Data("stamps", image_size=96)).size == 96
    clutter = ClutterSource(size=32, count=40, test_count=20)
    first, second = (clutter.train(0, epoch) for epoch in (0, 1))
    assert first[0].shape == (40, 3, 32, 32) and torch.equal(first[1], second[1]) and clutter.fresh
    assert not torch.equal(first[0], second[0]) and len(clutter.test()[1]) == 20 and len(clutter.classes) == 10
    assert source(Data("clutter", image_size=96, level="hard")) == ClutterSource(96, "hard")


def wrong_labels():
    return torch.zeros(4, 1, 5, 5, dtype=torch.uint8), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: source(Data("fashion_mnits")), "did you mean fashion_mnist"),
        (lambda p: read_folder(Data()), "data.folder is missing"),
        (lambda p: Held(Tensors(*[*wrong_labels()] * 2, "abc"), Data()), "between 0 and 2, .* train lie"),
        (lambda p: Tensors(*[torch.zeros(2)] * 4, "ab"), "uint8 and as many"),
        (lambda p: memory(augment=Augment(rand_augment=9)), "image folders only"),
        (lambda p: next(memory(batch_size=97)(1, 1)), "needs at least as many images"),
    ],
)
def test_wrong_data(call, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
