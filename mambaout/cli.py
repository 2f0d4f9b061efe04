"""The command line, `mambaout`: one sub-command a task."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.extras import SubcommandApp

app = SubcommandApp()


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
    seeds: int = 5,
    device: str = "auto",
    large: bool = False,
    only: str = "",
) -> int:
    """Run an experiment of the book: what its file in data/results lacks, so that a stopped study goes on.

    Args:
        name: One of the modules in mambaout/studies that define a study, such as recall or causal_vit.
        seeds: Runs of each variant.
        device: cpu, cuda, or auto: a GPU where there is one.
        large: Run the variants of a size for a GPU in place of those for two CPU cores.
        only: Run only the variants whose name contains this text.
    """
    from mambaout.studies.runner import execute, find_study

    print(execute(find_study(name), seeds=seeds, device=device, large=large, only=only))
    return 0


@app.command
def doctor() -> int:
    """Tell which versions, devices, data and weights are found, and what to do about what is missing.

    The exit code is 1 when something that the library needs is missing or broken.
    """
    from mambaout.commands.doctor import examine, report

    findings = examine()
    print(report(findings))
    return 1 if any(finding.broken for finding in findings) else 0


def main(args: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the exit code; `args` are those of the process by default."""
    try:
        return app.cli(
            prog="mambaout",
            description="The tools of the MambaOut book: its data, its models and this computer.",
            args=args,
        )
    except ValueError as error:  # bad input and broken data: the message is all that the user needs
        print(f"mambaout: {error}", file=sys.stderr)
        return 1
