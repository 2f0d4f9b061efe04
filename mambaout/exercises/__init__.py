"""Exercises that mark themselves: `check("memory.kv_bytes", my_function)` says what is wrong, or that all is right.

A check calls the reader's function on cases whose answers the library computes, and raises :class:`NotYet` with a hint
for the first that differs. Each chapter's checks stand in a module of its name.
"""

import difflib
import html
import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

CHAPTERS = ("memory", "token_mixing", "long_sequences", "training", "live", "hypothesis_1", "receptive_fields")

_CHECKS: dict[str, Callable[[Any], None]] = {}


class NotYet(Exception):  # noqa: N818 - not an error of the program: the answer is not right yet
    """The answer is not right; the message is a hint."""


@dataclass(frozen=True)
class Verdict:
    """What a check found; a notebook shows it as one line."""

    passed: bool
    message: str

    def __str__(self) -> str:
        return f"{'Right' if self.passed else 'Not yet'}: {self.message}"

    def _repr_html_(self) -> str:
        kind, word = ("tip", "Right") if self.passed else ("warning", "Not yet")
        return f'<div class="admonition {kind}"><p><strong>{word}.</strong> {html.escape(self.message)}</p></div>'


def exercise(name: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a check under "CHAPTER.NAME"; its docstring is what it says of a right answer."""

    def register(test: Callable[[Any], None]) -> Callable[[Any], None]:
        _CHECKS[name] = test
        return test

    return register


def number(found: Any, case: str) -> float:
    """The reader's one number, whatever its type, or a hint that names the case."""
    if isinstance(found, bool) or not isinstance(found, Real):
        raise NotYet(f"Return one number; for {case} came {type(found).__name__}.")
    return float(found)


def names() -> list[str]:
    """Every exercise that `check` knows."""
    for chapter in CHAPTERS:
        importlib.import_module(f"{__name__}.{chapter}")
    return sorted(_CHECKS)


def check(name: str, answer: Any) -> Verdict:
    """Mark the reader's answer to an exercise; never raises for a wrong answer.

    Raises:
        ValueError: there is no exercise of this name (the near ones are listed).
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise ValueError(f"There is no exercise {name!r}; did you mean {', '.join(near)}?")
    test = _CHECKS[name]
    try:
        test(answer)
    except NotYet as hint:
        return Verdict(False, str(hint))
    except NotImplementedError:
        return Verdict(False, "Replace `raise NotImplementedError` by your answer, and run the cell again.")
    except Exception as error:  # the reader's function failed: say where, in the reader's own code
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = last.line or f"line {last.lineno}"
        return Verdict(False, f"Your answer stops with {type(error).__name__}: {error} (at: {where}).")
    return Verdict(True, (test.__doc__ or "").strip())
