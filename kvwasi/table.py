"""Named tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kvwasi.engine import _engine
from kvwasi.errors import NoSuchTableError
from kvwasi.names import decode_name
from kvwasi.ranges import Data, OrderedEntries

if TYPE_CHECKING:
    from kvwasi.snapshot import Snapshot
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction


class Table(_engine.TableVerbs, OrderedEntries):
    """A named table: a mapping of its own in the same file. Made by ``table`` of a store or a transaction.

    It has the verbs of what it is a table of: through a store each write is a commit of its own, through a
    transaction it belongs to that one, together with the writes to any other table.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     users = store.table("users")
    ...     users["ada"] = "1815"
    ...     with store.transaction() as t:
    ...         t.table("users")["grace"] = "1906"
    ...         t.table("log")["1"] = "grace"
    ...     dict(users), store.tables(), len(store)
    ({b'ada': b'1815', b'grace': b'1906'}, ['log', 'users'], 0)
    """

    def __init__(
        self, of: Store | Transaction, name: bytes, *, create: bool = True, like: Table | None = None
    ) -> None:
        self._of = of
        self._name = name
        if not create and not self._made:
            raise NoSuchTableError(f"there is no table {self.name!r}")

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self._of, self._name)  # as far as a store can be pickled

    def __repr__(self) -> str:
        return f"<kvwasi.Table {self.name!r} of {self._of!r}>"

    def _moment(self) -> tuple[_engine.Reads, Snapshot | None]:
        if isinstance(self._of, _engine.TransactionVerbs):
            return super()._moment()
        len(self)  # tells of one that was dropped
        snapshot = self._of.snapshot()
        return _engine.SnapshotTableVerbs(snapshot, self._name), snapshot

    @contextlib.contextmanager
    def _atomically(self) -> Iterator[Table]:
        if isinstance(self._of, _engine.TransactionVerbs):
            yield self
        else:
            with self._of.transaction() as transaction:
                yield Table(transaction, self._name, like=self)

    def put_many(self, pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]], /) -> None:
        """Store (key, value) pairs, or the items of a mapping, in one transaction: all or none."""
        with self._atomically() as table:
            _engine.TableVerbs.put_many(table, pairs)
