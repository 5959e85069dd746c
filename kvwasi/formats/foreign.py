"""Other embedded databases as sources, only read: LMDB environments, tables of SQLite, files of :mod:`dbm`.

Each is named as ``lmdb:PATH``, ``sqlite:FILE?table=T&key=K&value=V`` or ``dbm:PATH``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from kvwasi.formats.errors import ForeignError, NoSuchSourceError, Row, order_note

_SUBDATABASE_BYTES = 48  # of the record that stands for a named database, in its environment's main one
_DATABASES_MAX = 4096


@dataclass(frozen=True)
class Foreign:
    """Another database, open.

    Attributes:
        count: of its entries.
        rows: reads them, from the first on.
    """

    count: int
    rows: Callable[[], Iterator[Row]]
    skipped: int = 0
    """Rows without a value."""
    notes: tuple[str, ...] = ()
    """What a store keeps in another way."""


def is_foreign(name: str) -> bool:
    """Whether it names another database, and no file or directory."""
    kind, colon, _ = name.partition(":")
    return colon != "" and kind in _KINDS and not os.path.lexists(name)


@contextlib.contextmanager
def open_foreign(name: str) -> Iterator[Foreign]:
    """Open what ``name`` names.

    Raises:
        NoSuchSourceError
        ForeignError: it is nothing that can be read.
    """
    kind, _, place = name.partition(":")
    with _KINDS[kind](place) as opened:
        yield opened


# --- LMDB ---


@contextlib.contextmanager
def _lmdb(path: str) -> Iterator[Foreign]:
    try:
        import lmdb
    except ImportError:
        raise ForeignError("reading an LMDB environment needs the package lmdb: pip install lmdb") from None
    if not os.path.exists(os.path.join(path, "data.mdb") if os.path.isdir(path) else path):
        raise NoSuchSourceError(f"{path}: there is no such LMDB environment")
    try:
        with (
            lmdb.open(
                path, subdir=os.path.isdir(path), readonly=True, create=False, max_dbs=_DATABASES_MAX
            ) as environment,
            environment.begin() as transaction,
        ):
            databases = list(_lmdb_databases(lmdb, environment, transaction))
            named = {name for name, _ in databases if name is not None}

            def rows() -> Iterator[Row]:
                for name, database in databases:
                    dupsort = bool(database.flags(transaction)["dupsort"])
                    if name is not None:
                        yield Row(None, b"", name, dupsort)
                    yield from _lmdb_rows(transaction, name, database, named, dupsort)

            total = sum(transaction.stat(database)["entries"] for _, database in databases)
            yield Foreign(total - len(named), rows, notes=tuple(_lmdb_notes(transaction, databases)))
    except lmdb.Error as error:
        problem = str(error).removeprefix(f"{path}: ")
        raise ForeignError(f"{path}: {problem}") from None


def _lmdb_databases(lmdb: Any, environment: Any, transaction: Any) -> Iterator[tuple[bytes | None, Any]]:
    """The main database (None) and the named ones, whose names are among the main one's keys."""
    main = environment.open_db(txn=transaction)
    yield None, main
    for name, value in transaction.cursor(main):
        if len(value) == _SUBDATABASE_BYTES and b"\0" not in name:
            with contextlib.suppress(lmdb.IncompatibleError, lmdb.NotFoundError):
                yield bytes(name), environment.open_db(bytes(name), txn=transaction, create=False)


def _lmdb_notes(transaction: Any, databases: list[tuple[bytes | None, Any]]) -> Iterator[str]:
    for name, database in databases:
        for flag, is_set in database.flags(transaction).items():
            note = order_note(flag.replace("_", ""), name) if is_set else None
            if note is not None:
                yield note


def _lmdb_rows(
    transaction: Any, name: bytes | None, database: Any, named: set[bytes], dupsort: bool
) -> Iterator[Row]:
    before = None
    for key, value in transaction.cursor(database):
        if name is None and key in named:
            continue
        if key == before and name is None:
            raise ForeignError(f"the main database has several values for the key {key!r}, a store has one")
        before = key
        yield Row(key, value, name, dupsort and name is not None)


# --- SQLite ---


@contextlib.contextmanager
def _sqlite(place: str) -> Iterator[Foreign]:
    import sqlite3
    from urllib.parse import quote

    path, _, query = place.partition("?")
    options = dict(parse_qsl(query))
    if "table" not in options or options.keys() - {"table", "key", "value"}:
        raise ForeignError("a table of SQLite is named as sqlite:FILE?table=T&key=K&value=V")
    table = _quoted(options["table"])
    key, value = _quoted(options.get("key", "key")), _quoted(options.get("value", "value"))
    if not os.path.exists(path):
        raise NoSuchSourceError(f"{path}: there is no such SQLite database")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")  # one moment for all that is read
            columns = connection.execute(
                "SELECT name FROM pragma_table_info(?)", (options["table"],)
            ).fetchall()
            for column in (key, value):  # an unknown name in quotes would be taken for a text
                if columns and column not in [_quoted(name) for (name,) in columns]:
                    raise ForeignError(f"{path}: {table} has no column {column}")
            counts = f"SELECT count(*), count({value}), count(DISTINCT {key}) FROM {table}"
            every, with_value, distinct = connection.execute(counts).fetchone()
            if distinct != every:
                raise ForeignError(f"{path}: {every} rows have {distinct} different keys: {key} is no key")

            def rows() -> Iterator[Row]:
                select = f"SELECT {key}, {value} FROM {table} WHERE {value} IS NOT NULL"
                for one, other in connection.execute(select):
                    yield Row(_as_bytes(one), _as_bytes(other))

            yield Foreign(with_value, rows, every - with_value)
    except sqlite3.Error as error:
        raise ForeignError(f"{path}: {error}") from None


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _as_bytes(value: bytes | str | float) -> bytes:
    """Text as UTF-8, numbers as decimal text."""
    return value if isinstance(value, bytes) else str(value).encode()


# --- dbm ---


@contextlib.contextmanager
def _dbm(path: str) -> Iterator[Foreign]:
    import dbm

    kind = dbm.whichdb(path)
    if kind is None and not os.path.lexists(path):
        raise NoSuchSourceError(f"{path}: there is no database of dbm")
    if not kind:
        raise ForeignError(f"{path}: {'cannot be read' if kind is None else 'no known kind of dbm'}")
    try:
        with dbm.open(path, "r") as database:
            keys = database.keys()

            def rows() -> Iterator[Row]:
                for key in keys:
                    yield Row(_as_bytes(key), database[key])

            yield Foreign(len(keys), rows)
    except (*dbm.error, ImportError) as error:
        raise ForeignError(f"{path}: {error}") from None


_KINDS: dict[str, Callable[[str], contextlib.AbstractContextManager[Foreign]]] = {
    "lmdb": _lmdb,
    "sqlite": _sqlite,
    "dbm": _dbm,
}

__all__ = ["Foreign", "is_foreign", "open_foreign"]
