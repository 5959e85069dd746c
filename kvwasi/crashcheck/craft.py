"""Files that lie: fields of superblocks, sector headers, pages and records changed, checksums made right.

What such a file holds is for whoever wrote it to say, so other contents are no failure here: opening and
reading it must only never trap, hang, or take more memory or time than a sound file of its size.
"""

import random
import struct
from collections.abc import Iterator

from kvwasi.crashcheck.layout import SECTOR_MAGIC, SECTORS_START, SUPERBLOCK_SLOTS
from kvwasi.engine._engine import hash64

__all__ = ["CRAFTS", "count", "crafted", "seal"]

_PAGE, _DATA = 4096, 128
_MULTIPLIER, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
_HEADER = 40
_U64, _U32, _U16 = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<H")
_VALUES = (0, 1, 7, 255, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)

_SUPERBLOCK = dict.fromkeys(range(24, 168, 8), _U64) | dict.fromkeys(
    (16, 20, 80, 84, 96, 100, 128, 132), _U32
)
_SECTOR = {12: _U16, 16: _U32, 20: _U32, 24: _U64, 32: _U64, 40: _U64, 48: _U64, 56: _U32}
_RECORD = {4: _U32, 8: _U64, 16: _U64, 24: _U32, 28: _U32, 32: _U32, 36: _U16, 38: _U16}
_NODE = dict.fromkeys((0, 2, 4, 6, 32, 34), _U16) | dict.fromkeys((8, 12, 16, 36), _U32) | {48: _U64}
CRAFTS = ("superblock", "sector", "record", "page")


def crafted(content: bytes, of: str, where: int) -> bytes | None:
    """The file with field ``where`` of its kind changed; None: there are no more of them."""
    for part, at, fields in _parts(content, of):
        choices = [(field, kind, value) for field, kind in fields.items() for value in _values(content, at)]
        if where < len(choices):
            field, kind, value = choices[where]
            damaged = bytearray(content)
            limit = (1 << 8 * kind.size) - 1
            kind.pack_into(damaged, at + field, min(value, limit) if value >> 63 else value & limit)
            seal(damaged, part, at)
            return bytes(damaged)
        where -= len(choices)
    return None


def count(content: bytes, of: str) -> int:
    """How many such fields and values there are."""
    return sum(len(fields) * len(_values(content, at)) for _, at, fields in _parts(content, of))


def _values(content: bytes, at: int) -> list[int]:
    """What to write into a field: the usual limits, the file's end, its own place and others."""
    chance = random.Random(at)
    return [*_VALUES, len(content), len(content) + 1, at, at + 8, chance.randrange(len(content))]


def _parts(content: bytes, of: str) -> Iterator[tuple[str, int, dict[int, struct.Struct]]]:
    sector_bytes = _U32.unpack_from(content, 20)[0]
    if of == "superblock":
        for slot in SUPERBLOCK_SLOTS:
            yield of, slot, _SUPERBLOCK
        return
    for start in range(SECTORS_START, len(content) - _DATA, sector_bytes):
        kind = _U16.unpack_from(content, start + 12)[0]
        if content[start + 8 : start + 12] != SECTOR_MAGIC:
            continue
        if of == "sector":
            yield of, start, _SECTOR
        elif of == "record" and kind in (1, 2):
            for at in _records(content, start, sector_bytes):
                yield of, at, _RECORD
        elif of == "page" and kind == 3:
            for at in range(start - start % _PAGE + _PAGE, min(start + sector_bytes, len(content)), _PAGE):
                if any(content[at : at + 64]):
                    yield of, at, _NODE


def _records(content: bytes | bytearray, start: int, sector_bytes: int) -> Iterator[int]:
    """Where each record of a sector is, until one is not valid."""
    at, end = start + _DATA, min(start + sector_bytes, len(content)) - 8
    while at + _HEADER <= end and _sum(content, start, at, sector_bytes) == _U32.unpack_from(content, at)[0]:
        yield at
        kind, length = _record(content, at)
        if kind == 5:
            return
        at += length


def _record(content: bytes | bytearray, at: int) -> tuple[int, int]:
    """A record's kind, and its length with padding."""
    value, key, kind, flags = struct.unpack_from("<I8xHBB", content, at + 24)
    length = _HEADER + key + (8 if flags & 2 else value if kind == 1 else 0)
    return kind, length + -length % 8


def _sum(content: bytes | bytearray, start: int, at: int, sector_bytes: int) -> int:
    generation, salt = _U64.unpack_from(content, start + 24)[0], _U64.unpack_from(content, start + 40)[0]
    key, _, flags = struct.unpack_from("<HBB", content, at + 36)
    covered = _HEADER + key + (8 if flags & 2 else 0)
    position = generation * sector_bytes + at - start
    seed = salt ^ (position * _MULTIPLIER & _MASK)
    return hash64(bytes(content[at + 4 : at + covered]), seed & _MASK) & 0xFFFFFFFF


def seal(content: bytearray, part: str, at: int) -> None:
    """Make the checksums right again, those of later records in the chain included."""
    sector_bytes = _U32.unpack_from(content, 20)[0] or 1 << 18
    database_id = _U64.unpack_from(content, 56)[0]
    if part == "superblock":
        _U64.pack_into(content, at, hash64(bytes(content[at + 8 : at + 256])))
    elif part == "sector":
        _U64.pack_into(content, at, hash64(bytes(content[at + 8 : at + 64]), database_id))
        content[at + 64 : at + 128] = content[at : at + 64]
    elif part == "page":
        content[at + 24 : at + 32] = bytes(8)
        seed = database_id ^ (at // _PAGE * _MULTIPLIER & _MASK)
        _U64.pack_into(content, at + 24, hash64(bytes(content[at : at + _PAGE]), seed))
    else:
        start = at - (at - SECTORS_START) % sector_bytes
        _U32.pack_into(content, at, _sum(content, start, at, sector_bytes))
        _chain(content, start, at, sector_bytes)


def _chain(content: bytearray, start: int, at: int, sector_bytes: int) -> None:
    """The records behind a changed one name its new sum."""
    kind, length = _record(content, at)
    if kind == 5:
        return
    before = _U32.unpack_from(content, at)[0]
    at += length
    while at + _HEADER < min(start + sector_bytes, len(content)) and content[at + 38]:
        _U32.pack_into(content, at + 4, before)
        before = _sum(content, start, at, sector_bytes)
        _U32.pack_into(content, at, before)
        at += _record(content, at)[1]
