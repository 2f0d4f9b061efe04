"""Run all benchmarks: a JSON file and a Markdown table in ``benchmarks/results/``, named after the device."""

import argparse
import datetime
import importlib.util
import json
from pathlib import Path

import torch

from benchmarks import imports, models, receptive_field, roofline, scan
from mambaout.studies.record import device_name

RESULTS = Path(__file__).with_name("results")


def markdown(machine: dict[str, str], rows: list[dict[str, object]]) -> str:
    """The rows as a table; a missed target is said."""
    lines = [", ".join(f"{key} {value}" for key, value in machine.items()), "",
             "| what | case | device | ours | peer | ratio | target |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        target = row["target"]
        met = "" if target is None else f"{target} {'met' if row['ratio'] >= target else '**missed**'}"  # type: ignore[operator]
        lines.append(f"| {row['name']} | {row['case']} | {row['device']} | {row['ours']:.4g} {row['unit']} "
                     f"| {row['peer']:.4g} {row['unit']} | {row['ratio']:.2f}x | {met} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and runs; nothing is written")
    quick = parser.parse_args().quick
    machine = {
        "processor": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    if torch.cuda.is_available():
        machine["GPU"] = torch.cuda.get_device_name()
    rows: list[dict[str, object]] = []
    for part in (imports, models, receptive_field, scan):
        print(f"{part.__name__} ...", flush=True)
        rows += part.run(quick)
    table = markdown(machine, rows)
    if importlib.util.find_spec("triton") is not None:
        table += f"\nThe least time that the scan's kernels need on a GPU, by its data sheet:\n\n{roofline.table()}"
    print(table)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        name = "cuda" if torch.cuda.is_available() else "cpu"
        (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(table, "utf-8")


if __name__ == "__main__":
    main()
