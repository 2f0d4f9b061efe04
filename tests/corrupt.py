"""Damage that a seed decides: what disks, transfers and strangers do to files."""

import random
from collections.abc import Iterator

JUNK = (b"", b"\0" * 64, b"PK\x03\x04", b"<!doctype html>", b"\xff\xfe\xfd", b"\x80\x04c__builtin__\neval\n", b"9" * 40)


def corrupted(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged forms of a file's content, each unlike it."""
    chance = random.Random(seed)
    made = 0
    while made < count:
        damaged = chance.choice(DAMAGES)(bytearray(content), chance)
        if damaged != content:
            made += 1
            yield bytes(damaged)


def flip(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 1, 8, 64))):
        content[_place(content, chance)] ^= 1 << chance.randrange(8)
    return content


def set_byte(content: bytearray, chance: random.Random) -> bytearray:
    content[_place(content, chance)] = chance.choice((0, 0xFF, ord('"'), ord(","), ord("\n"), ord("-"), ord("&")))
    return content


def cut(content: bytearray, chance: random.Random) -> bytearray:
    return content[: _place(content, chance)]


def lose(content: bytearray, chance: random.Random) -> bytearray:
    start = _place(content, chance)
    del content[start : start + chance.choice((1, 4, 512))]
    return content


def repeat(content: bytearray, chance: random.Random) -> bytearray:
    start = _place(content, chance)
    part = content[start : start + chance.choice((1, 8, 4096))]
    return content[:start] + part * chance.choice((1, 3)) + content[start:]


def blank(content: bytearray, chance: random.Random) -> bytearray:
    start = _place(content, chance)
    end = min(len(content), start + chance.choice((4, 512, 4096)))
    content[start:end] = bytes(end - start)
    return content


def insert(content: bytearray, chance: random.Random) -> bytearray:
    start = _place(content, chance)
    return content[:start] + chance.choice(JUNK) + content[start:]


def replace(content: bytearray, chance: random.Random) -> bytearray:
    return bytearray(chance.choice(JUNK) + chance.randbytes(chance.choice((0, 1, 100))))


DAMAGES = (flip, flip, set_byte, cut, lose, repeat, blank, insert, replace)


def _place(content: bytearray, chance: random.Random) -> int:
    """Anywhere, but as often as not in the first or the last hundred bytes, where formats keep what they are."""
    where = chance.choice(("anywhere", "anywhere", "front", "back"))
    if where == "front":
        return chance.randrange(min(100, len(content)))
    if where == "back":
        return len(content) - 1 - chance.randrange(min(100, len(content)))
    return chance.randrange(len(content))
