from pathlib import Path

import pytest

from mambaout.datasets import DataError, text


def test_the_whole_book_is_there() -> None:
    book = text.moby_dick()
    assert len(book) == 1_191_160
    assert book.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael. Some years ago—never mind how long precisely")
    assert book.endswith("only found another orphan.\n")
    assert all(f"CHAPTER {n}. " in book for n in range(1, 136))
    assert len(set(book)) == 81 and book.isascii() is False  # letters, digits, marks and the long dash


def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "moby-dick.txt.xz"
    broken.write_bytes(b"no xz")
    monkeypatch.setattr(text, "find", lambda name: broken)
    with pytest.raises(DataError, match=r"moby-dick.txt.xz cannot be decompressed .*mambaout fetch"):
        text.moby_dick()
