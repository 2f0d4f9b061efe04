"""Refresh the JavaScript libraries kept in the repository, so that readers need neither Node nor a network.

    python tools/vendor.py

Needs npm. The versions stand here; each library keeps its licence beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ["mathjax@3.2.2", "axe-core@4.14.1"]

FILES = {
    # TeX input and HTML output, with the fonts, and the extensions that a rare command loads on demand.
    "mathjax/es5/tex-chtml.js": "book/site/lib/mathjax/tex-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "book/site/lib/mathjax/output/chtml/fonts/woff-v2",
    "mathjax/es5/input/tex/extensions": "book/site/lib/mathjax/input/tex/extensions",
    "mathjax/LICENSE": "book/site/lib/mathjax/LICENSE",
    # The accessibility checker of the browser tests.
    "axe-core/axe.min.js": "tests/vendor/axe-core/axe.min.js",
    "axe-core/LICENSE": "tests/vendor/axe-core/LICENSE",
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
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin, copy)


if __name__ == "__main__":
    main()
