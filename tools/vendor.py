"""Refresh the JavaScript libraries kept in the repository, so that readers need neither Node nor a network.

    .venv/bin/python tools/vendor.py

Needs npm. The versions stand here; each library keeps its licence beside it.
"""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ["mathjax@3.2.2", "axe-core@4.14.1", "onnxruntime-web@1.30.0"]

FILES = {
    # TeX input and HTML output, with the fonts, and the extensions that a rare command loads on demand.
    "mathjax/es5/tex-chtml.js": "book/site/lib/mathjax/tex-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "book/site/lib/mathjax/output/chtml/fonts/woff-v2",
    "mathjax/es5/input/tex/extensions": "book/site/lib/mathjax/input/tex/extensions",
    "mathjax/LICENSE": "book/site/lib/mathjax/LICENSE",
    # The accessibility checker of the browser tests.
    "axe-core/axe.min.js": "tests/vendor/axe-core/axe.min.js",
    "axe-core/LICENSE": "tests/vendor/axe-core/LICENSE",
    # Runs models in the page. Not below book/site: the book's extension cuts it into parts that load on demand.
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs": "book/lib/onnxruntime/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "book/lib/onnxruntime/ort-wasm-simd-threaded.wasm.gz",
}
# The npm package of ONNX Runtime comes without its licence and notices; the Python package has them.
PYTHON_FILES = {
    "LICENSE": "book/lib/onnxruntime/LICENSE",
    "ThirdPartyNotices.txt": "book/lib/onnxruntime/ThirdPartyNotices.txt.gz",
}


def main() -> None:
    """Install the packages into a temporary folder and copy what the book uses."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "install", "--no-save", "--ignore-scripts", *PACKAGES], cwd=folder, check=True)
        for source, target in FILES.items():
            origin, copy = Path(folder, "node_modules", source), ROOT / target
            if origin.is_dir():
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(origin, copy)
            else:
                copy_file(origin, copy)
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise SystemExit("The licence of ONNX Runtime comes from its Python package: run this with .venv/bin/python.")
    for source, target in PYTHON_FILES.items():
        copy_file(Path(spec.origin).with_name(source), ROOT / target)


def copy_file(origin: Path, copy: Path) -> None:
    """Copy a file; to a name that ends in .gz, compress it on the way (the same bytes each time)."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if copy.suffix == ".gz" != origin.suffix:
        copy.write_bytes(gzip.compress(origin.read_bytes(), compresslevel=9, mtime=0))
    else:
        shutil.copyfile(origin, copy)


if __name__ == "__main__":
    main()
