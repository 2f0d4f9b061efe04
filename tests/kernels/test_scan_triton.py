"""The Triton kernels without a GPU: their numbers through Triton's interpreter, their code through its compiler."""

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is published for Linux only, where it comes with torch")

from benchmarks import triton_resources
from benchmarks.gpus import MULTIPROCESSORS
from benchmarks.triton_resources import Case

CHOICES = {
    "capability": tuple(MULTIPROCESSORS),
    "state": (1, 2, 8, 12, 16, 64, 256),
    "dim": (32, 100, 384),
    "dtype": (torch.float32, torch.bfloat16, torch.float16),
    "skip": (True, False),
    "initial": (True, False),
    "last": (True, False),
}


def covering(choices: dict[str, tuple[object, ...]]) -> list[dict[str, object]]:
    """A few of all combinations, in which every two choices meet; greedily, the most new pairs first."""

    def pairs(values: tuple[object, ...]) -> set[object]:
        return set(itertools.combinations(zip(choices, values, strict=True), 2))

    combinations = {values: pairs(values) for values in itertools.product(*choices.values())}
    missing = set().union(*combinations.values())
    chosen = []
    while missing:
        best = max(combinations, key=lambda values: len(combinations[values] & missing))
        missing -= combinations[best]
        chosen.append(dict(zip(choices, best, strict=True)))
    return chosen


def test_numbers_on_the_interpreter():
    cases = Path(__file__).with_name("scan_triton_interpreted.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout and "skipped" not in result.stdout


def test_is_the_form_for_cuda_and_is_imported_for_it_only():
    code = (
        "import sys, mambaout.kernels.scan as scan; assert 'triton' not in sys.modules;"
        "assert scan._cuda_scan().__module__ == 'mambaout.kernels.scan_triton'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("chosen", covering(CHOICES), ids=lambda chosen: "-".join(map(str, chosen.values())))
def test_spills_nothing_and_fits_a_multiprocessor_twice(chosen: dict[str, object]):
    """T4, A100 and H100, without one; `python -m benchmarks.triton_resources` tries all combinations."""
    capability = chosen["capability"]
    case = Case(**{name: value for name, value in chosen.items() if name != "capability"})
    launches = triton_resources.launches(case) + triton_resources.launches(replace(case, grad=False))
    assert [launch.kernel for launch in launches] == ["_forward_kernel", "_backward_kernel", "_forward_kernel"]
    for launch in launches:
        need = triton_resources.resources(launch, capability)
        assert need.spilled == 0, (launch.kernel, need)
        assert need.blocks >= 2, (launch.kernel, need)


@pytest.mark.parametrize("case", [Case(384, 16, torch.float64), Case(1, 1, torch.float64), Case(3, 256, torch.float64)])
@pytest.mark.parametrize("capability", MULTIPROCESSORS)
def test_double_precision_can_be_launched(case: Case, capability: int):
    for launch in triton_resources.launches(case, batch=1, length=1):
        assert triton_resources.resources(launch, capability).blocks >= 1


def test_a_new_length_or_batch_needs_no_new_code():
    compiled = [
        triton_resources.compile_launch(launch, 80)[0].hash
        for batch, length in ((1, 1), (2, 784), (16, 50))
        for launch in triton_resources.launches(Case(384, 16, torch.float32), batch, length)
    ]
    assert len(compiled) == 6 and len(set(compiled)) == 2


def test_no_offset_overflows():
    """An index of an array is a 64-bit integer from its first product on: only positions in a sequence are shorter."""
    for launch in triton_resources.launches(Case(100, 12, torch.float32)):
        compiled, _ = triton_resources.compile_launch(launch, 80)
        products = re.findall(r"arith\.muli (\S+), (\S+) : (.+?) loc", compiled.asm["ttir"])
        chunk = f"%c{launch.options['CHUNK']}_i32"
        short = [(left, right) for left, right, kind in products if "i64" not in kind]
        assert short and all(chunk in factors for factors in short), short
        assert len(products) > len(short)


def test_blocks_of_a_multiprocessor():
    """Worked out by hand from NVIDIA's rules: registers, shared memory, threads, number of blocks."""
    t4, a100, h100 = MULTIPROCESSORS.values()
    assert t4.resident_blocks(168, 4, 1024) == 3  # 21 units of 256 registers a warp: 3 warps in each partition
    assert t4.resident_blocks(64, 4, 33 * 1024) == 1
    assert t4.resident_blocks(64, 4, 65 * 1024) == 0
    assert t4.resident_blocks(32, 8, 0) == 4  # 1024 threads
    assert a100.resident_blocks(32, 1, 0) == 32
    assert a100.resident_blocks(64, 4, 81 * 1024) == 2  # and 1 KiB of its own for each
    assert a100.resident_blocks(64, 4, 82 * 1024) == 1
    assert h100.resident_blocks(255, 8, 1024) == 1
    assert h100.resident_blocks(255, 4, 113 * 1024) == 2
