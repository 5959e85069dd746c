"""What ``load`` reads: a directory, a file or a stream, its format recognised, as entries and as batches."""

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

from kvwasi.formats import foreign, jsonl, mdb, tree
from kvwasi.formats.errors import ForeignError, Row

Format = Literal["auto", "jsonl", "mdb", "tree"]

_MAGIC_AT, _MAGIC = 8, b"kvwasi\r\n"  # of a database; guest-db/FORMAT.md

BATCH_BYTES_MAX = 8 << 20
"""A batch ends once it holds this much, so that memory stays bounded whatever the values are."""


@dataclass(frozen=True)
class Source:
    """Entries to load, and how far their reading has come."""

    entries: Iterator[Row]
    size: int | None
    """Bytes, or entries of another database; None where it is not known before the end: a pipe."""
    position: Callable[[], int]
    """Of these, how many have been read."""
    skipped: int = 0
    """Things in a directory tree that are no regular files, rows without a value."""
    again: Callable[[], Iterator[Row]] | None = None
    """Reads the same entries once more, where that can be done."""
    tables: Callable[[], Iterator[Row]] = lambda: iter(())
    """Finds tables that are named in it ahead of the entries, where that can be done."""
    notes: Sequence[str] = ()
    """What a store keeps in another way; complete when the entries are read."""


@contextlib.contextmanager
def open_path(path: str, form: Format = "auto", *, exclude: Iterable[str] = ()) -> Iterator[Source]:
    """Open a directory, a file or another database. Files in ``exclude`` are left out."""
    if form == "auto" and foreign.is_foreign(path):
        with foreign.open_foreign(path) as other:
            yield _foreign_source(other)
        return
    status = os.stat(path)
    if form == "tree" or (form == "auto" and stat.S_ISDIR(status.st_mode)):
        yield _tree_source(tree.scan(path, exclude=exclude))
        return
    with open(path, "rb") as stream:
        if stat.S_ISREG(status.st_mode):
            tables = functools.partial(_tables, path)
            yield of_stream(stream, path, form, status.st_size, stream.tell, tables)
        else:
            yield of_stream(stream, path, form)


def of_stream(
    stream: BinaryIO,
    name: str,
    form: Format = "auto",
    size: int | None = None,
    position: Callable[[], int] = lambda: 0,
    tables: Callable[[], Iterator[Row]] = lambda: iter(()),
) -> Source:
    """What is read of an open file called ``name``.

    Raises:
        ForeignError: it is a database of kvwasi's own.
    """
    if _peek(stream).startswith(_MAGIC, _MAGIC_AT):
        raise ForeignError(f"{name} is a kvwasi database: use backup, or dump and load")
    notes: list[str] = []
    return Source(read(stream, form, notes), size, position, tables=tables, notes=notes)


def read(stream: BinaryIO, form: Format = "auto", notes: list[str] | None = None) -> Iterator[Row]:
    """The entries of ``stream``; ``auto`` takes what begins with ``VERSION=`` for mdb_dump's format."""
    if form == "auto":
        form = "mdb" if _peek(stream).startswith(b"VERSION=") else "jsonl"
    return mdb.read(stream, notes) if form == "mdb" else jsonl.read(stream)


def _peek(stream: BinaryIO) -> bytes:
    head: bytes = stream.peek(16)  # type: ignore[attr-defined]
    return head


def _tables(path: str) -> Iterator[Row]:
    with open(path, "rb") as stream:
        yield from jsonl.read_tables(stream)


def batches(entries: Iterable[Row], count_max: int, bytes_max: int = BATCH_BYTES_MAX) -> Iterator[list[Row]]:
    """Group ``entries``; a batch ends at ``count_max`` entries or once it holds ``bytes_max``.

    >>> [len(batch) for batch in batches([Row(b"k", b"v")] * 5, 2)]
    [2, 2, 1]
    """
    batch: list[Row] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.key or b"") + len(entry.value)
        if len(batch) >= count_max or size >= bytes_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _foreign_source(other: foreign.Foreign) -> Source:
    read_entries = 0

    def entries() -> Iterator[Row]:
        nonlocal read_entries
        for row in other.rows():
            read_entries += row.key is not None
            yield row

    return Source(entries(), other.count, lambda: read_entries, other.skipped, other.rows, notes=other.notes)


def _tree_source(found: tree.Tree) -> Source:
    read_bytes = 0

    def entries() -> Iterator[Row]:
        nonlocal read_bytes
        for key, value in tree.read(found):
            read_bytes += len(value)
            yield Row(key, value)

    return Source(entries(), sum(file.size_bytes for file in found.files), lambda: read_bytes, found.skipped)
