"""Runs of the tiny recipe in processes that a test can kill.

One process imports everything and then forks for each line `FOLDER OUT BATCH [VARIABLE=VALUE ...]` that it reads: a
run that trains in FOLDER (or nowhere, "-") and saves its weights and losses to OUT. It prints "begin PID", the number
of each step, and "end PID STATUS". What went wrong in a run is written to OUT.
"""

import dataclasses
import os
import sys
import threading
from pathlib import Path

import lightning_fabric  # noqa: F401
import torch
import torch.utils.tensorboard
import torchmetrics.classification  # noqa: F401
from tiny import tiny_data, tiny_recipe

from mambaout.training import Augment, Machine, Watcher, evaluate, train


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Announce(Watcher):
    def step(self, step, loss, lr):
        say(step)


def run(folder, out, batch):
    recipe = tiny_recipe()
    if batch != "16":
        # Dropped paths are each process's own: without them, two processes are one with the doubled batch.
        plain = ("dims=(8, 16)", "depths=(1, 1)")
        model = dataclasses.replace(recipe.model, drop_path_rate=0.0, settings=plain)
        recipe = tiny_recipe(model=model, batch_size=int(batch), augment=Augment(shift=1, mixup=0.4, erase=0.3))
    done = train(
        recipe,
        Machine(device="cpu", checkpoint_steps=2),
        folder=None if folder == "-" else folder,
        data=tiny_data(),
        watchers=[Announce()],
        progress=False,
    )
    alone = evaluate(done.model, tiny_data(), device="cpu")  # all images in each process
    found = {"model": done.model.state_dict(), "losses": done.losses, "top1": done.history[-1].top1}
    torch.save(found | {"alone": (alone.images, alone.top1)}, out)


def wait_for(child):
    _, status = os.waitpid(child, 0)
    say("end", child, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    for line in sys.stdin:
        folder, out, batch, *variables = line.split()
        child = os.fork()
        if child == 0:
            os.environ |= dict(variable.split("=", 1) for variable in variables)
            try:
                run(folder, out, batch)
            except BaseException as error:
                Path(out).write_text(repr(error))
                os._exit(1)
            os._exit(0)
        say("begin", child)
        threading.Thread(target=wait_for, args=(child,)).start()
