"""A book in the public domain, for reading character by character."""

import lzma

from mambaout.files.data import DataError, find


def moby_dick() -> str:
    """Herman Melville's *Moby-Dick; or, The Whale* (1851), chapters 1 to 135 and the epilogue: 1 191 160 characters.

    Paragraphs are single lines, an empty line between two.

    Raises:
        DataError: the file is missing, truncated or altered.
    """
    path = find("text/moby-dick.txt.xz")
    try:
        return lzma.decompress(path.read_bytes()).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be decompressed ({error}): run `mambaout fetch`.") from error
