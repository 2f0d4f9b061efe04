"""Data sheets: what the GPUs that a reader may rent can do at most. Nothing here is measured.

Sources, all of NVIDIA: the data sheets "T4 Tensor Core GPU", "A100 Tensor Core GPU" and "H100 Tensor Core GPU"
(bandwidth, float32 rate); the white papers on the Turing, Ampere and Hopper architectures (multiprocessors); the CUDA
C++ Programming Guide, tables "Technical Specifications per Compute Capability" and "Throughput of Native Arithmetic
Instructions" (everything about one multiprocessor).
"""

import re
from dataclasses import dataclass

WARP = 32  # threads
_KIB = 1024


@dataclass(frozen=True)
class Multiprocessor:
    """One multiprocessor of a compute capability. All of these have 64 Ki registers, in four partitions."""

    threads: int  # resident at most
    blocks: int  # resident at most
    shared: int  # bytes of shared memory
    reserved: int  # bytes of it that each block costs beside its own
    multiply_adds: int  # float32, per clock
    exponentials: int = 16  # float32, per clock

    def resident_blocks(self, registers: int, warps: int, shared: int) -> int:
        """How many blocks fit at once, with `registers` per thread, `warps` and bytes of shared memory per block.

        A warp takes its registers from one partition, in units of 256. Zero says that the kernel cannot be launched.
        """
        per_warp = -(-registers * WARP // 256) * 256
        by_registers = 4 * (64 * 1024 // 4 // per_warp) // warps
        by_memory = self.shared // max(1, shared + self.reserved)
        return min(by_registers, by_memory, self.threads // (WARP * warps), self.blocks)


MULTIPROCESSORS = {
    75: Multiprocessor(threads=1024, blocks=16, shared=64 * _KIB, reserved=0, multiply_adds=64),
    80: Multiprocessor(threads=2048, blocks=32, shared=164 * _KIB, reserved=_KIB, multiply_adds=64),
    90: Multiprocessor(threads=2048, blocks=32, shared=228 * _KIB, reserved=_KIB, multiply_adds=128),
}


@dataclass(frozen=True)
class Gpu:
    """One product: bytes and float32 operations a second, a multiply-add counted as two operations."""

    name: str
    words: frozenset[str]  # all of them occur in the name that the driver gives it
    capability: int
    multiprocessors: int
    bandwidth: float
    flops: float

    @property
    def exponentials(self) -> float:
        """Float32 exponentials a second: the special function units run at the clock of the multiply-adds."""
        one = MULTIPROCESSORS[self.capability]
        return self.flops / 2 * one.exponentials / one.multiply_adds


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[\W_]+", name.lower()))


GPUS = (
    Gpu("T4", _words("T4"), 75, 40, 320e9, 8.1e12),
    Gpu("A100 40 GB", _words("A100 40GB"), 80, 108, 1555e9, 19.5e12),
    Gpu("A100 80 GB SXM", _words("A100 SXM4 80GB"), 80, 108, 2039e9, 19.5e12),
    Gpu("A100 80 GB PCIe", _words("A100 80GB PCIe"), 80, 108, 1935e9, 19.5e12),
    Gpu("H100 SXM", _words("H100 HBM3"), 90, 132, 3350e9, 67e12),
    Gpu("H100 PCIe", _words("H100 PCIe"), 90, 114, 2000e9, 51e12),
)


def find(device_name: str) -> Gpu | None:
    """The data sheet for a device's name as `torch.cuda.get_device_name` gives it; None if it is not here."""
    return next((gpu for gpu in GPUS if gpu.words <= _words(device_name)), None)
