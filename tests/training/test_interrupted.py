"""Runs that are killed, and runs of several processes."""

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambaout.training import checkpoint

STEPS = 18  # of a whole run


class Runs:
    """The process of `runs.py`, which starts others."""

    def __init__(self):
        tests = Path(__file__).parents[1]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
        command = [sys.executable, str(Path(__file__).with_name("runs.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )

    def start(self, folder, out, batch=16, **variables):
        settings = " ".join(f"{name}={value}" for name, value in variables.items())
        self.process.stdin.write(f"{folder} {out} {batch} {settings}\n")

    def follow(self, kill_at=None, runs=1):
        """Steps until all the runs that were started have ended, and how they ended."""
        steps, pid, ends = [], None, []
        for line in self.process.stdout:
            match line.split():
                case ["begin", number]:
                    pid = int(number)
                case ["end", _, status]:
                    ends.append(int(status))
                case [number]:
                    steps.append(int(number))
                    if steps[-1] == kill_at:
                        os.kill(pid, signal.SIGKILL)
            if len(ends) == runs:
                return steps, ends
        raise AssertionError("the process that starts the runs has ended")


@pytest.fixture(scope="module")
def runs():
    running = Runs()
    yield running
    running.process.stdin.close()
    running.process.wait(timeout=60)


def test_killed_at_random_steps_and_continued_ends_with_the_same_weights(runs, tmp_path):
    runs.start(tmp_path / "whole", tmp_path / "whole.pt")
    steps, ends = runs.follow()
    assert steps == list(range(1, STEPS + 1)) and ends == [0]
    killed = tmp_path / "killed"
    at = sorted(random.Random().sample(range(1, STEPS), 3))  # a new place each time: any step must do
    for step in at:
        runs.start(killed, tmp_path / "never.pt")
        assert runs.follow(kill_at=step)[1] == [-signal.SIGKILL], f"killed at {at}"
        assert not (killed / "weights.safetensors").exists()
    runs.start(killed, tmp_path / "killed.pt")
    steps, ends = runs.follow()
    assert ends == [0] and steps[-1] == STEPS and at[-1] - 2 <= steps[0] <= at[-1] + 1, f"killed at {at}"
    one, other = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"]), f"killed at {at}"
    assert one["losses"][-len(other["losses"]) :] == other["losses"]
    a, b = (checkpoint.load_newest(tmp_path / name) for name in ("whole", "killed"))
    for part in ("model", "random"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part]), part
    table = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "killed")]
    results = [[line.split(",")[:7] for line in lines] for lines in table]  # without times
    assert results[0] == results[1] and len(results[0]) == 4


def start_two(runs, folders, outs):
    """Two processes as torchrun would start them; gloo, because it is the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank, (folder, out) in enumerate(zip(folders, outs, strict=True)):
        runs.start(
            folder, out, 32, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2, GROUP_RANK=0,
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_RUN_ID="test",
        )  # fmt: skip


def test_two_processes_are_one_with_the_doubled_batch(runs, tmp_path):
    runs.start("-", tmp_path / "one.pt", 32)
    assert runs.follow()[1] == [0]
    outs = [tmp_path / f"two{rank}.pt" for rank in (0, 1)]
    start_two(runs, [tmp_path / "run"] * 2, outs)
    steps, ends = runs.follow(runs=2)
    assert ends == [0, 0] and steps == list(range(1, 10))  # the first process alone tells
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two0", "two1"))
    assert two[0]["losses"] == two[1]["losses"] and len(one["losses"]) == 9
    torch.testing.assert_close(torch.tensor(one["losses"]), torch.tensor(two[0]["losses"]), rtol=1e-4, atol=1e-5)
    for name, value in one["model"].items():
        assert torch.equal(two[0]["model"][name], two[1]["model"][name])
        torch.testing.assert_close(value, two[0]["model"][name], rtol=1e-2, atol=1e-4)
    assert one["top1"] == two[0]["top1"] == two[1]["top1"]
    assert two[0]["alone"] == two[1]["alone"] == (30, one["top1"])
    assert checkpoint.load_newest(tmp_path / "run")["random"]["cpu"].shape[0] == 2

    start_two(runs, [tmp_path / "run", tmp_path / "another"], outs)  # two machines whose folders are not one
    assert runs.follow(runs=2) == ([], [1, 1])
    assert all("checkpoints of different steps, [9, 0]" in path.read_text() for path in outs)
