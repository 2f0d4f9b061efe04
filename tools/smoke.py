"""A short run through the library and the command line, in whatever versions are installed: `python tools/smoke.py`."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--epochs", "1", "--warmup-epochs", "0", "--device", "cpu", "--model.name", "mambaout_zepto",
        "--model.settings", "dims=(8,16)", "depths=(1,1)", "--data.subset", "257", "--data.holdout", "129"]  # fmt: skip


def mambaout(*arguments: str, **environment: str) -> str:
    """What the command prints; it must succeed, and warn of nothing that it does itself."""
    command = [sys.executable, "-m", "mambaout", *arguments]
    variables = os.environ | {"PYTHONWARNDEFAULTENCODING": "1"} | environment
    run = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", errors="replace")
    ours = [line for line in run.stderr.splitlines() if "EncodingWarning" in line and f"{ROOT / 'mambaout'}" in line]
    if ours:
        raise SystemExit(f"text without a named encoding: {ours[0]}")
    if run.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{run.stdout}{run.stderr}")
    return run.stdout


def commands(folder: Path) -> None:
    """Each sub-command once, on a folder whose name is not ASCII, and the help where the locale is."""
    for name in ("", "train", "evaluate", "export", "study", "fetch", "doctor"):
        mambaout(*filter(None, (name, "--help")), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    run, file = str(folder / "Läufe"), str(folder / "modèle.onnx")
    print(mambaout("train", "fashion_mnist", "--out", run, *TINY).strip())
    print(mambaout("evaluate", run, "--batch-size", "100", "--device", "cpu").splitlines()[0])
    print(mambaout("export", "mambaout_fashion", "--out", file).splitlines()[1])
    assert "as expected" in mambaout("doctor")


def chapters() -> None:
    """What each chapter imports is there."""
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        lines = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
        body = ast.parse(lines).body
        imports: list[ast.stmt] = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(notebook), "exec"), {})
    print("what the chapters import is there")


def library() -> None:
    """Numbers that depend on the versions: Eq. 6 as counted, and a model with the SSM, forward and backward."""
    import torch

    import mambaout as library
    from mambaout.studies.lengths import counted_coefficients

    linear, quadratic = counted_coefficients()
    assert abs(linear - 24) < 1e-6 and abs(quadratic - 4) < 1e-6, (linear, quadratic)
    model = library.create_model("visual_mamba_fashion", pretrained=True)
    model(torch.zeros(2, 1, 28, 28)).sum().backward()
    print(f"torch {torch.__version__}: Eq. 6 is counted as {linear:g} D^2 L + {quadratic:g} D L^2")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    library()
    chapters()
    with tempfile.TemporaryDirectory() as place:
        commands(Path(place))
