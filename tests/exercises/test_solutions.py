"""Each marked exercise stands in its chapter: the printed solution passes, and the stub is told what to do."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mambaout import exercises
from mambaout.exercises import check, names

BOOK = Path(__file__).parents[2] / "book"
CALL = re.compile(r'exercises\.check\("([\w.]+)", (\w+)\)')


@cache
def programs(chapter: str) -> tuple[list[str], list[str]]:
    """What the chapter's solutions print, and its code cells."""
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    texts = {kind: ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind] for kind in
             ("markdown", "code")}  # fmt: skip
    return re.findall(r"~~~python\n(.*?)~~~", "\n".join(texts["markdown"]), re.DOTALL), texts["code"]


def function(name: str, among: list[str]) -> tuple[str, Any]:
    """The name of the function that the one program checks under this name, and the function."""
    (program,) = [program for program in among if name in dict(CALL.findall(program))]
    called = dict(CALL.findall(program))[name]
    space: dict[str, Any] = {"exercises": exercises}
    exec(program, space)
    return called, space[called]


@pytest.mark.parametrize("name", names())
def test_the_solution_passes_and_the_stub_is_told_what_to_do(name: str) -> None:
    printed, cells = programs(name.partition(".")[0])
    solution, stub = function(name, printed), function(name, cells)
    assert solution[0] == stub[0], "solution and stub name the same function"
    verdict = check(name, solution[1])
    assert verdict.passed and verdict.message, verdict
    verdict = check(name, stub[1])
    assert not verdict.passed and "Replace `raise NotImplementedError`" in verdict.message


def test_chapters_check_no_other_exercises() -> None:
    called = {name for path in BOOK.glob("*.ipynb") for name, _ in CALL.findall("\n".join(programs(path.stem)[1]))}
    assert called == set(names())
