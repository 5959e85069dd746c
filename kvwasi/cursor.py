"""Cursors: a place among the keys, which moves both ways."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kvwasi.engine import _engine
from kvwasi.errors import ClosedError, KeyNotFoundError, TransactionError

if TYPE_CHECKING:
    from kvwasi.ranges import Data
    from kvwasi.snapshot import Snapshot

_AT, _BEFORE, _BEHIND = "at", "before", "behind"


class Cursor:
    """A place among the keys; made by ``cursor`` of a store, a snapshot, a transaction or a table.

    It stands at an entry, or in the gap before or behind a key. A new one stands nowhere: :meth:`next` goes
    to the first entry, :meth:`prev` to the last. Over a store or a snapshot it sees one moment; in a
    transaction it sees the transaction's own changes, and can delete. It ends with what it is over, with
    :meth:`close` or ``with``.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     store.put_many({"apple": "1", "fig": "2", "lime": "3"})
    ...     with store.cursor() as cursor:
    ...         cursor.seek("b"), cursor.item, cursor.prev(), cursor.key, cursor.prev()
    ...         list(cursor)
    ...     with store.transaction() as t:
    ...         cursor = t.cursor()
    ...         while cursor.next():
    ...             if cursor.value == b"2":
    ...                 assert cursor.delete()
    ...     list(store)
    (True, (b'fig', b'2'), True, b'apple', False)
    [(b'apple', b'1'), (b'fig', b'2'), (b'lime', b'3')]
    [b'apple', b'lime']
    """

    def __init__(self, reads: _engine.Reads, snapshot: Snapshot | None = None) -> None:
        self._reads = reads
        self._snapshot = snapshot  # of its own
        self._closed = False
        self._place: bytes | None = None  # the key that it is at, before or behind; None: nowhere
        self._side = _BEFORE
        self._item: tuple[bytes, bytes] | None = None
        self._ahead: Iterator[Any] | None = None  # the entries that follow in the direction of the last move
        self._reverse = False
        self._seen = 0  # the writes before those were read

    # --- where it is ---

    @property
    def valid(self) -> bool:
        """Whether it stands at an entry."""
        return self._now() is not None

    @property
    def key(self) -> bytes:
        """The key that it stands at.

        Raises:
            KeyNotFoundError: it stands at none.
        """
        return self.item[0]

    @property
    def value(self) -> bytes:
        """The value of the key that it stands at; raises as :attr:`key` does."""
        return self.item[1]

    @property
    def view(self) -> memoryview:
        """The value where it lies in the file, see ``view`` of ``get``; raises as :attr:`key` does."""
        found = self._reads.get(self.key, view=True)
        assert found is not None, "it was there just now"
        return found

    @property
    def item(self) -> tuple[bytes, bytes]:
        """Key and value; raises as :attr:`key` does."""
        item = self._now()
        if item is None:
            raise KeyNotFoundError("the cursor stands at no entry")
        return item

    def _now(self) -> tuple[bytes, bytes] | None:
        """The entry as it is now: the transaction may have changed it since."""
        self._check()
        if self._item is not None and self._stale():
            key = self._item[0]
            value = self._reads.get(key)
            self._item = None if value is None else (key, value)
            if value is None:
                self._side = _BEFORE
        return self._item

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the cursor is closed")
        if not self._reads._usable:
            self._reads._check_usable()

    def _stale(self) -> bool:
        """Whether what was read ahead may have changed: nothing does under a snapshot."""
        return isinstance(self._reads, _engine.Verbs) and self._seen != self._reads._changes

    # --- moving ---

    def first(self) -> bool:
        """Go to the first entry. Whether there is one."""
        return self._land(None, None, reverse=False)

    def last(self) -> bool:
        """Go to the last entry. Whether there is one."""
        return self._land(None, None, reverse=True)

    def seek(self, key: Data) -> bool:
        """Go to the first entry whose key is not below ``key``. Whether there is one."""
        return self._seek(_engine.as_bytes(key))

    def seek_exact(self, key: Data) -> bool:
        """Go to ``key``. Whether it is there; if not, the cursor stands in the gap where it would be."""
        wanted = _engine.as_bytes(key)
        return self._seek(wanted) and (self._item_key() == wanted or self._miss(wanted))

    def seek_prefix(self, prefix: Data) -> bool:
        """Go to the first entry whose key begins with ``prefix``. Whether there is one."""
        wanted = _engine.as_bytes(prefix)
        return self._seek(wanted) and (self._item_key().startswith(wanted) or self._miss(wanted))

    def next(self) -> bool:
        """Go to the following entry. Whether there is one; if not, the cursor stands behind the last."""
        return self._step(reverse=False)

    def prev(self) -> bool:
        """Go to the preceding entry. Whether there is one; if not, the cursor stands before the first."""
        return self._step(reverse=True)

    def _seek(self, key: bytes) -> bool:
        return self._land(key, None, reverse=False) or self._miss(key)

    def _item_key(self) -> bytes:
        assert self._item is not None
        return self._item[0]

    def _miss(self, key: bytes) -> bool:
        self._place, self._side, self._item, self._ahead = key, _BEFORE, None, None
        return False

    def _land(self, start: bytes | None, stop: bytes | None, *, reverse: bool) -> bool:
        """Go to the first entry of a range, from the end at which a move in that direction begins."""
        self._check()
        self._seen = self._reads._changes
        self._reverse = reverse
        self._ahead = _engine.EntryIterator(self._reads, start, stop, reverse, _engine.ITEMS, None)
        return self._take()

    def _take(self) -> bool:
        assert self._ahead is not None
        self._item = next(self._ahead, None)
        if self._item is not None:
            self._place, self._side = self._item[0], _AT
            return True
        self._ahead = None
        if self._side == _AT:
            self._side = _BEFORE if self._reverse else _BEHIND
        return False

    def _step(self, *, reverse: bool) -> bool:
        if self._ahead is not None and self._reverse == reverse and not self._stale():
            self._check()
            return self._take()
        if self._place is None:
            return self._land(None, None, reverse=reverse)
        behind = self._place + b"\0"  # nothing is between
        if reverse:
            return self._land(None, behind if self._side == _BEHIND else self._place, reverse=True)
        return self._land(self._place if self._side == _BEFORE else behind, None, reverse=False)

    # --- from here on ---

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """The entries from where it stands to the last; the cursor moves along."""
        found = self.valid or self.next()
        while found:
            yield self.item
            found = self.next()

    def __reversed__(self) -> Iterator[tuple[bytes, bytes]]:
        """The entries from where it stands back to the first; the cursor moves along."""
        found = self.valid or self.prev()
        while found:
            yield self.item
            found = self.prev()

    def delete(self) -> bool:
        """Remove the entry that it stands at; then it stands in the gap, from which it goes on both ways.

        Returns whether it stood at one.

        Raises:
            TransactionError: it is not in a write transaction.
        """
        self._check()
        if not isinstance(self._reads, _engine.Verbs):
            raise TransactionError("only the cursor of a write transaction can delete")
        if self._now() is None or self._place is None:
            return False
        fresh = not self._stale()
        deleted = self._reads.delete(self._place)
        if fresh:  # what was read ahead does not have this entry
            self._seen = self._reads._changes
        self._item, self._side = None, _BEFORE
        return deleted

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._closed = True
        self._item = self._ahead = None
        if self._snapshot is not None:
            self._snapshot.close()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "closed" if self._closed else f"{self._side} {self._place!r}"
        return f"<kvwasi.Cursor over {self._reads!r}, {where}>"


__all__ = ["Cursor"]
