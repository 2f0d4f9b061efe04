"""Write the repository's address where the book keeps it, and into the Colab cell of every chapter.

    python tools/repository.py https://github.com/OWNER/NAME    set it (`make repository URL=...`)
    python tools/repository.py --refresh                        write the cells anew for the address set
    python tools/repository.py --cell                           print the cell

The address stands in one place, `[project.urls] Repository` of pyproject.toml. The cells hold a copy, since
Colab opens a notebook without the files around it; tests/test_book.py compares them.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TAGS = ["remove-cell"]  # shown in Colab and Jupyter, left out of the built book

CELL = '''\
# Prepares Colab; does nothing anywhere else.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    from google.colab import output

    url, root = "{url}", "/content/mambaout-book"
    if not url:
        raise RuntimeError("This copy does not know where its code is. In a clone of the repository, run "
                           "`make repository URL=https://github.com/OWNER/NAME`, then reopen the chapter.")
    if not os.path.isdir(root):
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", url, root], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", f"{{root}}[book]"], check=True)
    sys.path.insert(0, root)  # the running kernel does not see an editable installation
    os.chdir(f"{{root}}/book")
    output.enable_custom_widget_manager()'''


def parse_url(text: str) -> str:
    """Return the address in its plain form.

    Raises:
        ValueError: it is not the address of a GitHub repository, which is where Colab can open notebooks.
    """
    plain = text.strip().removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[A-Za-z0-9](-?[A-Za-z0-9])*/[A-Za-z0-9._-]+", plain):
        raise ValueError(f"Expected an address like https://github.com/OWNER/NAME, got {text!r}.")
    return plain


def read_url(root: Path) -> str:
    """Return the address in pyproject.toml, or an empty string where there is none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "")


def write_url(root: Path, url: str) -> None:
    """Write the address into pyproject.toml, and leave the rest of the file as it is."""
    path = root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    line = f'Repository = "{url}"'
    if read_url(root):
        text = re.sub(r'^Repository = ".*"$', line, text, flags=re.MULTILINE)
    elif "[project.urls]" in text:
        text = text.replace("[project.urls]", f"[project.urls]\n{line}", 1)
    else:
        text = f"{text.rstrip()}\n\n[project.urls]\n{line}\n"
    path.write_text(text, encoding="utf-8")


def cell(url: str) -> str:
    """Return the source of the chapters' first code cell."""
    return CELL.format(url=url)


def refresh(notebook: Path, url: str) -> None:
    """Write the cell into a chapter: its first code cell is the one that prepares Colab."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    first = next(entry for entry in content["cells"] if entry["cell_type"] == "code")
    first["source"] = cell(url).splitlines(keepends=True)
    first["metadata"]["tags"] = TAGS
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Run the command line."""
    if arguments == ["--cell"]:
        print(cell(read_url(root)))
        return
    if arguments != ["--refresh"]:
        if len(arguments) != 1:
            raise ValueError("Expected one address: make repository URL=https://github.com/OWNER/NAME")
        write_url(root, parse_url(arguments[0]))
    for notebook in sorted((root / "book").glob("*.ipynb")):
        refresh(notebook, read_url(root))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
