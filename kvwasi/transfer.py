"""A store with all its tables into a stream of a format, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import BinaryIO, Literal

from kvwasi import defaults
from kvwasi.duplicates import KIND as DUPSORT
from kvwasi.duplicates import DuplicatesTable, decode_pair, encode_pair
from kvwasi.errors import CorruptionError, KeyEmptyError, KeyTooLargeError
from kvwasi.expiring import DUE_KIND as DUE
from kvwasi.expiring import KIND as EXPIRES
from kvwasi.formats import jsonl, mdb
from kvwasi.formats.errors import Entry, FormatError, Row
from kvwasi.formats.source import batches
from kvwasi.names import content_names, decode_name, encode_name, public_name, reserved_name
from kvwasi.series.layout import ALTERED
from kvwasi.series.reads import KIND as SERIES
from kvwasi.store import Store
from kvwasi.table import Table
from kvwasi.transaction import Transaction

Form = Literal["jsonl", "mdb", "mdb-print"]

_WHOLE_BATCH_ENTRIES = 10_000
_KEY_BYTES_MAX = 1024  # of names of tables, too
_PAIRS = reserved_name(DUPSORT)


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


def load(
    store: Store,
    rows: Iterable[Row],
    batch: int,
    table: str | None = None,
    tables: Callable[[], Iterable[Row]] = tuple,
) -> Iterator[int]:
    """Put rows, ``batch`` in a transaction (0: all in one); yield how many entries went in so far.

    Those that name no table go to ``table``. A time series and a table that expires are more than their
    entries, and cannot be merged; ``tables`` finds such as are there already before anything is put.

    Raises:
        ReservedNameError: ``table`` is no name for a table.
        FormatError: a row cannot be put.
    """
    rest = None if table is None else public_name(table)
    count = 0
    full = _full(store)
    for _ in _stored(tables(), full) if full else ():
        pass
    with contextlib.nullcontext() if batch else store.transaction() as whole:
        for some in batches(_stored(rows, full), batch or _WHOLE_BATCH_ENTRIES):
            with store.transaction() if whole is None else contextlib.nullcontext(whole) as transaction:
                count += _put_rows(transaction, some, rest)
            yield count


def compare(store: Store, rows: Iterable[Row], table: str | None = None) -> int:
    """How many of the entries that :func:`load` was given are not in the store as they were."""
    rest = None if table is None else public_name(table)
    wrong = 0
    for some in batches(_stored(rows, set()), _WHOLE_BATCH_ENTRIES):
        for name, entries in _by_table(some, rest):
            where = store if name is None else Table(store, name)
            found = where.get_many([key for key, _ in entries])
            wrong += sum(one != value for one, (_, value) in zip(found, entries, strict=True))
    return wrong


def _put_rows(transaction: Transaction, rows: list[Row], table: bytes | None) -> int:
    """Put rows, those of one table that follow each other at once; returns how many are entries."""
    count = 0
    for name, entries in _by_table(rows, table):
        count += len(entries)
        if name == defaults.TABLE:  # with the entries of both, the newer ones have been applied
            entries = [entry for entry in entries if int(entry[1]) > defaults.version_of(transaction)]
        (transaction if name is None else Table(transaction, name)).put_many(entries)
    return count


def _by_table(rows: list[Row], rest: bytes | None) -> Iterator[tuple[bytes | None, list[Entry]]]:
    """What is to be put where: raw names of tables (None: the store itself) with what follows each other."""
    for name, group in groupby(rows, key=lambda row: row.table):
        yield rest if name is None else name, [(row.key, row.value) for row in group if row.key is not None]


def _full(store: Store) -> set[bytes]:
    """The raw names of the time series and tables that expire in which there is something."""
    starts = {reserved_name(SERIES): ALTERED, reserved_name(EXPIRES): None}  # before lies a series' note
    return {
        name
        for name in store._table_names()
        for kind, start in starts.items()
        if name.startswith(kind) and Table(store, name).count(start=start)
    }


def _stored(rows: Iterable[Row], full: set[bytes]) -> Iterator[Row]:
    """The rows as they lie in tables by raw name, if a store can take them; none in a table of ``full``.

    Raises:
        FormatError
    """
    before = None
    for row in rows:
        try:
            stored = _of_pair(row) if row.dupsort else row
            if stored.table is not None and stored.table != before:
                _check_table(stored.table, full)
            if stored.key is not None:
                _check_entry(stored.table, stored.key, stored.value)
        except (ValueError, CorruptionError) as error:
            which = f": {decode_name(row.key)!r}" if row.key and not row.line else ""
            raise FormatError(row.line, f"{error}{which}") from None
        before = stored.table
        yield stored


def _of_pair(row: Row) -> Row:
    pair = None if row.key is None else encode_pair(row.key, row.value)
    return Row(pair, b"", reserved_name(DUPSORT, row.table or b""), line=row.line)


def _check_table(name: bytes, full: set[bytes]) -> None:
    if not name:
        raise KeyEmptyError("the name of a table has at least one byte")
    if len(name) > _KEY_BYTES_MAX:
        raise KeyTooLargeError("the name of the table is too long")
    for kind in (SERIES, EXPIRES, DUE):
        if name.startswith(reserved_name(kind)):
            called = name[len(reserved_name(kind)) :]
            if reserved_name(EXPIRES if kind == DUE else kind, called) in full:
                what = "series" if kind == SERIES else "expiring table"
                there = f"the {what} {decode_name(called)!r} is there already"
                raise ValueError(f"{there}: load into a database without it")
            return
    if name != defaults.TABLE and not name.startswith(_PAIRS):
        public_name(name)


def _check_entry(table: bytes | None, key: bytes, value: bytes) -> None:
    if not key:
        raise KeyEmptyError("a key has at least one byte")
    if len(key) > _KEY_BYTES_MAX:
        raise KeyTooLargeError("a key has at most 1024 bytes")
    if table == defaults.TABLE:
        if key != defaults.VERSION or not value.isdigit() or int(value) > defaults.VERSION_MAX:
            raise ValueError("no version of defaults")
    elif table is not None and table.startswith(_PAIRS):
        decode_pair(key)
        if value:
            raise ValueError("a table with duplicates has pairs for its keys, and no values")


__all__ = ["Form", "TableNameError", "compare", "dump", "load"]
