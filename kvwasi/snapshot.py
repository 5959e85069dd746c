"""Snapshots: a store as it was at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from kvwasi.engine import _engine
from kvwasi.errors import NoSuchTableError
from kvwasi.names import check_kinds, decode_name, names_of_kind, public_name, table_names
from kvwasi.ranges import OrderedReads

if TYPE_CHECKING:
    from kvwasi.duplicates import DuplicatesReads
    from kvwasi.expiring import ExpiringTable
    from kvwasi.series import SeriesReads
    from kvwasi.store import Store


class Snapshot(_engine.SnapshotVerbs, OrderedReads):
    """A store as it was when the snapshot was made; made by :meth:`Store.snapshot`.

    It has the reading verbs of a store. It waits for no transaction, and none waits for it; any number of
    threads may use it. Until it is closed (by :meth:`close`, ``with`` or with its last reference), the space
    of what is overwritten meanwhile cannot be used again.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     store["a"] = "1"
    ...     with store.snapshot() as snap:
    ...         store["a"] = "2"
    ...         store["b"] = "3"
    ...         snap["a"], dict(snap), store["a"]
    (b'1', {b'a': b'1'}, b'2')
    """

    def __init__(self, session: _engine.Session, store: Store) -> None:
        self._store = store  # as long as the snapshot lives, so does the store

    def __repr__(self) -> str:
        return f"<kvwasi.Snapshot of {self._session.path!r}, {'open' if self._usable else 'closed'}>"

    @overload
    def table(self, name: str | bytes, *, dupsort: Literal[False] = False) -> SnapshotTable: ...
    @overload
    def table(self, name: str | bytes, *, dupsort: Literal[True]) -> DuplicatesReads: ...
    @overload
    def table(self, name: str | bytes, *, expires: Literal[True]) -> ExpiringTable: ...

    def table(
        self, name: str | bytes, *, dupsort: bool = False, expires: bool = False
    ) -> SnapshotTable | DuplicatesReads | ExpiringTable:
        """A table as it was at that moment.

        Raises:
            NoSuchTableError: there was none of that name.
        """
        check_kinds(dupsort, expires)
        if dupsort:
            from kvwasi.duplicates import DuplicatesReads

            return DuplicatesReads(self, name)
        if expires:
            from kvwasi.expiring import ExpiringTable

            return ExpiringTable(self, name)
        return SnapshotTable(self, public_name(name))

    def tables(self, *, dupsort: bool = False, expires: bool = False) -> list[str]:
        """The names of the tables that there were, in order."""
        return table_names(self._table_names(), dupsort, expires)

    def series(self, name: str | bytes) -> SeriesReads:
        """A time series as it was at that moment, to be read; empty if there was none of that name."""
        from kvwasi.series import SeriesReads

        return SeriesReads(self, name)

    def series_names(self) -> list[str]:
        """The names of the time series that there were, in order."""
        return names_of_kind("series", self._table_names())


class SnapshotTable(_engine.SnapshotTableVerbs, OrderedReads):
    """A named table as it was at the moment of a snapshot; made by :meth:`Snapshot.table`."""

    def __init__(self, of: Snapshot, name: bytes) -> None:
        self._of = of
        self._name = name
        if not self._made:
            raise NoSuchTableError(f"there is no table {self.name!r}")

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._name)

    def __repr__(self) -> str:
        return f"<kvwasi.SnapshotTable {self.name!r} of {self._of!r}>"


__all__ = ["Snapshot", "SnapshotTable"]
