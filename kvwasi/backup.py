"""A copy of a store while it is written: one moment of it, in a new database file."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from kvwasi import opening
from kvwasi.engine import _engine
from kvwasi.errors import DatabaseExistsError, StorageError
from kvwasi.names import public_names
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.store import Store, StrPath
from kvwasi.table import Table
from kvwasi.wasi.newfile import NewFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvwasi.ranges import OrderedReads

_BATCH_ENTRIES = 5000
_BATCH_BYTES = 8 << 20
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """What :meth:`Store.backup` has written."""

    path: str
    """The real path of the copy."""
    keys: int
    """Of the store itself and of all tables."""
    tables: int
    file_bytes: int


def write(source: Store, path: StrPath, *, overwrite: bool) -> Backup:
    """See :meth:`Store.backup`."""
    lock = opening.acquire(path, "c")  # nobody has the place open, this very store included
    try:
        if lock.exists and not overwrite:
            raise DatabaseExistsError(errno.EEXIST, "there is a file already", lock.path)
        with source.snapshot() as snapshot:
            return _write(source, snapshot, lock.path, overwrite)
    except OSError as error:
        if isinstance(error, StorageError | DatabaseExistsError):
            raise
        kind = DatabaseExistsError if isinstance(error, FileExistsError) else StorageError
        raise kind(error.errno, error.strerror, lock.path) from None
    finally:
        lock.release()


def _write(source: Store, snapshot: Snapshot, path: str, overwrite: bool) -> Backup:
    new = NewFile(path)
    keys = tables = 0
    try:
        sector_bytes = source.stats().sector_bytes
        with opening.open(
            new.temporary, "n", sync="none", sector_bytes=sector_bytes, cache_bytes=_CACHE_BYTES
        ) as copy:
            keys += _copy(snapshot, copy, None)
            for name in snapshot._table_names():
                copied = _copy(SnapshotTable(snapshot, name), copy, name)
                if public_names([name]):
                    keys += copied
                    tables += 1
        return Backup(path, keys, tables, new.install(replace=overwrite))
    finally:
        new.discard()


def _copy(entries: OrderedReads, to: Store, table: bytes | None) -> int:
    """Copy a table in batches; makes it also if it is empty. Returns how many entries."""
    reads = cast(_engine.Reads, entries)
    batch: list[tuple[bytes, bytes]] = []
    count = size = 0

    def put(large: bytes | None = None) -> None:
        with to.transaction() as transaction:
            target = transaction if table is None else Table(transaction, table)
            target.put_many(batch)
            if large is not None:
                _engine.copy_value(reads, large, target)
        batch.clear()

    found = _engine.EntryIterator(reads, None, None, False, _engine.COPIES, None)
    for key, value in cast("Iterator[tuple[bytes, bytes | None]]", found):
        count += 1
        if value is None:  # too large to be held
            put(key)
            size = 0
            continue
        batch.append((key, value))
        size += len(key) + len(value)
        if len(batch) >= _BATCH_ENTRIES or size >= _BATCH_BYTES:
            put()
            size = 0
    if batch or (table is not None and count == 0):
        put()
    return count


__all__ = ["Backup", "write"]
