"""Build an environment with other versions than the lock's, and run the library, the command line and the tests in it.

    python tools/versions.py oldest                    the lowest versions that pyproject.toml admits
    python tools/versions.py colab                     Colab's kind of versions (tools/colab.txt)
    python tools/versions.py newest --python 3.13      the newest of everything
    python tools/versions.py oldest --tests            the fast tests after the smoke run

Environments lie in _build/versions; uv, which links files from its cache, makes one in a minute or two.
"""

import argparse
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = {"oldest": "3.11", "colab": "3.12", "newest": "3.13"}
RESOLUTION = {
    "oldest": ["--resolution", "lowest-direct"],
    "colab": ["--constraint", "tools/colab.txt"],
    "newest": ["--upgrade"],
}
TEST_TOOLS = ("fvcore", "hypothesis", "mambapy", "pytest", "pytest-timeout", "timm")
# These need the book's tools or a browser, or measure what the lock's compilers make of the code.
LEFT_OUT = (
    "tests/test_book.py",
    "tests/test_repository.py",
    "tests/test_site.py",
    "tests/test_widget_host.py",
    "tests/widgets",
    "tests/kernels/test_scan_triton.py",
)


def uv(*arguments: str) -> None:
    """Run uv, the environment's own or the one on PATH."""
    own = Path(sys.executable).with_name("uv")
    subprocess.run([own if own.exists() else "uv", *arguments], cwd=ROOT, check=True)


def build(kind: str, python: str) -> Path:
    """Make the environment anew; returns its interpreter."""
    folder = ROOT / "_build" / "versions" / f"{kind}-{python}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    tools, lock = (folder.with_name(f"{folder.name}.{end}") for end in ("in", "txt"))
    tools.write_text("\n".join(line for line in extras["dev"] if line.partition(">")[0] in TEST_TOOLS), "utf-8")
    uv("venv", "--quiet", "--clear", "--python", python, str(folder))
    interpreter = folder / "bin" / "python"
    uv("pip", "compile", "--quiet", "--no-emit-index-url", "--python", str(interpreter), "--extra", "book",
       "pyproject.toml", str(tools), *RESOLUTION[kind], "--output-file", str(lock))  # fmt: skip
    uv("pip", "install", "--quiet", "--python", str(interpreter), "--requirement", str(lock))
    uv("pip", "install", "--quiet", "--python", str(interpreter), "--no-deps", "--editable", ".")
    return interpreter


def main() -> int:
    """Build, run, and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=RESOLUTION)
    parser.add_argument("--python", help="a version that uv finds here")
    parser.add_argument("--tests", action="store_true", help="run the fast tests after the smoke run")
    chosen = parser.parse_args()
    python = chosen.python or PYTHONS[chosen.kind]
    start = time.monotonic()
    interpreter = build(chosen.kind, python)
    print(f"{chosen.kind}, Python {python}: built in {time.monotonic() - start:.0f} s", flush=True)
    commands = [["tools/smoke.py"]]
    if chosen.tests:
        commands.append(["-m", "pytest", "-q", *(f"--ignore={path}" for path in LEFT_OUT)])
    for command in commands:
        start = time.monotonic()
        status = subprocess.run([interpreter, *command], cwd=ROOT, env=os.environ | {"CI": ""}, check=False).returncode
        print(f"{chosen.kind}, Python {python}: {command[-1]} {'failed' if status else 'passed'} "
              f"in {time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
