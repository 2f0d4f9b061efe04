"""The recall task asks for what it listed; models differ in their memory alone; a short run learns something."""

import dataclasses

import pytest
import torch

from mambaout.datasets.recall import IGNORE, KEYS, VALUES, recall
from mambaout.studies import recall as study
from mambaout.studies.recall import STUDY, RecallConfig, RecallModel, accuracy, count, loss, run, validate


@pytest.mark.parametrize(("pairs", "keys"), [(1, KEYS), (2, KEYS), (7, KEYS), (16, KEYS), (64, 64), (3, 64)])
def test_every_answer_is_the_value_that_was_listed_with_the_key(pairs: int, keys: int) -> None:
    tokens, labels = recall(20, pairs, torch.Generator().manual_seed(0), keys=keys)
    assert tokens.shape == labels.shape == (20, 3 * pairs)
    for row, answers in zip(tokens.tolist(), labels.tolist(), strict=True):
        listed = dict(zip(row[: 2 * pairs : 2], row[1 : 2 * pairs : 2], strict=True))
        assert len(listed) == pairs, "keys are drawn without repetition"
        assert all(key < keys <= value < 2 * keys for key, value in listed.items())
        assert answers[: 2 * pairs] == [IGNORE] * (2 * pairs)
        assert [listed[key] for key in row[2 * pairs :]] == answers[2 * pairs :]


def test_sequences_are_new_each_time_and_the_same_for_the_same_seed() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second = recall(4, 8, draw)[0], recall(4, 8, draw)[0]
    assert not first.equal(second)
    assert first.equal(recall(4, 8, torch.Generator().manual_seed(0))[0])


def test_refuses_more_pairs_than_keys() -> None:
    with pytest.raises(ValueError, match="between 1 and the number of keys, 16; got 17"):
        recall(1, 17, torch.Generator())


@pytest.mark.parametrize("variants", [STUDY.variants, STUDY.large], ids=["small", "large"])
def test_models_have_as_many_parameters_and_none_is_narrower_than_usual(variants) -> None:  # type: ignore[no-untyped-def]
    counts = [count(config) for config in variants.values()]
    assert max(counts) / min(counts) < 1.02
    assert counts == [sum(p.numel() for p in RecallModel(config).parameters()) for config in variants.values()]
    assert all(config.expansion_ratio >= 8 / 3 - 0.5 / config.dim for config in variants.values())


def test_models_share_everything_but_the_memory() -> None:
    def shared(variant: str) -> dict[str, torch.Size]:
        model = RecallModel(dataclasses.replace(STUDY.variants[variant], expansion_ratio=8 / 3))
        own = (".ssm.", ".attn.")
        return {name: p.shape for name, p in model.named_parameters() if not any(part in name for part in own)}

    assert all(shared(variant) == shared("gated_cnn") for variant in STUDY.variants)


@pytest.mark.parametrize("variant", ["attention", "mamba_n8"])
def test_a_memory_reads_only_what_came_before_but_for_the_convolutions_three_tokens(variant: str) -> None:
    model = RecallModel(STUDY.variants[variant]).eval()
    tokens = recall(1, 12, torch.Generator().manual_seed(0))[0]
    changed = tokens.clone()
    changed[0, 30] = (tokens[0, 30] + 1) % KEYS
    differs = (model(tokens) != model(changed)).any(-1)[0]
    assert not differs[: 30 - 2 * 3].any() and differs[30:].all()


def test_accuracy_counts_the_queries() -> None:
    class Oracle(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            pairs = tokens.shape[1] // 3
            keys, values, asked = tokens[:, : 2 * pairs : 2], tokens[:, 1 : 2 * pairs : 2], tokens[:, 2 * pairs :]
            place = (asked[:, :, None] == keys[:, None]).int().argmax(-1)
            answers = values.gather(1, place)
            answers[:, 0] = KEYS if pairs == 4 else answers[:, 0]  # one wrong answer of four, but by luck
            logits = torch.zeros(*tokens.shape, KEYS + VALUES)
            logits[:, 2 * pairs :].scatter_(2, answers[:, :, None], 1.0)
            return logits

    assert accuracy(Oracle(), 8, 50, torch.device("cpu")) == 1.0
    assert accuracy(Oracle(), 4, 50, torch.device("cpu")) == pytest.approx(0.75, abs=0.02)


def test_a_run_is_repeatable_and_lowers_the_loss() -> None:
    config = dataclasses.replace(STUDY.variants["gated_cnn"], steps=60, tests=8, pairs=(2, 4, 8))
    first, again = (run(config, 3, torch.device("cpu")) for _ in range(2))
    assert first == again
    accuracies = [first[f"accuracy_{pairs}"] for pairs in (2, 4, 8)]
    assert first["accuracy"] == pytest.approx(sum(accuracies) / 3) and first["params"] == count(config)
    torch.manual_seed(3)
    fresh = loss(RecallModel(config), recall(64, 4, torch.Generator().manual_seed(0), keys=64)).item()
    assert first["loss"] < fresh


def test_tuning_is_scored_on_other_sequences() -> None:
    config = dataclasses.replace(STUDY.variants["gated_cnn"], steps=20, tests=8, pairs=(2, 4))
    values = validate(config, 1000, torch.device("cpu"))
    assert values.keys() == {"validation_accuracy"}
    assert values["validation_accuracy"] != run(config, 1000, torch.device("cpu"))["accuracy"]


def test_lists_of_all_lengths_come_from_half_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = study.recall

    def watched(sequences: int, pairs: int, *arguments: object, **options: object) -> object:
        seen.append(pairs)
        return original(sequences, pairs, *arguments, **options)

    monkeypatch.setattr(study, "recall", watched)
    config = RecallConfig("gated_cnn", pairs=(1, 2, 3, 4, 5, 6), dim=4, depth=1, steps=120, batch_size=1, tests=1)
    run(config, 0, torch.device("cpu"))
    assert set(seen[:15]) == {1, 2} and set(seen[:30]) == {1, 2, 3}
    assert max(seen[:60]) == 5 and set(seen[60:120]) == {1, 2, 3, 4, 5, 6}


def test_large_variants_mirror_the_small_ones() -> None:
    assert [name.removesuffix("_d64") for name in STUDY.large] == list(STUDY.variants)
    assert all(isinstance(config, RecallConfig) and config.dim == 64 for config in STUDY.large.values())
