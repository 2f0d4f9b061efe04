"""A check marks an answer and never fails on a wrong one."""

import pytest

from mambaout import exercises
from mambaout.exercises import NotYet, Verdict, check, exercise


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    exercises.names()  # the chapters register theirs at the first call: into the real table, not into the copy
    monkeypatch.setattr(exercises, "_CHECKS", dict(exercises._CHECKS))

    @exercise("test.double")
    def _(answer) -> None:  # type: ignore[no-untyped-def]
        """twice is right."""
        if answer(3) == 9:
            raise NotYet("That is the square.")
        if answer(3) != 6:
            raise NotYet(f"double(3) gave {answer(3)}.")


def test_a_right_answer_is_praised() -> None:
    verdict = check("test.double", lambda x: 2 * x)
    assert verdict == Verdict(True, "twice is right.") and str(verdict) == "Right: twice is right."
    assert "admonition tip" in verdict._repr_html_()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x: x**2, "That is the square."),
        (lambda x: x, "double(3) gave 3."),
        (lambda x: x / 0, "Your answer stops with ZeroDivisionError: division by zero"),
        (None, "'NoneType' object is not callable"),
    ],
)
def test_a_wrong_answer_gets_a_hint(answer, hint: str) -> None:  # type: ignore[no-untyped-def]
    verdict = check("test.double", answer)
    assert not verdict.passed and hint in verdict.message
    assert str(verdict).startswith("Not yet: ")


def test_a_stub_is_told_what_to_do() -> None:
    def stub(x: int) -> int:
        raise NotImplementedError

    assert "Replace `raise NotImplementedError`" in check("test.double", stub).message


def test_text_is_escaped() -> None:
    assert "&lt;b&gt;" in Verdict(False, "<b>")._repr_html_()


def test_an_unknown_exercise_lists_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no exercise 'test\.duble'; did you mean test\.double"):
        check("test.duble", None)


def test_names_are_chapters_and_exercises() -> None:
    assert all(name.partition(".")[0] in (*exercises.CHAPTERS, "test") for name in exercises.names())
