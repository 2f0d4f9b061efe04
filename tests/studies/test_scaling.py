"""The measurement at small lengths: what it measures, what it leaves out and says so, and for which device."""

import re

import pytest
import torch

from mambaout.analysis import complexity
from mambaout.layers import GatedCNNBlock
from mambaout.studies import measure, record, runner, scaling
from mambaout.studies.runner import find_study

CPU = torch.device("cpu")


def test_the_study_is_found_and_covers_every_module_at_two_widths():
    study = find_study("scaling")
    assert set(study.variants) == {f"{mixer}_d{dim}" for mixer in scaling.MODULES for dim in (192, 384)}
    assert {config.device for config in study.variants.values()} == {"cpu"}
    assert {config.device for config in study.large.values()} == {"cuda"}
    assert all(name.endswith("_cuda") for name in study.large)  # both fit in one file
    lengths = study.variants["attention_d384"].lengths
    assert (lengths[0], lengths[-1]) == (64, 16_384)
    assert lengths[0] < complexity.threshold(192) < complexity.threshold(384) < lengths[-1]


@pytest.mark.parametrize("mixer", scaling.MODULES)
def test_every_number_is_there_and_positive(mixer, monkeypatch):
    monkeypatch.setattr(scaling, "peaks", scaling.measure_peaks)  # in this process: the values do not matter here
    config = scaling.ScalingConfig(mixer, 64, (16, 32), budget=0.001)
    first, second = scaling.run(config, 0, CPU), scaling.run(config, 1, CPU)
    times = {f"{work}_ms_L{length}" for work in ("forward", "training") for length in (16, 32)}
    assert set(second) == times | {"threads"}
    memory = {name.replace("_ms_", "_mib_") for name in times} if measure.can_measure_peaks() else set()
    assert set(first) == times | {"threads"} | memory
    assert all(first[name] > 0 for name in times)
    assert first["threads"] == torch.get_num_threads()


@pytest.mark.skipif(not measure.can_measure_peaks(), reason="resident peaks need Linux with glibc")
def test_memory_of_the_unfused_matrix_grows_with_the_square():
    """At least the scores and the weights, (heads, L, L) in float32; the fused form stays far below one of them."""
    lengths = (512, 1024)
    unfused = scaling.peaks(scaling.ScalingConfig("unfused_attention", 64, lengths))
    fused = scaling.peaks(scaling.ScalingConfig("attention", 64, lengths))
    for length in lengths:
        matrix = length**2 * 4 / 2**20
        assert unfused[f"forward_mib_L{length}"] >= 1.9 * matrix
        assert fused[f"forward_mib_L{length}"] < 0.6 * matrix + 1.5


def test_work_is_what_it_says():
    """Training computes gradients of everything; forward keeps none."""
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append((type(module), tuple(output.shape), output.requires_grad))
    )
    try:
        scaling.make_work("gated_cnn_block", 24, 32, "forward")()
        scaling.make_work("gated_cnn_block", 24, 32, "training")()
    finally:
        hook.remove()
    assert [one for one in seen if one[0] is GatedCNNBlock] == [
        (GatedCNNBlock, (1, 4, 8, 24), False),
        (GatedCNNBlock, (1, 4, 8, 24), True),
    ]


def test_unfused_attention_computes_the_same_by_another_kernel():
    counts = {}
    for mixer in ("attention", "unfused_attention"):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            scaling.make_work(mixer, 64, 32, "forward")()
        counts[mixer] = {event.key for event in profile.key_averages()}
    assert any("flash" in key for key in counts["attention"])
    assert any("softmax" in key for key in counts["unfused_attention"])
    assert not any("flash_attention" in key for key in counts["unfused_attention"])


@pytest.mark.parametrize(("length", "sides"), [(64, (8, 8)), (128, (8, 16)), (12, (3, 4)), (7, (1, 7)), (1, (1, 1))])
def test_grid_is_as_square_as_can_be(length, sides):
    assert scaling.grid(length) == sides


def test_what_would_not_fit_is_left_out_and_said(capsys):
    config = scaling.ScalingConfig("unfused_attention", 64, (16, 2048), budget=0.001, memory_limit=0.02)
    values = scaling.run(config, 0, CPU)
    assert "training_ms_L16" in values
    assert not any(name.endswith("L2048") for name in values)
    said = capsys.readouterr().out
    assert re.search(r"unfused_attention, D 64, L 2048, forward: left out, .* more than the limit of 0.02 GiB", said)
    assert "training: left out" in said
    assert scaling.too_large(scaling.ScalingConfig("attention", 64, memory_limit=0.0), 2048, "training") == ""


def test_a_variant_for_another_device_is_refused():
    with pytest.raises(ValueError, match="measured on cuda, but the study runs on cpu: use .*--device cpu"):
        scaling.run(scaling.ScalingConfig("ssm", 64, (16,), device="cuda"), 0, CPU)


def test_unknown_work_lists_the_known():
    with pytest.raises(ValueError, match="expected one of attention, .* forward, training; got 'attention', 'back'"):
        scaling.make_work("attention", 64, 16, "back")


def test_recorded_reads_what_the_runner_wrote(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    for module in (record, runner):
        monkeypatch.setattr(module, "data_dir", lambda: tmp_path)
    configs = {"ssm_d64": scaling.ScalingConfig("ssm", 64, (16, 32), budget=0.001)}
    monkeypatch.setattr(scaling, "peaks", scaling.measure_peaks)
    runner.execute(runner.Study("scaling", configs, scaling.run), seeds=3, device="cpu")
    table = scaling.recorded()
    assert len(table) == 2 * 2 * 2  # work, unit, length
    assert set(table["unit"]) == {"ms", "mib"} and set(table["length"]) == {16, 32}
    row = table.query("work == 'training' and unit == 'ms' and length == 32").iloc[0]
    assert (row["mixer"], row["dim"], row["device"]) == ("ssm", 64, "cpu")
    assert len(row["values"]) == 3 and row["median"] == sorted(row["values"])[1]
    assert row["threads"] == torch.get_num_threads()
    assert all(len(values) == 1 for values in table.query("unit == 'mib'")["values"])
