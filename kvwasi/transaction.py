"""Transactions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, overload

from kvwasi.duplicates import DuplicatesTable
from kvwasi.engine import _engine
from kvwasi.errors import NoSuchTableError
from kvwasi.expiring import ExpiringTable
from kvwasi.names import (
    check_kinds,
    decode_name,
    encode_name,
    names_of_kind,
    public_name,
    reserved_name,
    table_names,
)
from kvwasi.ranges import OrderedEntries
from kvwasi.savepoint import Savepoint
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.series import Retention, Series
    from kvwasi.store import Store


class Transaction(_engine.TransactionVerbs, OrderedEntries):
    """Several changes that happen together or not at all; made by :meth:`Store.transaction`.

    It has the verbs of a store, and reads its own writes; nobody else sees them before :meth:`commit`. As a
    context manager it commits at the end of the block, or rolls back when the block raises. One transaction
    is open at a time; other writers wait for it.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     with store.transaction() as t:
    ...         t["a"] = "1"
    ...         t["b"] = t["a"] + b"2"
    ...     dict(store)
    {b'a': b'1', b'b': b'12'}
    """

    def __init__(self, session: _engine.Session, durable: bool, store: Store) -> None:
        self._store = store  # as long as the transaction lives, so does the store

    def __repr__(self) -> str:
        state = "open" if self.active else "ended"
        return f"<kvwasi.Transaction on {self._session.path!r}, {state}>"

    def savepoint(self) -> Savepoint:
        """A transaction within this one: what follows can be undone on its own. Use it with ``with``.

        Raises:
            TooManySavepointsError: 63 are open.
            ClosedError: the transaction has ended.
        """
        return Savepoint(self)

    @overload
    def table(self, name: str | bytes, *, create: bool = True, dupsort: Literal[False] = False) -> Table: ...
    @overload
    def table(self, name: str | bytes, *, create: bool = True, dupsort: Literal[True]) -> DuplicatesTable: ...
    @overload
    def table(self, name: str | bytes, *, create: bool = True, expires: Literal[True]) -> ExpiringTable: ...

    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: bool = False, expires: bool = False
    ) -> Table | DuplicatesTable | ExpiringTable:
        """A named table as this transaction sees it, see :meth:`Store.table`; ends with the transaction."""
        check_kinds(dupsort, expires)
        if dupsort:
            return DuplicatesTable(self, name, create=create)
        if expires:
            return ExpiringTable(self, name, create=create)
        return Table(self, public_name(name), create=create)

    def tables(self, *, dupsort: bool = False, expires: bool = False) -> list[str]:
        """The names of the tables, in order."""
        return table_names(self._table_names(), dupsort, expires)

    def drop_table(self, name: str | bytes, *, dupsort: bool = False, expires: bool = False) -> None:
        """Remove a table and all that is in it.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        check_kinds(dupsort, expires)
        encoded = encode_name(name)
        kind = "dupsort" if dupsort else "expires" if expires else None
        try:
            self._drop(public_name(name) if kind is None else reserved_name(kind, encoded))
        except NoSuchTableError:
            raise NoSuchTableError(f"there is no table {decode_name(encoded)!r}") from None
        if expires:
            with contextlib.suppress(NoSuchTableError):
                self._drop(reserved_name("due", encoded))

    def series(self, name: str | bytes, *, retention: Retention | None = None) -> Series:
        """A time series as this transaction sees it, see :meth:`Store.series`."""
        from kvwasi.series import Series

        return Series(self, name, retention=retention)

    def series_names(self) -> list[str]:
        """The names of the time series, in order."""
        return names_of_kind("series", self._table_names())

    def drop_series(self, name: str | bytes) -> None:
        """Remove a time series and all that is in it.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        raw = encode_name(name)
        try:
            self._drop(reserved_name("series", raw))
        except NoSuchTableError:
            raise NoSuchTableError(f"there is no series {decode_name(raw)!r}") from None
