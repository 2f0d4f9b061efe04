"""Every chapter is complete, committed without outputs, and its numbers are those of the ledger."""

import json
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import prose
import pytest
import yaml

from mambaout import cli
from mambaout.analysis import claims

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(ROOT / "tools"))

import repository  # noqa: E402

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
# The chapters proper are those of the numbered parts, without the first page and the reference pages.
NUMBERED = [part for part in TOC["parts"] if part.get("numbered")]
CHAPTERS = [Path(chapter["file"]).name for part in NUMBERED for chapter in part["chapters"]]
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
PAGES = sorted([*NOTEBOOKS, *BOOK.glob("*.md")])


@cache
def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook; a Markdown page is one cell."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return [{"cell_type": "markdown", "source": text}]
    return [{**cell, "source": "".join(cell["source"])} for cell in json.loads(text)["cells"]]


@cache
def read(path: Path) -> prose.Prose:
    return prose.read("\n\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown"))


def headings(path: Path) -> list[str]:
    markdown = "\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown")
    return re.findall(r"^#+ +(.*)$", markdown, re.MULTILINE)


def name(path: Path) -> str:
    return path.name


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = {TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])}
    assert {f"book/{path.stem}" for path in PAGES} == listed
    assert CHAPTERS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
class TestNotebook:
    def test_is_committed_without_outputs(self, path: Path) -> None:
        for cell in cells(path):
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [] and cell["execution_count"] is None, cell["source"]

    def test_first_code_cell_prepares_colab(self, path: Path) -> None:
        first = next(cell for cell in cells(path) if cell["cell_type"] == "code")
        expected = repository.cell(repository.read_url(ROOT))
        assert first["source"] == expected, "run: .venv/bin/python tools/repository.py --refresh"
        assert first["metadata"]["tags"] == repository.TAGS

    def test_runs_on_any_python_3_kernel(self, path: Path) -> None:
        assert json.loads(path.read_text("utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("chapter", CHAPTERS)
class TestChapter:
    def test_has_its_parts(self, chapter: str) -> None:
        path = BOOK / f"{chapter}.ipynb"
        text = "\n".join(read(path).text)
        titles = headings(path)
        for part in ("What you will learn", "Summary", "Exercises", "Sources"):
            assert any(part.lower() in title.lower() for title in titles) or part in text, f"no {part!r}"
        assert "Prerequisites" in text or "Prerequisites" in titles
        assert re.search(r"\d+ minutes", text), "no reading time in minutes"

    def test_every_exercise_has_a_solution(self, chapter: str) -> None:
        source = "\n".join(cell["source"] for cell in cells(BOOK / f"{chapter}.ipynb"))
        exercises = re.findall(r"\{exercise(?:-start)?\}.*\n:label: *(\S+)", source)
        solutions = re.findall(r"\{solution(?:-start)?\} *(\S+)", source)
        assert exercises and sorted(exercises) == sorted(solutions)

    def test_shows_the_status_of_its_claims(self, chapter: str) -> None:
        assert read(BOOK / f"{chapter}.ipynb").boxed_claims, "no {claims} box"


@pytest.mark.parametrize("path", PAGES, ids=name)
class TestNumbers:
    def test_links_to_claims_print_the_ledgers_numbers(self, path: Path) -> None:
        ledger = {claim.id: claim for claim in claims.load()}
        for text, target in read(path).claim_links:
            claim_id, _, side = target.partition(":")
            assert claim_id in ledger, f"the ledger has no claim {claim_id!r}"
            assert side in ("", "ours"), f"expected {claim_id} or {claim_id}:ours, got {target}"
            value = ledger[claim_id].ours if side else ledger[claim_id].paper
            assert value is not None, f"[{text}](claim:{target}): a quoted claim has no number of ours"
            assert text == value.value, f"[{text}](claim:{target}): the ledger says {value.value}"

    def test_boxes_name_claims_of_the_ledger(self, path: Path) -> None:
        assert set(read(path).boxed_claims) <= {claim.id for claim in claims.load()}

    def test_no_decimal_number_stands_without_a_source(self, path: Path) -> None:
        loose = read(path).decimals()
        assert not loose, "write [7.3](claim:ID) or print it from a cell: " + " | ".join(loose)


def test_the_first_page_shows_the_whole_ledger() -> None:
    assert "claims-table" in read(BOOK / "index.ipynb").directives


class TestReadingProse:
    """The rule for numbers must itself catch what it is there for."""

    @pytest.mark.parametrize(
        "markdown",
        [
            "It reaches 82.7 % here.",
            "**82.7**",
            "| model | top-1 |\n|---|---|\n| Tiny | 82.7 |",
            "```{note}\nIt reaches 82.7 %.\n```",
            ":::{dropdown} Speed 1.4x\nFast.\n:::",
            "````{exercise}\n:label: ex-one\n```{hint}\nAbout 3.5.\n```\n````",
            "- one\n- takes 0.7 s",
        ],
    )
    def test_loose_decimals_are_found(self, markdown: str) -> None:
        assert len(prose.read(markdown).decimals()) == 1

    @pytest.mark.parametrize(
        "markdown",
        [
            "`x = 0.5` and $\\alpha = 0.5$ and $$0.5$$",
            "```python\nx = 0.5\n```",
            "```{math}\n:label: eq-one\n0.5\n```",
            "{cite:p}`yu2025` in [arXiv 2405.07992](https://arxiv.org/abs/2405.07992)",
            "Sections 3.1, 3.2 and 4.2, Python 3.11, PyTorch 2.6, CC BY 4.0",
            "[82.7](claim:top1-tiny)",
        ],
    )
    def test_sourced_ones_are_not(self, markdown: str) -> None:
        assert prose.read(markdown).decimals() == []

    def test_claims_are_collected(self) -> None:
        page = prose.read("[82.7](claim:top1-tiny) and **[7.3](claim:p:ours)**\n\n```{claims} a b\n```")
        assert page.claim_links == [("82.7", "top1-tiny"), ("7.3", "p:ours")]
        assert page.boxed_claims == ["a", "b"]


def solution_programs() -> list[Any]:
    """Every Python program inside a solution, with the label of its exercise."""
    programs = []
    for path in NOTEBOOKS:
        for cell in cells(path):
            for label, body in re.findall(
                r"```\{solution\} (\S+)\n(.*?)^```$", cell["source"], re.DOTALL | re.MULTILINE
            ):
                programs += [
                    pytest.param(code, id=label) for code in re.findall(r"~~~python\n(.*?)~~~", body, re.DOTALL)
                ]
    return programs


@pytest.mark.parametrize("program", solution_programs())
def test_programs_in_solutions_run_and_hold(program: str) -> None:
    """They carry their own assertions."""
    assert "assert" in program
    exec(program, {"__name__": "solution"})


def test_there_are_programs_in_solutions() -> None:
    assert len(solution_programs()) >= 4


SUBCOMMANDS = ("train", "evaluate", "export", "study", "fetch")


def commands() -> list[Any]:
    """Every call of the command line that a page prints, as its arguments."""
    found = {}
    for path in PAGES:
        text = "\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown")
        text = text.replace("\\\n", " ")
        lines = re.findall(r"^ *!?((?:torchrun .*-m )?mambaout [a-z].*)$", text, re.MULTILINE)
        for line in [*lines, *re.findall(r"`((?:torchrun .*-m )?mambaout [a-z][^`]*)`", text)]:
            arguments = shlex.split(line.partition("mambaout ")[2], comments=True)
            if arguments[1:] and arguments[0] in SUBCOMMANDS:
                found[f"{path.stem}: {' '.join(arguments)}"] = arguments
    return [pytest.param(arguments, id=name) for name, arguments in found.items()]


@pytest.mark.parametrize("arguments", commands())
def test_printed_commands_are_understood(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for module, function in (
        ("commands.train", "run_training"), ("commands.train", "run_evaluation"), ("commands.export", "run_export"),
        ("commands.export", "run_live"), ("studies.runner", "execute"),
    ):  # fmt: skip
        monkeypatch.setattr(f"mambaout.{module}.{function}", lambda *_, f=function, **__: called.append(f))
    for function in ("fetch_data", "fetch_weights"):
        monkeypatch.setattr(f"mambaout.commands.fetch.{function}", lambda *_, f=function: called.append(f) or [])
    assert "--help" in arguments or (cli.main(arguments) == 0 and called)
