"""Images to train on, to tune on and to test on share nothing; a tuning run never loads a test image."""

from collections.abc import Iterator

import pytest
import torch

from mambaout.datasets import clutter, fashion_mnist
from mambaout.datasets.stamps import CLASSES, divide, reserved, stamps
from mambaout.studies import causal_vit, hypothesis_1, receptive_vits, sets
from mambaout.studies.sets import SETS, ClutterEpochs, load


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    load.cache_clear()
    yield
    load.cache_clear()


def pictures(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_fashion_mnist_is_divided_once_for_all_seeds() -> None:
    everything = fashion_mnist("train")
    known: set[bytes] = set()
    held = [load("fashion_mnist", 10, 1, seed, "validation")[1] for seed in (0, 1000)]
    assert torch.equal(held[0][0], held[1][0]) and len(held[0][0]) == 10_000
    validation = pictures(held[0][0])
    for seed, part in ((0, "test"), (1, "test"), (1000, "validation")):
        (first, second), scored = load("fashion_mnist", 2_000, 2, seed, part)  # type: ignore[arg-type]
        assert torch.equal(first[0], second[0]) and first[0].shape == (2_000, 28, 28) and len(scored[0]) == 10_000
        assert len(pictures(first[0]) & validation) <= 2, "but for two pairs of equal pictures in the set itself"
        known |= pictures(first[0])
    assert len(known) > 5_000, "another seed draws others"
    (whole,), _ = load("fashion_mnist", 50_000, 1, 3, "test")
    assert len(whole[0]) + 10_000 == len(everything)
    with pytest.raises(ValueError, match="at most 50,000 images, the others are for validation; got 50,001"):
        load("fashion_mnist", 50_001, 1, 0, "test")


def test_stamps_are_composed_anew_for_every_epoch_and_seed() -> None:
    (first, second), test = load("stamps", 40, 2, 0, "test")
    assert not torch.equal(first[0], second[0]) and len(test[0]) == sets.SCORED
    load.cache_clear()
    assert torch.equal(load("stamps", 40, 2, 0, "test")[0][0][0], first[0])
    (other, _), other_test = load("stamps", 40, 2, 1, "test")
    assert not torch.equal(first[0], other[0]) and not torch.equal(test[0], other_test[0])


@pytest.mark.parametrize("division", [0, 1, 7, 1000])
def test_the_reserve_belongs_to_no_division(division: int) -> None:
    kept, photographs = reserved()
    dealt = divide(division)
    seen = {split: set(stamps(split, 600, size=8, division=division, reserve=True).stamps.tolist())
            for split in ("train", "test", "validation")}  # fmt: skip
    assert seen["validation"] == set(kept) and len(photographs) == 3
    assert seen["train"] <= set(dealt.train) - set(kept) and seen["test"] <= set(dealt.test) - set(kept)
    assert seen["train"] | seen["test"] | set(kept) == set(dealt.train) | set(dealt.test)
    for split in ("train", "test", "validation"):
        labels = stamps(split, 600, size=8, division=division, reserve=True).labels  # type: ignore[arg-type]
        assert labels.bincount().tolist() == [60] * len(CLASSES)


def test_clutter_shows_every_item_before_any_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "CLUTTER", 30)
    epochs = ClutterEpochs(20, 3, seed=0)
    first, second, third = epochs
    whole = clutter("train", range(30)).labels
    assert len(epochs) == 3 and first[0].shape == (20, 3, 64, 64)
    labels = torch.cat([first[1], second[1], third[1]])
    assert torch.equal(labels[:30], labels[30:]) and torch.equal(labels[:30].bincount(), whole.bincount())
    assert not pictures(first[0]) & pictures(third[0]), "shown otherwise in another epoch"
    assert torch.equal(epochs[-1][0], third[0]) and torch.equal(epochs[1:][0][0], second[0])
    assert not torch.equal(ClutterEpochs(20, 3, seed=1)[0][0], first[0])


@pytest.mark.parametrize("name", SETS)
def test_what_a_set_says_of_itself(name: str) -> None:
    (train,), (images, labels) = load(name, 20, 1, 0, "validation")
    made = SETS[name]
    channels = 1 if images.ndim == 3 else images.shape[1]
    assert (channels, images.shape[-1]) == (made.channels, made.side) and train[0].shape[1:] == images.shape[1:]
    assert labels.unique().tolist() == list(range(made.classes))


@pytest.mark.parametrize("study", [causal_vit, hypothesis_1, receptive_vits], ids=lambda study: study.STUDY.name)
def test_tuning_loads_no_test_image(study, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sets, "SCORED", 40)
    monkeypatch.setattr(sets, "VALIDATION", 40)
    for source in ("clutter", "fashion_mnist", "stamps"):
        original = getattr(sets, source)

        def watched(split: str, *arguments: object, original=original, **options: object) -> object:  # type: ignore[no-untyped-def]
            assert split != "test"
            return original(split, *arguments, **options)

        monkeypatch.setattr(sets, source, watched)
    tuning = study.STUDY.tuning
    datas = {}
    for config in study.STUDY.variants.values():
        datas.setdefault(config.data, config)
    for config in datas.values():
        small = type(config)(**{**config.__dict__, "images": 64, "epochs": 1, "batch_size": 32})
        values = tuning.measure(small, tuning.seeds[0], torch.device("cpu"))
        assert 0 <= values["validation_accuracy"] <= 1
