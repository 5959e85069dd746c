"""The text format of LMDB's ``mdb_dump(1)`` and ``mdb_load(1)``, which is that of Berkeley DB's ``db_dump``.

A header of ``name=value`` lines up to ``HEADER=END``; then for each entry a line with the key and a line with
the value, each behind one space; then ``DATA=END``. A named table is such a piece with ``database=`` in its
header; any number of them follow each other, as ``mdb_dump -a`` writes them.

With ``format=bytevalue`` the bytes stand in hexadecimal; with ``format=print`` printable ASCII stands for
itself and any other byte as a backslash and two hexadecimal digits.

The backslash itself is written ``\\5c``; ``\\\\`` is read too. ``mdb_dump -p`` up to 0.9.24 writes it bare,
which nobody can read back with certainty: what is no valid escape is refused here. LMDB's keys end at 511
bytes, so ``mdb_load`` refuses longer ones.
"""

import binascii
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Literal, NamedTuple

from kvwasi.formats.errors import Entry, FormatError, Row, order_note

Form = Literal["bytevalue", "print"]

_PRINTABLE = bytes(byte for byte in range(0x20, 0x7F) if byte != ord("\\"))
_ESCAPED = [bytes([byte]) if byte in _PRINTABLE else b"\\%02x" % byte for byte in range(256)]
_ESCAPE = re.compile(rb"\\(\\|[0-9A-Fa-f]{2}|)")


def map_bytes_for(keys: int, data_bytes: int) -> int:
    """A ``mapsize`` in which LMDB surely finds room for ``keys`` entries of ``data_bytes`` in all.

    The map is address space, not disk: twice for half-full pages, twice for values rounded up to pages.
    """
    megabyte = 1 << 20
    return (4 * data_bytes + 64 * keys) // megabyte * megabyte + 16 * megabyte


def write(
    entries: Iterable[Entry],
    stream: BinaryIO,
    *,
    form: Form = "bytevalue",
    map_bytes: int,
    table: bytes | None = None,
    dupsort: bool = False,
) -> int:
    """Write ``entries``, of ``table``, and return how many there were; ``map_bytes`` is mdb_load's map.

    With ``dupsort`` a key may come several times, each time with another value.

    Raises:
        ValueError: the table's name has a line end, which the format cannot carry.
    """
    if table is not None and b"\n" in table:
        raise ValueError(f"the format cannot carry the table {table!r}")
    encode = binascii.hexlify if form == "bytevalue" else _escape
    database = b"" if table is None else b"database=%b\n" % table
    several = "dupsort=1\n" if dupsort else ""
    header = f"type=btree\nmapsize={map_bytes}\n{several}HEADER=END\n".encode("ascii")
    stream.write(b"VERSION=3\nformat=%b\n" % form.encode("ascii") + database + header)
    count = 0
    for count, (key, value) in enumerate(entries, 1):  # noqa: B007
        stream.write(b" %b\n %b\n" % (encode(key), encode(value)))
    stream.write(b"DATA=END\n")
    return count


class _Header(NamedTuple):
    form: str
    """Of the data."""
    table: bytes | None
    """The name of the database, if it has one."""
    dupsort: bool
    """Keys have several values."""
    line: int
    """Where the name stands."""
    flags: list[str]


def read(stream: BinaryIO, notes: list[str] | None = None) -> Iterator[Row]:
    """Yield the entries of the databases in ``stream``. Raises FormatError with the line's number.

    What a store keeps in another way is added to ``notes``, as it is found.
    """
    lines = enumerate(stream, 1)
    before: Iterator[tuple[int, bytes]] | None = lines
    while before is not None:
        header = _read_header(before)
        if notes is not None:
            found = (order_note(flag, header.table) for flag in header.flags)
            notes += [note for note in found if note is not None]
        if header.table is not None:
            yield Row(None, b"", header.table, header.dupsort, header.line)
        yield from _read_data(lines, header)
        before = _next_header(lines)


def _read_data(lines: Iterator[tuple[int, bytes]], header: _Header) -> Iterator[Row]:
    decode: Callable[[bytes], bytes] = binascii.unhexlify if header.form == "bytevalue" else _unescape
    table, dupsort = header.table, header.dupsort
    key: bytes | None = None
    number = 0
    for number, line in lines:
        if line.rstrip(b"\n") == b"DATA=END":
            break
        if not (line.startswith(b" ") and line.endswith(b"\n")):
            raise FormatError(number, "neither data behind a space nor DATA=END")
        try:
            data = decode(line[1:-1])
        except ValueError as error:
            raise FormatError(number, str(error)) from None
        if key is None:
            key = data
        else:
            yield Row(key, data, table, dupsort, number - 1)
            key = None
    else:
        raise FormatError(number + 1, "the input ends before DATA=END")
    if key is not None:
        raise FormatError(number, "a key without a value")


def _read_header(lines: Iterator[tuple[int, bytes]]) -> _Header:
    form, table, dupsort = "bytevalue", None, 0
    flags: list[str] = []
    start = number = named = 0
    for number, line in lines:
        start = start or number
        raw_name, equals, raw_value = line.rstrip(b"\n").partition(b"=")
        name, value = raw_name.decode("utf-8", "replace"), raw_value.decode("utf-8", "replace")
        if not equals:
            raise FormatError(number, "a header line without '='")
        if number == start and name != "VERSION":
            raise FormatError(number, "does not begin with VERSION=3")
        if (name, value) == ("HEADER", "END"):
            if dupsort and table is None:
                raise FormatError(dupsort, "several values for one key (duplicates) need a named table")
            return _Header(form, table, dupsort > 0, named, flags)
        if name in ("duplicates", "dupsort") and value == "1":
            dupsort = number
        if value == "1" and name not in flags:
            flags.append(name)
        if name == "format":
            form = value
        if name == "database":
            table, named = raw_value, number
        problem = _header_problem(name, value)
        if problem:
            raise FormatError(number, problem)
    raise FormatError(number + 1, "the input ends before HEADER=END")


def _header_problem(name: str, value: str) -> str | None:
    """Why a header line cannot be honoured; the ones not named here do not touch the entries."""
    if name == "VERSION" and value not in ("1", "2", "3"):
        return f"version {value} of the format is not known"
    if name == "format" and value not in ("bytevalue", "print"):
        return f"format {value} is not known"
    if name == "type" and value not in ("btree", "hash"):
        return f"a database of type {value} has no keys to load"
    return None


def _next_header(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]] | None:
    """The lines from the header of the next database on; None: there is no more."""
    for number, line in lines:
        if line.startswith(b"VERSION="):
            return itertools.chain([(number, line)], lines)
        if line.strip():
            raise FormatError(number, "text after DATA=END")
    return None


def _escape(data: bytes) -> bytes:
    if not data.translate(None, _PRINTABLE):
        return data
    return b"".join(map(_ESCAPED.__getitem__, data))


def _unescape(data: bytes) -> bytes:
    return _ESCAPE.sub(_unescape_one, data) if b"\\" in data else data


def _unescape_one(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if not escape:
        raise ValueError("a backslash without two hexadecimal digits")
    return b"\\" if escape == b"\\" else binascii.unhexlify(escape)
