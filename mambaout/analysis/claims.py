"""The claims ledger, `data/claims.yml`: what the paper says, what we found, and where each number stands."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from mambaout.files import read
from mambaout.files.data import DataError, data_dir, find, repository_root

PATH = data_dir() / "claims.yml"
STATUSES = ("reproduced", "scaled down", "quoted")


class LedgerError(ValueError):
    """The ledger cannot be read, or a number is not where it says. The message names claim or file."""


@dataclass(frozen=True)
class Value:
    """A number as the book prints it, and the cell of a CSV file that it comes from.

    Attributes:
        value: the printed number, such as "7.3"; its decimals are the digits that must agree with the file.
        unit: what stands behind it, such as "M parameters".
        file: a CSV file below `data/`.
        row: the cells that pick one row, {column: content}.
        column: the column of the number.
        scale: factor from the file's number to the printed one; 1e-6 prints a count in millions.
        minus: picks a second row, whose number is subtracted.
        over: picks a second row, by whose number it is divided.
    """

    value: str
    unit: str
    file: str
    row: dict[str, Any]
    column: str
    scale: float = 1
    minus: dict[str, Any] | None = None
    over: dict[str, Any] | None = None

    def from_file(self) -> Decimal:
        """The number in the file, not yet rounded.

        Raises:
            LedgerError: no row, several rows, no such column, or no number in the cell.
            DataError: the file is missing or broken.
        """
        number = self._cell(self.row)
        if self.minus is not None:
            number -= self._cell(self.minus)
        if self.over is not None:
            number /= self._cell(self.over)
        return number * Decimal(str(self.scale))

    def _cell(self, row: dict[str, Any]) -> Decimal:
        wanted = {column: str(content) for column, content in row.items()}
        rows = read.table(find(self.file), [*wanted, self.column])
        cells = [row[self.column] for row in rows if wanted.items() <= row.items()]
        if len(cells) != 1:
            raise LedgerError(f"{self.file} has {len(cells)} rows with {wanted}, expected one")
        try:
            return Decimal(cells[0])
        except InvalidOperation:
            raise LedgerError(f"{self.file} has {cells[0]!r} in {self.column} of {wanted}: no number") from None


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: how chapters refer to it: lower-case words and numbers with hyphens.
        claim: what is claimed.
        where: where it is claimed.
        chapter: the chapter that treats it.
        status: "reproduced", "scaled down" (measured in a smaller setting) or "quoted" (not measured here).
        evidence: page and section of the book, such as "mambaout.html#the-five-variants".
        paper: the claimed number; None where the claim is about a structure and gives none.
        ours: our number; None when the claim is quoted, or when the paper gives no number to compare with and the
            section named as evidence shows what was found.
    """

    id: str
    claim: str
    where: str
    chapter: str
    status: str = ""
    evidence: str = ""
    paper: Value | None = None
    ours: Value | None = None


def load() -> list[Claim]:
    """All claims, in the ledger's order.

    Raises:
        LedgerError: an entry lacks a field or has one that is not known.
        DataError: the ledger is missing.
    """
    path = find("claims.yml")
    entries = read.yaml(path)
    if not isinstance(entries, list):
        raise LedgerError(f"{path}: expected a list of claims, got {type(entries).__name__}")
    return [_claim(entry, f"claim {number}") for number, entry in enumerate(entries, start=1)]


def check(claims: Iterable[Claim]) -> list[str]:
    """What is wrong with these claims, a sentence each; an empty list when nothing is."""
    claims = list(claims)
    counts = Counter(claim.id for claim in claims)
    problems = [f'claim "{name}" stands {count} times' for name, count in counts.items() if count > 1]
    chapters = _chapters()
    for claim in claims:
        problems += [f'claim "{claim.id}": {problem}' for problem in _problems(claim, chapters)]
    return problems


def _problems(claim: Claim, chapters: set[str]) -> Iterable[str]:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", claim.id):
        yield "the id must be lower-case words and numbers with hyphens"
    if claim.status not in STATUSES:
        yield f'the status is "{claim.status}", expected one of {", ".join(STATUSES)}'
    elif claim.status == "quoted" and claim.ours is not None:
        yield 'the status is "quoted", but our number is given'
    elif claim.status == "quoted" and claim.paper is None:
        yield 'the status is "quoted", but the paper\'s number is missing'
    elif claim.status != "quoted" and claim.ours is None and claim.paper is not None:
        yield f'the status is "{claim.status}", but our number is missing'
    if chapters and claim.chapter not in chapters:
        yield f'there is no chapter "{claim.chapter}"; known: {", ".join(sorted(chapters))}'
    page = re.fullmatch(r"([\w-]+)\.html#[\w-]+", claim.evidence)
    if page is None:
        yield f'the evidence is "{claim.evidence}", expected one like "mambaout.html#the-five-variants"'
    elif chapters and page[1] not in chapters:
        yield f'the evidence lies on "{page[1]}.html", which is no page of the book'
    for side, value in (("paper", claim.paper), ("ours", claim.ours)):
        if value is not None and (problem := _differs(value)):
            yield f"{side}: {problem}"


def _differs(value: Value) -> str | None:
    """What is wrong with a printed number; None when it is the file's, rounded to the printed digits."""
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", value.value):
        return f'"{value.value}" is no number'
    try:
        number = value.from_file()
    except (LedgerError, DataError) as error:
        return str(error)
    digits = len(value.value.partition(".")[2])
    if number.quantize(Decimal(10) ** -digits, rounding=ROUND_HALF_UP) == Decimal(value.value):
        return None
    return f"printed as {value.value}, but {value.file} gives {number.normalize():f}"


def _chapters() -> set[str]:
    """The names of the book's pages; empty when the package has no checkout around it."""
    root = repository_root()
    return {page.stem for page in (root / "book").glob("*.*")} if root else set()


def _claim(entry: Any, label: str) -> Claim:
    if isinstance(entry, dict):
        label = f'claim "{entry.get("id", label)}"'
        sides = {side: entry[side] for side in ("paper", "ours") if side in entry}
        values = {side: Value(**_fields(Value, cell, f"{label}, {side}")) for side, cell in sides.items()}
        entry = entry | values
    return Claim(**_fields(Claim, entry, label))


def _fields(kind: type[Claim] | type[Value], entry: Any, label: str) -> dict[str, Any]:
    """The entry itself, once it has the fields of the dataclass `kind`."""
    if not isinstance(entry, dict):
        raise LedgerError(f"{label}: expected fields with contents, got {entry!r}")
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if missing := needed - entry.keys():
        raise LedgerError(f"{label}: {', '.join(sorted(missing))} missing")
    if unknown := entry.keys() - known:
        names = (", ".join(sorted(map(str, group))) for group in (unknown, known))
        raise LedgerError("{}: unknown field {}; known: {}".format(label, *names))
    for field in fields(kind):  # YAML reads 7.3 as a number, and 84.10 would lose its last digit
        if field.type is str and not isinstance(entry.get(field.name, ""), str):
            raise LedgerError(f"{label}: {field.name} must be text in quotes, got {entry[field.name]!r}")
    return entry
