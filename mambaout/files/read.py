"""Read files as if anybody could have written them: bounded in size, of the expected kind, errors in one sentence."""

import csv
import gzip
import io
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaout.files.data import DataError
from mambaout.files.transfer import why

if TYPE_CHECKING:
    import numpy as np

UNPACKED = 2**28  # bytes that a file may hold when it is unpacked: five times the largest of ours
DEPTH = 32  # of lists in lists in YAML, whose parser takes long for more
PIXELS = 2**24  # of one image of the book; photographs of a reader's own have Pillow's limit
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # what image folders have; no decoder beside these is tried


def unpack(path: Path) -> bytes:
    """The content of a .gz or .xz file.

    Raises:
        DataError: it is neither, is damaged, or would be larger than `UNPACKED`.
    """
    try:
        with (lzma if path.suffix == ".xz" else gzip).open(path, "rb") as file:
            content: bytes = file.read(UNPACKED + 1)
    except Exception as error:  # lzma, zlib, EOF and OS errors, each for another kind of damage
        raise DataError(f"{path} cannot be decompressed ({why(error)}): run `mambaout fetch`.") from error
    if len(content) > UNPACKED:
        raise DataError(f"{path} would unpack to more than {UNPACKED} bytes; it was not read.")
    return content


def text(content: bytes, path: Path) -> str:
    """The text in a file's content.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: byte {error.start} is no UTF-8 text.") from error


def table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has at least these columns.

    Raises:
        DataError: it is no such file; names the line.
    """
    reader = csv.DictReader(io.StringIO(text(path.read_bytes(), path), newline=""), strict=True)
    rows = []
    try:
        if missing := sorted(set(columns) - set(reader.fieldnames or ())):
            raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(reader.fieldnames or ())}.")
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}, line {reader.line_num}: expected {len(reader.fieldnames or ())} fields.")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from error
    return rows


def yaml(path: Path) -> Any:
    """The content of a YAML file without aliases, which could make a small file mean a huge one.

    Raises:
        DataError: it is no such file; names the line.
    """
    import yaml as library

    content = text(path.read_bytes(), path)
    try:
        depth = 0
        for event in library.parse(content, library.SafeLoader):
            depth += isinstance(event, library.CollectionStartEvent) - isinstance(event, library.CollectionEndEvent)
            if depth > DEPTH:
                raise DataError(f"{path} is nested more than {DEPTH} deep; it was not read.")
            if isinstance(event, library.AliasEvent):
                place: Any = event.start_mark
                raise DataError(f"{path}, line {place.line + 1}: aliases (*{event.anchor}) are not read.")
        return library.safe_load(content)
    except library.MarkedYAMLError as error:
        mark: Any = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}{where}: {error.problem or error.context}.") from error
    except (library.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no YAML that can be read: {why(error)}.") from error


def image(path: Path, mode: str) -> "np.ndarray":
    """The pixels (H, W) or (H, W, C) of one of the book's images, uint8, in Pillow's mode: "L", "RGB" or "RGBA".

    Raises:
        DataError: it is damaged, of another format, or larger than `PIXELS`.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > PIXELS:
                raise DataError(f"{path} has {opened.width} x {opened.height} pixels, expected at most {PIXELS}.")
            return np.array(opened.convert(mode))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise DataError(f"{path} cannot be decoded as an image: {why(error)}.") from error
