"""One process or many, in full or in mixed precision: what the training loop leaves to Lightning Fabric.

Why Fabric and not Hugging Face Accelerate, which does the same work: Accelerate keeps its precision in a state that
all objects of a process share, and refuses a second training in another precision; a notebook that compares float32
with bfloat16 would have to restart its kernel. Fabric keeps no such state. It is imported here only.

`torchrun` starts the processes (DDP over NCCL on GPUs, over gloo on CPUs); without it there is one.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mambaout.training.batches import Batch
from mambaout.training.recipe import Machine
from mambaout.training.signals import Signals

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Devices:
    """This process among all that train together.

    Args:
        machine: what was asked for.

    Raises:
        ValueError: the device is not there, or cannot compute in that precision.
        ModuleNotFoundError: Fabric is not installed.
    """

    def __init__(self, machine: Machine) -> None:
        device = find_device(machine.device)
        if machine.precision == "fp16" and device == "cpu":
            raise ValueError("fp16 needs a GPU; on the CPU choose bf16, which recent processors compute fast, or fp32")
        try:
            from lightning_fabric import Fabric
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: training needs `pip install 'mambaout[train]'`") from error

        many = all(name in os.environ for name in _TORCHRUN)
        local = int(os.environ["LOCAL_WORLD_SIZE"]) if many else 1
        self.fabric = Fabric(
            accelerator=device,
            devices=local,
            num_nodes=int(os.environ["WORLD_SIZE"]) // local if many else 1,
            strategy="ddp" if many else "auto",
            precision=_PRECISIONS[machine.precision],
        )
        self.fabric.launch()
        self.device = self.fabric.device
        self.signals = Signals()
        self._asked = False  # any of several processes; all agree with each step

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self.fabric.global_rank

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.fabric.world_size

    @property
    def first(self) -> bool:
        """Is this the process that prints and writes?"""
        return self.fabric.is_global_zero

    def prepare(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[nn.Module, Batch], torch.Tensor],
    ) -> Any:
        """Wrap for autocast and, among several processes, for averaging gradients; returns the optimiser to step with.

        The model's and the optimiser's state dicts stay those of the objects given here.
        """
        self.model, wrapped = self.fabric.setup(model, optimizer, move_to_device=False)
        self.optimizer, self.loss = wrapped, loss
        return wrapped

    def gradients(self, batch: list[Batch]) -> float:
        """Accumulate the gradients of the micro-batches; the loss is the mean over them and over the processes."""
        total = torch.zeros((), device=self.device)
        for i, piece in enumerate(batch, 1):
            # Several processes exchange gradients once a step, with the last micro-batch.
            alone = self.processes > 1 and i < len(batch)
            with self.fabric.no_backward_sync(self.model, enabled=alone):
                value = self.loss(self.model, piece) / len(batch)
                self.fabric.backward(value)
            total += value.detach()
        asked = torch.full_like(total, float(self.signals.asked is not None))
        loss, stop = self.mean(torch.stack([total, asked])).tolist()
        self._asked = stop > 0
        return loss

    @property
    def asked_to_stop(self) -> bool:
        """Has a signal come to any of the processes?"""
        return self._asked if self.processes > 1 else self.signals.asked is not None

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        if self.processes > 1:
            value = cast(torch.Tensor, self.fabric.all_reduce(value, reduce_op="mean"))
        return value

    def check_alike(self, step: int) -> None:
        """Have all processes found the checkpoint of the same step?

        Raises:
            ValueError: they have not, as on several machines whose folders are not shared.
        """
        if self.processes > 1:
            steps = cast(torch.Tensor, self.fabric.all_gather(torch.tensor(step, device=self.device))).tolist()
            if len(set(steps)) > 1:
                raise ValueError(f"the processes found checkpoints of different steps, {steps}: share the folder")

    def shared_out(self, names: list[str], choose: Callable[[list[str]], list[str]]) -> list[str]:
        """What ``choose`` takes of some names, each process of its share of them; all get what all have chosen."""
        chosen = choose(names[self.rank :: self.processes])
        if self.processes == 1:
            return chosen
        everyone: list[Any] = [None] * self.processes
        torch.distributed.all_gather_object(everyone, chosen)
        return [name for part in everyone for name in part]

    def clip(self, norm: float) -> None:
        """See :class:`mambaout.training.loop.Backend`."""
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=norm, error_if_nonfinite=False)

    def autocast(self) -> Any:
        """The precision of the forward pass, for evaluation."""
        return self.fabric.autocast()

    def random_states(self) -> dict[str, torch.Tensor]:
        """The states of torch's random generators, one row a process."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            states["gpu"] = getattr(torch, self.device.type).get_rng_state()  # torch.cuda's or torch.mps's
        if self.processes == 1:
            return {name: state[None] for name, state in states.items()}
        gathered = {}
        for name, state in states.items():
            rows = [torch.empty_like(state, device=self.device) for _ in range(self.processes)]
            torch.distributed.all_gather(rows, state.to(self.device))
            gathered[name] = torch.stack(rows).cpu()
        return gathered

    def restore_random_states(self, states: dict[str, torch.Tensor]) -> None:
        """Back to :meth:`random_states`; among another number of processes the states stay as they are."""
        if len(states["cpu"]) != self.processes:
            warnings.warn(
                f"the run was begun by {len(states['cpu'])} processes and is continued by {self.processes}: "
                "which paths are dropped will differ",
                stacklevel=2,
            )
            return
        torch.set_rng_state(states["cpu"][self.rank].contiguous())
        if "gpu" in states and self.device.type != "cpu":
            getattr(torch, self.device.type).set_rng_state(states["gpu"][self.rank].contiguous())

    def scaler_state(self) -> dict[str, Any]:
        """The loss scale of fp16; empty otherwise."""
        return self.fabric.strategy.precision.state_dict()

    def restore_scaler(self, state: dict[str, Any]) -> None:
        """Back to :meth:`scaler_state`."""
        if state:
            self.fabric.strategy.precision.load_state_dict(state)

    def memory(self) -> float:
        """The most memory that was used, in megabytes: the GPU's, or this process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        if sys.platform == "linux":
            return peak_resident_bytes() / 1e6
        if sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return float("nan")


def peak_resident_bytes() -> int:
    """Highest resident memory of this program so far (Linux).

    Not getrusage's ru_maxrss: that one is inherited from the parent, so a fresh process of a large parent would seem
    to need nothing of its own.
    """
    return process_status("VmHWM")


def process_status(key: str) -> int:
    """What Linux says of this process's memory under this key of /proc/self/status, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith(key)]
    return 1024 * int(line.split()[1])


def find_device(wanted: str = "auto") -> str:
    """The device of that name; "auto" takes cuda, else mps, else cpu.

    Raises:
        ValueError: it is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(wanted):
        names = ", ".join(name for name, is_there in there.items() if is_there)
        raise ValueError(f"there is no {wanted} device here, only {names}; device=auto takes the fastest")
    return wanted


def keep_freed_memory() -> None:
    """Let glibc keep what PyTorch frees, for the next step (Linux, CPU training).

    By default each large tensor is fetched from the system and given back, page by page: on the machine of the book
    a tenth to a half of a training step.
    """
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max = -1, -4  # the names M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another system or another C library
        return
