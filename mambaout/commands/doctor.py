"""`mambaout doctor`: which versions, devices, data and weights are found, and what to do about the rest."""

import importlib.util
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mambaout.files import data as files


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: the heading that it belongs under.
        name: what was looked for.
        found: what was found.
        cure: what to do about it; empty when nothing is to be done.
        broken: the library cannot work like this.
    """

    topic: str
    name: str
    found: str
    cure: str = ""
    broken: bool = False


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_versions(), *_devices(), *_data(), *_weights()]


def examine_folder(folder: Path) -> list[Finding]:
    """Look at every image of a folder before it is trained on.

    Raises:
        ValueError: it is no folder that a training could use.
    """
    from mambaout.training.decode import find_damaged
    from mambaout.training.folders import read_folder
    from mambaout.training.recipe import Data

    found = read_folder(Data(folder=folder))
    names = [name for name, _ in (*found.train, *found.val)]
    findings = [Finding("Folder", "images", str(found))]
    for label, name in enumerate(found.classes):
        counts = [sum(place == label for _, place in part) for part in (found.train, found.val)]
        findings.append(Finding("Classes", name, f"{counts[0]} training and {counts[1]} test images"))
    cure = "replace it, remove it, or train with --data.skip-damaged"
    damaged = [Finding("Damaged", name, problem, cure, True) for name, problem in find_damaged(folder, names)]
    return [*findings, *damaged] if damaged else [*findings, Finding("Damaged", "none", f"{len(names)} can be read")]


def report(findings: list[Finding]) -> str:
    """The findings as text: a heading for each topic, aligned lines, and the cure under what needs one."""
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            lines += ["", topic] if lines else [topic]
        lines.append(f"  {finding.name:<{width}}  {finding.found}")
        if finding.cure:
            lines.append(f"  {'':<{width}}  -> {finding.cure}")
    return "\n".join(lines)


def _versions() -> Iterator[Finding]:
    yield Finding("Versions", "python", platform.python_version())
    try:
        requirements = metadata.requires("mambaout") or []
        yield Finding("Versions", "mambaout", metadata.version("mambaout"))
    except metadata.PackageNotFoundError:
        yield Finding(
            "Versions", "mambaout", "not installed", "in the clone, run `pip install -e .`", broken=True
        )
        return
    for requirement in requirements:
        # For example: torch>=2.6, or: pandas>=2.2; extra == 'book'
        match = re.match(r"([\w.-]+)>=([\d.]+)(?:.*extra == ['\"](\w+)['\"])?", requirement)
        if match is None or match[3] not in (None, "export", "train", "book"):
            continue
        package, floor, extra = match.groups()
        target = f"mambaout[{extra}]" if extra else "mambaout"
        cure = f"run `pip install --upgrade '{package}>={floor}'`"
        purposes = {"export": "for ONNX files", "train": "for training", "book": "for the chapters"}
        needed_by = f" ({purposes[extra]}: {target})" if extra else ""
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding("Versions", package, f"not installed{needed_by}", cure, broken=not extra)
            continue
        if _numbers(version) < _numbers(floor):
            yield Finding("Versions", package, f"{version}, too old{needed_by}", cure, broken=not extra)
        else:
            yield Finding("Versions", package, version)


def _numbers(version: str) -> tuple[int, ...]:
    """2.15.0+cu132 -> (2, 15, 0)"""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _devices() -> Iterator[Finding]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("Devices", "CPU", f"{torch.get_num_threads()} threads, {capability}")
    if importlib.util.find_spec("numba"):
        yield Finding("Devices", "numba", "found: on the CPU the scan is one fused kernel")
    else:
        yield Finding(
            "Devices", "numba", "not installed: on the CPU the scan runs in plain PyTorch", "run `pip install numba`"
        )
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "with" if torch.cuda.is_bf16_supported() else "without"
        yield Finding(
            "Devices", f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {bf16} bf16"
        )
    if not torch.cuda.is_available():
        yield Finding("Devices", "CUDA", "no GPU that this PyTorch can use")
    yield Finding("Devices", "MPS", "available" if torch.backends.mps.is_available() else "none")
    if importlib.util.find_spec("triton"):
        yield Finding("Devices", "triton", "found")
    elif torch.cuda.is_available():
        yield Finding(
            "Devices", "triton", "not installed: the scan runs in plain PyTorch", "run `pip install triton`"
        )
    else:
        yield Finding("Devices", "triton", "not installed; only a CUDA device uses it")


def _data() -> Iterator[Finding]:
    yield Finding("Data", "folder", str(files.data_dir()))
    in_checkout = files.repository_root() is not None
    good = 0
    for entry in files.manifest().values():
        problem = files.check(entry)
        if problem is None:
            good += 1
        elif in_checkout or (files.data_dir() / entry.name).exists():
            yield Finding("Data", entry.name, problem, f"run `mambaout fetch {entry.name}`", broken=True)
    total = len(files.manifest())
    missing = "" if in_checkout else "; others are downloaded when they are first asked for"
    yield Finding("Data", "files", f"{good} of {total} as expected{missing if good < total else ''}")


def _weights() -> Iterator[Finding]:
    from mambaout.files.download import checkpoint_path
    from mambaout.models.released import problem
    from mambaout.models.weights import RELEASED

    paths = {name: checkpoint_path(url) for name, url in RELEASED.items()}
    absent = [name for name, path in paths.items() if not path.is_file()]
    for name, path in paths.items():
        if name in absent:
            yield Finding("Released weights", name, "not downloaded")
        elif wrong := problem(name):
            cure = f"run `mambaout fetch --released-weights {name}`"
            yield Finding("Released weights", name, wrong, cure, broken=True)
        else:
            yield Finding("Released weights", name, f"{path}, verified")
    if absent:
        cure = f"run `mambaout fetch --released-weights {absent[0]}`"
        yield Finding("Released weights", "optional", "only `pretrained=True` needs them", cure)
