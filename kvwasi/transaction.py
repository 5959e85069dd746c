"""Transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from kvwasi.duplicates import DuplicatesTable
from kvwasi.engine import _engine
from kvwasi.errors import NoSuchTableError
from kvwasi.names import (
    decode_name,
    encode_name,
    names_of_kind,
    public_name,
    public_names,
    reserved_name,
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

    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: bool = False
    ) -> Table | DuplicatesTable:
        """A named table as this transaction sees it, see :meth:`Store.table`; ends with the transaction."""
        if dupsort:
            return DuplicatesTable(self, name, create=create)
        return Table(self, public_name(name), create=create)

    def tables(self, *, dupsort: bool = False) -> list[str]:
        """The names of the tables, in order."""
        names = self._table_names()
        return names_of_kind("dupsort", names) if dupsort else public_names(names)

    def drop_table(self, name: str | bytes, *, dupsort: bool = False) -> None:
        """Remove a table and all that is in it.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        encoded = encode_name(name)
        raw = reserved_name("dupsort", encoded) if dupsort else public_name(name)
        try:
            self._drop(raw)
        except NoSuchTableError:
            raise NoSuchTableError(f"there is no table {decode_name(encoded)!r}") from None

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
