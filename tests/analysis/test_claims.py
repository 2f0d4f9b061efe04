"""The claims ledger."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mambaout.analysis import claims
from mambaout.analysis.claims import Claim, LedgerError, Value
from mambaout.files import data as files

PAPER = Value("82.7", "%", "paper/models.csv", {"model": "MambaOut-Tiny"}, "top1_224")
CLAIM = Claim(
    id="top1-tiny",
    claim="Accuracy of MambaOut-Tiny.",
    where="Table 1",
    chapter="api",  # a page that the book has
    paper=PAPER,
    status="quoted",
    evidence="api.html#models",
)


def test_the_ledger_is_right() -> None:
    assert claims.check(claims.load()) == []


def test_kobe_is_not_attributed_to_the_paper() -> None:
    kobe = [claim for claim in claims.load() if "Kobe" in claim.claim and not claim.id.startswith("timm")]
    assert kobe and all("not in the paper" in claim.where for claim in kobe)


def test_a_good_claim_has_no_problem() -> None:
    assert claims.check([CLAIM]) == []
    assert claims.check([replace(CLAIM, paper=None, status="reproduced")]) == []  # about a structure, not a number


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"status": ""}, 'status is ""'),
        ({"status": "proven"}, 'status is "proven"'),
        ({"evidence": ""}, 'evidence is ""'),
        ({"evidence": "api.html"}, "evidence"),
        ({"evidence": "nowhere.html#here"}, "no page of the book"),
        ({"chapter": "nowhere"}, 'no chapter "nowhere"'),
        ({"id": "Top 1"}, "lower-case"),
        ({"status": "reproduced"}, "our number is missing"),
        ({"ours": PAPER}, "our number is given"),
        ({"paper": None}, "the paper's number is missing"),
        ({"paper": replace(PAPER, value="82.8")}, "paper: printed as 82.8, but paper/models.csv gives 82.7"),
        ({"paper": replace(PAPER, value="82.70001")}, "printed as 82.70001"),
        ({"paper": replace(PAPER, value="about 83")}, "no number"),
        ({"paper": replace(PAPER, file="paper/model.csv")}, "no data file"),
        ({"paper": replace(PAPER, column="top1")}, "no column top1"),
        ({"paper": replace(PAPER, row={"variant": "x"})}, "no column variant"),
        ({"paper": replace(PAPER, row={"model": "MambaOut-Huge"})}, "0 rows"),
        ({"paper": replace(PAPER, row={"mlp_ratio": "8/3"})}, "5 rows"),
        ({"paper": replace(PAPER, column="activation")}, "no number"),
    ],
)
def test_a_wrong_claim_is_reported(change: dict[str, Any], expected: str) -> None:
    problems = claims.check([replace(CLAIM, **change)])
    assert len(problems) == 1 and expected in problems[0]
    assert f'claim "{change.get("id", CLAIM.id)}"' in problems[0]


def test_a_wrong_number_of_ours_is_reported() -> None:
    claim = replace(CLAIM, status="reproduced", ours=replace(PAPER, value="80.0"))
    assert claims.check([claim]) == [
        'claim "top1-tiny": ours: printed as 80.0, but paper/models.csv gives 82.7'
    ]


def test_an_id_stands_once() -> None:
    assert claims.check([CLAIM, CLAIM]) == ['claim "top1-tiny" stands 2 times']


@pytest.mark.parametrize(
    ("value", "scale", "good"),
    [("1.2", 1e-9, True), ("1.16", 1e-9, True), ("1.1", 1e-9, False), ("1162", 1e-6, True)],
)
def test_rounding_to_the_printed_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, scale: float, good: bool
) -> None:
    (tmp_path / "data/results").mkdir(parents=True)
    (tmp_path / "data/results/costs.csv").write_text("variant,metric,value\nfemto,macs,1161999999\n")
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    paper = Value(
        value, "G MACs", "results/costs.csv", {"variant": "femto", "metric": "macs"}, "value", scale
    )
    assert (claims.check([replace(CLAIM, paper=paper)]) == []) == good


def test_differences_and_ratios() -> None:
    small = Value("84.1", "%", "paper/imagenet.csv", {"model": "MambaOut-Small"}, "top1_224")
    other = {"model": "LocalVMamba-S"}
    assert replace(small, minus=other).from_file() == Decimal("0.4")
    share = replace(small, column="macs_G", over=other, scale=100).from_file()
    assert round(share, 2) == Decimal("78.95")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("- {claim: x}", 'claim "claim 1": chapter, id, where missing'),
        ("- {id: a, claim: x, where: y, chapter: z, paper: 7}", 'claim "a", paper: expected fields'),
        ("- {id: a, claim: x, where: y, chapter: z, paper: {value: '7'}}", 'claim "a", paper: column, file'),
        (
            "- {id: a, claim: x, where: y, chapter: z, page: 3, paper:"
            " {value: '7', unit: M, file: f, row: {}, column: c}}",
            'claim "a": unknown field page',
        ),
        (
            "- {id: a, claim: x, where: y, chapter: z, paper:"
            " {value: 84.10, unit: M, file: f, row: {}, column: c}}",
            'claim "a", paper: value must be text in quotes, got 84.1',
        ),
        ("- only text", "claim 1: expected fields"),
    ],
)
def test_an_unreadable_claim_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, expected: str
) -> None:
    ledger = tmp_path / "claims.yml"
    ledger.write_text(entry)
    monkeypatch.setattr(claims, "find", lambda name: ledger)
    with pytest.raises(LedgerError, match=expected):
        claims.load()
