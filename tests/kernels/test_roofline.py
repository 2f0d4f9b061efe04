"""The roofline of the scan's Triton kernels: its operations against the kernels' own code, its limits by hand.

Its bytes are compared with what the kernels touch in `scan_triton_interpreted.py`.
"""

import math
import re

import pytest
import torch

pytest.importorskip("triton", reason="Triton is published for Linux only, where it comes with torch")

from benchmarks import gpus, roofline, triton_resources
from benchmarks.triton_resources import Case


def count_operations(code: str) -> tuple[int, int]:
    """Float32 operations and exponentials of one turn of the loop over chunks, from Triton's intermediate code.

    Element by element: a reduction combines all elements but one of each group, a scan all but the first.
    """

    def elements(shape: str) -> int:
        return math.prod(map(int, shape.split("x")))

    loop = code[code.index("scf.for") : code.index("scf.yield")]
    flops = sum(elements(shape) for shape in re.findall(r"arith\.(?:mul|add|sub)f .* : tensor<([\dx]+)xf32>", loop))
    exponentials = sum(elements(shape) for shape in re.findall(r"math\.exp .* : tensor<([\dx]+)xf32>", loop))
    grouped = re.findall(r'"tt\.(reduce|scan)".*?axis = (\d).*?\(\{(.*?)\}\) : \(tensor<([\dx]+)xf32>', loop, re.DOTALL)
    for _, axis, body, shape in grouped:
        group = int(shape.split("x")[int(axis)])
        flops += len(re.findall(r"arith\.\w+f ", body)) * elements(shape) * (group - 1) // group
    return flops, exponentials


@pytest.mark.parametrize("state", [16, 64])
def test_operations_are_those_of_the_kernels(state: int):
    """Within 10 %: the formulas count a reduction over n elements as n operations, the kernel needs n - 1."""
    forward, backward = triton_resources.launches(Case(384, state, torch.float32, initial=False, last=False))
    chunk, block = forward.options["CHUNK"], forward.options["BLOCK_D"]
    works = roofline.scan_work("forward+backward", 1, chunk, block, state)
    for launch, work in zip((forward, backward), works, strict=False):
        compiled, _ = triton_resources.compile_launch(launch, 80)
        flops, exponentials = count_operations(compiled.asm["ttir"])
        assert exponentials == work.exponentials
        assert flops == pytest.approx(work.flops, rel=0.1)


def test_the_slowest_resource_is_the_limit():
    t4 = gpus.find("Tesla T4")
    assert t4 is not None and t4.exponentials == pytest.approx(40 * 16 * 1.59e9, rel=0.01)  # units times clock
    moving = roofline.Work("", bytes=320_000_000, flops=1, exponentials=1, programs=40)
    computing = roofline.Work("", bytes=1, flops=8_100_000_000, exponentials=1, programs=20)  # on half of the GPU
    assert moving.limits(t4)["memory"] == pytest.approx(1e-3)
    assert computing.limits(t4)["arithmetic"] == pytest.approx(2e-3)
    assert roofline.least_seconds([moving, computing], t4) == pytest.approx(3e-3)


def test_partial_sums_are_written_once_and_read_once():
    """B 1, L 100, D 64, N 16: eight blocks of eight channels, dB and dC, four bytes each."""
    partial = 2 * 8 * 100 * 16 * 4
    backward, sums = roofline.scan_work("forward+backward", 1, 100, 64, 16)[1:]
    assert partial < backward.bytes and partial < sums.bytes
    assert sums.bytes == partial + (64 * 16 + 64) * 4 + (2 * 100 * 16 + 64 * 16 + 64) * 4


@pytest.mark.parametrize(
    ("driver_name", "name"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
    ],
)
def test_finds_the_data_sheet(driver_name: str, name: str):
    gpu = gpus.find(driver_name)
    assert gpu is not None and gpu.name == name


@pytest.mark.parametrize("driver_name", ["NVIDIA GeForce RTX 4090", "NVIDIA T400 4GB"])
def test_knows_what_it_does_not_know(driver_name: str):
    assert gpus.find(driver_name) is None


def test_the_table_has_a_row_for_each_kernel_and_size():
    lines = roofline.table().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4 * len(roofline.BATCHES) * len(roofline.LENGTHS)
