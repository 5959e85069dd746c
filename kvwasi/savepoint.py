"""Savepoints: transactions within a transaction."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from kvwasi.transaction import Transaction


class Savepoint:
    """A point in a transaction to which it can be rolled back; made by :meth:`Transaction.savepoint`.

    As a context manager it keeps what was done since at the end of the block, and undoes it when the block
    raises. Savepoints nest, at most 63 deep; ending one ends those within it.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     with store.transaction() as t:
    ...         t["a"] = "1"
    ...         try:
    ...             with t.savepoint():
    ...                 t["a"] = "2"
    ...                 raise RuntimeError
    ...         except RuntimeError:
    ...             t["b"] = "3"
    ...     dict(store)
    {b'a': b'1', b'b': b'3'}
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._number = transaction._savepoint_begin()

    @property
    def active(self) -> bool:
        """Whether it is neither released nor rolled back, and the transaction is open."""
        return self._transaction.active and self._transaction._savepoint_is_open(self._number)

    def __repr__(self) -> str:
        return f"<kvwasi.Savepoint of {self._transaction!r}, {'open' if self.active else 'ended'}>"

    def release(self) -> None:
        """Keep what was done since: it is the transaction's own, or the next outer savepoint's.

        Raises:
            ClosedError: it has ended already.
        """
        self._transaction._savepoint_end(self._number, True)

    def rollback(self) -> None:
        """Undo what was done since. The transaction goes on.

        Raises:
            ClosedError: it has ended already.
        """
        self._transaction._savepoint_end(self._number, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._transaction._savepoint_is_open(self._number):
            self.release()
        elif self.active:
            self.rollback()


__all__ = ["Savepoint"]
