"""The programs that a chapter prints: its cells, the solutions of its exercises, and the stubs."""

import json
import re
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parents[1] / "book"


def sources(chapter: str, kind: str) -> list[str]:
    """The text of each cell of this kind, "code" or "markdown"."""
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def function(name: str, programs: list[str]) -> Any:
    """The one function of this name that the programs define."""
    (program,) = [program for program in programs if f"def {name}(" in program]
    space: dict[str, Any] = {}
    exec(program, space)
    return space[name]


def solution(chapter: str, name: str) -> Any:
    """The function as the chapter's solution defines it."""
    return function(name, re.findall(r"~~~python\n(.*?)~~~", "\n".join(sources(chapter, "markdown")), re.DOTALL))


def stub(chapter: str, name: str) -> Any:
    """The function as the chapter's code cell leaves it to the reader."""
    return function(name, ["from mambaout import exercises\n" + source for source in sources(chapter, "code")])
