"""The command line, `mambaout`: one sub-command a task."""

import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.extras import SubcommandApp

from mambaout.training.loop import Diverged
from mambaout.training.recipe import DESCRIPTIONS, RECIPES, Machine, Recipe
from mambaout.training.signals import Interrupted

app = SubcommandApp()
MACHINE = Machine()

if TYPE_CHECKING:
    Chosen = Recipe
else:  # `train imagenet` and so on: one sub-command a recipe, whose fields are its defaults
    Chosen = tyro.extras.subcommand_type_from_defaults(RECIPES, DESCRIPTIONS, prefix_names=False)


@app.command
def fetch(
    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="")
    ] = (),
    released_weights: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="MODEL")
    ] = (),
) -> int:
    """Download the data files that are missing or broken, each verified against its SHA-256.

    Fashion-MNIST comes from its authors' address, every other file from the book's repository.

    Args:
        names: Files or folders of the data, such as fashion-mnist or paper/imagenet.csv. All by default.
        released_weights: Download the released weights of a model instead, such as mambaout_femto.
    """
    from mambaout.commands.fetch import fetch_data, fetch_weights

    problems = fetch_weights(released_weights)
    if names or not released_weights:
        problems += fetch_data(names)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


@app.command
def study(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    seeds: int | None = None,
    device: str = "auto",
    large: bool = False,
    only: str = "",
    stage: Literal["tuning", "comparison"] | None = None,
) -> int:
    """Run an experiment of the book: what its files in data/results lack, so that a stopped study goes on.

    First the learning rate of each variant is tuned, on seeds and images of its own, then the variants are compared,
    each at its best. Several processes may work on a study, each with --only:

      mambaout study recall --only attention
      mambaout study recall --only mamba

    Args:
        name: One of the modules in mambaout/studies that define a study, such as recall or causal_vit.
        seeds: Runs of each variant in the comparison; by default 5, and for a main pair as many as its precision needs.
        device: cpu, cuda, or auto: a GPU where there is one.
        large: Run the variants of a size for a GPU in place of those for two CPU cores.
        only: Run only the variants whose name contains this text.
        stage: Run only the tuning, or only the comparison of variants that are tuned.
    """
    from mambaout.studies.runner import execute, find_study

    print(execute(find_study(name), seeds=seeds, device=device, large=large, only=only, stage=stage))
    return 0


@app.command
def doctor(folder: Path | None = None) -> int:
    """Tell which versions, devices, data and weights are found, and what to do about what is missing.

    The exit code is 1 when something that the library needs is missing or broken.

    Args:
        folder: look at this folder of images for training instead, and read every one of them.
    """
    from mambaout.commands.doctor import examine, examine_folder, report

    findings = examine() if folder is None else examine_folder(folder)
    print(report(findings))
    return 1 if any(finding.broken for finding in findings) else 0


@app.command
def train(
    recipe: Annotated[Chosen, tyro.conf.arg(name="")],
    out: Path,
    machine: Annotated[Machine, tyro.conf.arg(name="")] = MACHINE,
    compare: bool = False,
) -> int:
    """Train a model by a recipe, or go on where a run stopped.

    Choose a recipe, and change in it what you like:
      mambaout train fashion_mnist --out runs/a --epochs 5 --augment.erase 0

    Your own images, in a folder for each class, with the released weights, and what these bring:
      mambaout train finetune --data.folder MINE --out runs/mine --compare

    After an interruption (Ctrl-C, or worse) the same command goes on, from the newest checkpoint in the folder. With
    more --epochs it continues a finished run, at the learning rates that a run of so many epochs has from there on.

    ImageNet on one GPU, the batch of 4096 in micro-batches of 256:
      mambaout train imagenet --out runs/b --data.folder IMAGENET --precision bf16 --micro-batch 256

    On eight GPUs:
      torchrun --nproc-per-node 8 -m mambaout train imagenet --out runs/b --data.folder IMAGENET --precision bf16

    `mambaout train RECIPE --help` lists all settings.

    Args:
        recipe: what to do.
        out: folder for checkpoints, metrics.csv, TensorBoard logs and the weights.
        machine: where to do it.
        compare: also train from scratch, and a linear probe of the weights that the training starts from; OUT/report.md
            has the three side by side.
    """
    from mambaout.commands.train import run_training

    run_training(recipe, machine, out, compare)
    return 0


@app.command
def evaluate(
    what: tyro.conf.Positional[str],
    data: str | None = None,
    folder: Path | None = None,
    image_size: int | None = None,
    architecture: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int = 256,
    workers: int = 8,
    whole: bool = False,
) -> int:
    """Top-1 and top-5 accuracy of a model, and that of each class.

    A run of your own knows its classes by name: a folder may have some of them only.

    Released weights on ImageNet (IMAGENET/val/CLASS/*.JPEG), and a run of your own on the test images of its data:
      mambaout evaluate mambaout_tiny --folder IMAGENET
      mambaout evaluate runs/a

    Args:
        what: a model with released weights, the folder of a training, or a file of weights.
        data: a set that the book carries, such as fashion_mnist. By default what the run learned from.
        folder: an image folder with val/CLASS/ in it, or CLASS/ alone.
        image_size: height and width of an image folder's crop (as in the training, else 224), or of clutter and stamps
            (64).
        architecture: the model that a file of weights belongs to, where the file does not say.
        device: where; auto takes the GPU if there is one.
        precision: of the forward pass.
        batch_size: images at once.
        workers: processes that decode the images of a folder.
        whole: all images of a folder without val/, not only the fifth that a training holds back.
    """
    from mambaout.commands.train import run_evaluation

    run_evaluation(what, data, folder, image_size, architecture, device, precision, batch_size, workers, whole)
    return 0


@app.command
def export(
    what: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    out: Path,
    weights: Path | None = None,
    image_size: int | None = None,
    live: bool = False,
) -> int:
    """Write a model as an ONNX file, compared with PyTorch by ONNX Runtime.

      mambaout export mambaout_fashion --out mambaout_fashion.onnx
      mambaout export runs/a --out mine.onnx
      mambaout export mambaout_tiny --weights mine.pth --out mine.onnx

    Args:
        what: a model with released weights, the folder of a training, or a file of weights.
        out: the file to write; with --live, a folder.
        weights: weights for the model, where they do not say themselves what they belong to.
        image_size: height and width of the images; what the model was trained at by default.
        live: write the two graphs that the book's page runs, class probabilities and receptive fields.
    """
    from mambaout.commands.export import run_export, run_live

    if live and (weights, image_size) != (None, None):
        raise ValueError("--live writes what the book's page runs; it takes no --weights or --image-size")
    run_live(what, out) if live else run_export(what, out, weights, image_size)
    return 0


@app.command
def predict(
    what: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE ...")],
    csv: Path | None = None,
    grid: Path | None = None,
    top: int = 5,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    batch_size: int = 64,
    workers: int = 4,
) -> int:
    """What a model takes pictures for: the most probable classes of each.

      mambaout predict mambaout_tiny cat.jpg dog.png
      mambaout predict runs/a holidays --csv holidays.csv --grid holidays.png

    Args:
        what: a model with released weights, the folder of a training, or a file of weights.
        images: pictures, and folders of pictures.
        csv: write the classes and probabilities of all pictures to this file.
        grid: draw the first pictures, as the model saw them, with their classes to this file (.png, .svg, .pdf).
        top: classes to tell of each picture.
        device: where; auto takes the GPU if there is one.
        batch_size: pictures at once.
        workers: processes that decode pictures.
    """
    from mambaout.commands.predict import run_predict

    run_predict(what, images, csv, grid, top, device, batch_size, workers)
    return 0


@app.command
def embed(
    what: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE ...")],
    out: Path,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    batch_size: int = 64,
    workers: int = 4,
) -> int:
    """Pictures as vectors, what a model's last layer reads of them: for search, clusters, a classifier of your own.

      mambaout embed mambaout_tiny holidays --out holidays.npz

    Args:
        what: a model with released weights, the folder of a training, or a file of weights.
        images: pictures, and folders of pictures.
        out: the file to write: .npz with the arrays "features" (N, D) and "pictures" (N,), or .csv.
        device: where; auto takes the GPU if there is one.
        batch_size: pictures at once.
        workers: processes that decode pictures.
    """
    from mambaout.commands.embed import run_embed

    run_embed(what, images, out, device, batch_size, workers)
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the exit code; `args` are those of the process by default."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows ASCII alone gets question marks, not an error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return app.cli(
            prog="mambaout",
            description="The tools of the MambaOut book: its data, its models and this computer.",
            args=args,
            config=(tyro.conf.CascadeSubcommandArgs,),  # `train RECIPE --out ...` as well as `train --out ... RECIPE`
        )
    except (ValueError, ModuleNotFoundError, Diverged, OSError) as error:  # the message is all that the user needs
        print(f"mambaout: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"mambaout: {stop if str(stop) else 'interrupted'}", file=sys.stderr)
        return 128 + (stop.signum if isinstance(stop, Interrupted) else signal.SIGINT)
