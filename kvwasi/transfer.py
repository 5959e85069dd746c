"""A store with all its tables into a stream of a format, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO, Literal

from kvwasi.formats import jsonl, mdb
from kvwasi.formats.errors import Row
from kvwasi.formats.source import batches
from kvwasi.names import public_name
from kvwasi.store import Store
from kvwasi.table import Table
from kvwasi.transaction import Transaction

Form = Literal["jsonl", "mdb", "mdb-print"]

_WHOLE_BATCH_ENTRIES = 10_000


class TableNameError(ValueError):
    """A table has a name that the format cannot carry."""


def dump(store: Store, stream: BinaryIO, form: Form, table: str | None = None) -> None:
    """Write the store's own entries and those of all tables; or those of ``table`` alone, as its own.

    Raises:
        TableNameError: nothing was written.
        NoSuchTableError: there is no ``table``.
    """
    one = store if table is None else store.table(table, create=False)
    tables = [] if table else [(name, Table(store, name)) for name in store._table_names()]
    if form == "jsonl":
        jsonl.write(one.items(), stream)
        for name, entries in tables:
            stream.write(jsonl.encode_table(name))
            jsonl.write(entries.items(), stream, name)
        return
    if any(b"\n" in name for name, _ in tables):
        raise TableNameError("the format cannot carry a table whose name has a line end")
    stats = store.stats()
    how: mdb.Form = "print" if form == "mdb-print" else "bytevalue"
    map_bytes = mdb.map_bytes_for(len(one) + sum(len(entries) for _, entries in tables), stats.live_bytes)
    mdb.write(one.items(), stream, form=how, map_bytes=map_bytes)
    for name, entries in tables:
        mdb.write(entries.items(), stream, form=how, map_bytes=map_bytes, table=name)


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
        for name, group in groupby(some, key=lambda row: rest if row.table is None else row.table):
            entries = [(row.key, row.value) for row in group if row.key is not None]
            where = store if name is None else Table(store, name)
            found = where.get_many([key for key, _ in entries])
            wrong += sum(one != value for one, (_, value) in zip(found, entries, strict=True))
    return wrong


def _put_rows(transaction: Transaction, rows: list[Row], table: bytes | None) -> int:
    """Put rows, those of one table that follow each other at once; returns how many are entries."""
    count = 0
    for name, group in groupby(rows, key=lambda row: table if row.table is None else row.table):
        entries = [(row.key, row.value) for row in group if row.key is not None]
        (transaction if name is None else Table(transaction, name)).put_many(entries)
        count += len(entries)
    return count


__all__ = ["Form", "TableNameError", "compare", "dump", "load"]
