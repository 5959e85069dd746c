"""A store with all its tables into a stream of a format, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO, Literal

from kvwasi.duplicates import KIND as DUPSORT
from kvwasi.duplicates import DuplicatesTable, encode_pair
from kvwasi.formats import jsonl, mdb
from kvwasi.formats.errors import Entry, Row
from kvwasi.formats.source import batches
from kvwasi.names import content_names, encode_name, public_name, reserved_name
from kvwasi.store import Store
from kvwasi.table import Table
from kvwasi.transaction import Transaction

Form = Literal["jsonl", "mdb", "mdb-print"]

_WHOLE_BATCH_ENTRIES = 10_000


class TableNameError(ValueError):
    """A table has a name that the format cannot carry."""


def dump(store: Store, stream: BinaryIO, form: Form, table: str | None = None) -> int:
    """Write the store's own entries and those of all tables; or those of ``table`` alone, as its own.

    JSON lines carry time series, too, as they lie in their tables. Returns how many were left out.

    Raises:
        TableNameError: nothing was written.
        NoSuchTableError: there is no ``table``.
    """
    one = store if table is None else store.table(table, create=False)
    if form == "jsonl":
        jsonl.write(one.items(), stream)
        for raw in () if table else content_names(store._table_names()):
            stream.write(jsonl.encode_table(raw))
            jsonl.write(Table(store, raw).items(), stream, raw)
        return 0
    tables: list[tuple[bytes, Table | DuplicatesTable]] = []
    for dupsort in () if table else (False, True):
        tables += [
            (encode_name(name), store.table(name, dupsort=dupsort)) for name in store.tables(dupsort=dupsort)
        ]
    names = [name for name, _ in tables]
    if any(b"\n" in name for name in names):
        raise TableNameError("the format cannot carry a table whose name has a line end")
    if len(set(names)) < len(names):
        raise TableNameError("the format cannot carry two tables of one name, one of them with duplicates")
    stats = store.stats()
    how: mdb.Form = "print" if form == "mdb-print" else "bytevalue"
    count = len(one) + sum(len(entries) for _, entries in tables)
    map_bytes = mdb.map_bytes_for(count, stats.live_bytes)
    mdb.write(one.items(), stream, form=how, map_bytes=map_bytes)
    for name, of in tables:
        several = isinstance(of, DuplicatesTable)
        mdb.write(of.items(), stream, form=how, map_bytes=map_bytes, table=name, dupsort=several)
    return 0 if table else len(store.series_names()) + len(store.tables(expires=True))


def load(store: Store, rows: Iterable[Row], batch: int, table: str | None = None) -> Iterator[int]:
    """Put rows, ``batch`` in a transaction (0: all in one); yield how many entries went in so far.

    Those that name no table go to ``table``.

    Raises:
        ReservedNameError: ``table`` is no name for a table.
    """
    rest = None if table is None else public_name(table)
    count = 0
    with contextlib.nullcontext() if batch else store.transaction() as whole:
        for some in batches(rows, batch or _WHOLE_BATCH_ENTRIES):
            with store.transaction() if whole is None else contextlib.nullcontext(whole) as transaction:
                count += _put_rows(transaction, some, rest)
            yield count


def compare(store: Store, rows: Iterable[Row], table: str | None = None) -> int:
    """How many of the entries that :func:`load` was given are not in the store as they were."""
    rest = None if table is None else public_name(table)
    wrong = 0
    for some in batches(rows, _WHOLE_BATCH_ENTRIES):
        for name, entries in _by_table(some, rest):
            where = store if name is None else Table(store, name)
            found = where.get_many([key for key, _ in entries])
            wrong += sum(one != value for one, (_, value) in zip(found, entries, strict=True))
    return wrong


def _put_rows(transaction: Transaction, rows: list[Row], table: bytes | None) -> int:
    """Put rows, those of one table that follow each other at once; returns how many are entries."""
    count = 0
    for name, entries in _by_table(rows, table):
        (transaction if name is None else Table(transaction, name)).put_many(entries)
        count += len(entries)
    return count


def _by_table(rows: list[Row], rest: bytes | None) -> Iterator[tuple[bytes | None, list[Entry]]]:
    """What is to be put where: raw names of tables (None: the store itself) with what follows each other."""
    for (name, dupsort), group in groupby(rows, key=lambda row: (row.table, row.dupsort)):
        entries = [(row.key, row.value) for row in group if row.key is not None]
        if dupsort and name is not None:
            yield reserved_name(DUPSORT, name), [(encode_pair(*entry), b"") for entry in entries]
        else:
            yield rest if name is None else name, entries


__all__ = ["Form", "TableNameError", "compare", "dump", "load"]
