"""A book in the public domain, for reading character by character."""

from mambaout.files import read
from mambaout.files.data import find


def moby_dick() -> str:
    """Herman Melville's *Moby-Dick; or, The Whale* (1851), chapters 1 to 135 and the epilogue: 1 191 160 characters.

    Paragraphs are single lines, an empty line between two.

    Raises:
        DataError: the file is missing, truncated or altered.
    """
    path = find("text/moby-dick.txt.xz")
    return read.text(read.unpack(path), path)
