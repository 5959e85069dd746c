"""Transactions."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from kvwasi.engine import _engine
from kvwasi.ranges import OrderedEntries

if TYPE_CHECKING:
    from typing import Self

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

    _ended = False  # by a call of commit or rollback

    def __init__(self, session: _engine.Session, durable: bool, store: Store) -> None:
        self._store = store  # as long as the transaction lives, so does the store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.active:
            if kind is None and not self._ended:
                self.commit()  # says why it can't be committed: the store was closed
            return
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def commit(self) -> None:
        """Make the changes, all at once; with ``sync="commit"`` they are on disk when this returns.

        Raises:
            DiskFullError: nothing was changed.
            StorageError: a write or the flush failed: whether the commit is on disk shows on reopening.
            ClosedError: it has ended already.
        """
        self._ended = True
        super().commit()

    def rollback(self) -> None:
        """Drop the changes.

        Raises:
            ClosedError: it has ended already.
        """
        self._ended = True
        super().rollback()

    def __repr__(self) -> str:
        state = "open" if self.active else "ended"
        return f"<kvwasi.Transaction on {self._session.path!r}, {state}>"
