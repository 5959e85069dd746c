"""Tables with several values a key, in the order of the values: LMDB's sorted duplicates.

A pair is a key of an ordinary table: the key with 00 FF for each 00 in it, 00 00, and the value; nothing is
stored under it. Such keys are in the order of first the keys, then the values, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kvwasi.cursor import Cursor
from kvwasi.engine import _engine
from kvwasi.errors import CorruptionError, KeyEmptyError, NoSuchTableError, ValueTooLargeError
from kvwasi.names import decode_name, given_name, reserved_name
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.ranges import Data, OrderedReads
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

KIND = "dupsort"
"""Of their reserved names of tables."""
_END, _BEHIND = b"\0\0", b"\0\1"  # behind a key: before all of its values, behind all of them
_PAIR_BYTES_MAX = 1024
_RUN = 64  # of one key's values that are passed over one by one

Pair = tuple[bytes, bytes]


def encode_pair(key: Data, value: Data) -> bytes:
    """The key under which a pair is stored.

    Raises:
        KeyEmptyError
        ValueTooLargeError: both have more than 1022 bytes together, each NUL in the key counted twice.

    >>> encode_pair("a\\0b", "v")
    b'a\\x00\\xffb\\x00\\x00v'
    """
    pair = _escape(key) + _END + _engine.as_bytes(value)
    if len(pair) > _PAIR_BYTES_MAX:
        raise ValueTooLargeError(
            "a key and one of its values have at most 1022 bytes together (a NUL in the key counts twice)"
        )
    if pair.startswith(_END):
        raise KeyEmptyError("a key has at least one byte")
    return pair


def decode_pair(pair: bytes) -> Pair:
    """The inverse.

    Raises:
        CorruptionError: it is no pair.
    """
    escaped, end, value = pair.partition(_END)
    key = escaped.replace(b"\0\xff", b"\0")
    if not (key and end) or (b"\0" in escaped and _escape(key) != escaped):
        raise CorruptionError("a table with duplicates is damaged: a key that is no pair", 0, "value")
    return key, value


def _escape(key: Data) -> bytes:
    return _engine.as_bytes(key).replace(b"\0", b"\0\xff")


class DuplicatesReads:
    """A table with several values a key, as it is read; of a snapshot, this is all."""

    def __init__(self, of: Store | Transaction | Snapshot, name: str | bytes, *, create: bool = True) -> None:
        self._of = of
        self._name = given_name(name)
        raw = reserved_name(KIND, self._name)
        try:
            self._pairs: OrderedReads = (
                SnapshotTable(of, raw) if isinstance(of, Snapshot) else Table(of, raw, create=create)
            )
        except NoSuchTableError:
            raise NoSuchTableError(f"there is no table {self.name!r} with duplicates") from None

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._name)

    def __repr__(self) -> str:
        return f"<kvwasi.{type(self).__name__} {self.name!r} of {self._of!r}>"

    def get(self, key: Data, default: Any = None) -> Any:
        """The first value of ``key``, ``default`` if it has none."""
        return next(self._values(key), default)

    def get_all(self, key: Data, *, reverse: bool = False) -> list[bytes]:
        """All values of ``key``, in their order or from the last."""
        return list(self._values(key, reverse=reverse))

    def _values(self, key: Data, *, reverse: bool = False) -> Iterator[bytes]:
        start = _escape(key) + _END
        for pair in self._pairs.keys(prefix=start, reverse=reverse):
            yield pair[len(start) :]

    def has(self, key: Data, value: Data) -> bool:
        """Whether ``value`` is among the values of ``key``."""
        return encode_pair(key, value) in self._pairs

    def __contains__(self, key: Data) -> bool:
        return next(self._values(key), None) is not None

    def count(self, key: Data) -> int:
        """How many values ``key`` has; the index tells."""
        return self._pairs.count(prefix=_escape(key) + _END)

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def __bool__(self) -> bool:
        return len(self._pairs) > 0

    def items(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Pair]:
        """(key, value) pairs in order: of the keys from ``start`` to below ``stop``, or with ``prefix``."""
        pairs = self._pairs.keys(**_bounds(start, stop, prefix), reverse=reverse, limit=limit)
        return map(decode_pair, iter(pairs))

    def keys(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        """The keys of a range in order, each once."""
        bounds = _bounds(start, stop, prefix)
        before, run = None, 0
        found = iter(self._pairs.keys(**bounds, reverse=reverse))
        while (pair := next(found, None)) is not None:
            key = decode_pair(pair)[0]
            if key != before:
                yield key
                before, run = key, 0
                continue
            run += 1
            if run == _RUN:  # a search is cheaper than so many
                bounds["stop" if reverse else "start"] = _escape(key) + (_END if reverse else _BEHIND)
                found, run = iter(self._pairs.keys(**bounds, reverse=reverse)), 0

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def first(self) -> Pair | None:
        """The first key with its first value; None if there is none."""
        return next(self.items(limit=1), None)

    def last(self) -> Pair | None:
        """The last key with its last value; None if there is none."""
        return next(self.items(reverse=True, limit=1), None)

    def cursor(self) -> DuplicatesCursor:
        """A place among the pairs; see :class:`DuplicatesCursor`."""
        return DuplicatesCursor(self._pairs.cursor())


class DuplicatesTable(DuplicatesReads):
    """A table with several values a key; made by ``table(..., dupsort=True)`` of a store or a transaction.

    The values of a key are kept in their order, each once. A key and one of its values have at most 1022
    bytes together. Through a store each write is a commit of its own.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     tags = store.table("tags", dupsort=True)
    ...     tags.put_many([("photo", "sea"), ("photo", "blue"), ("song", "blue")])
    ...     tags.get_all("photo"), tags.count("photo"), tags.has("song", "sea"), list(tags)
    ([b'blue', b'sea'], 2, False, [b'photo', b'song'])
    """

    _pairs: Table

    def put(
        self, key: Data, value: Data, *, overwrite: bool = True, dupdata: bool = True, append: bool = False
    ) -> bool:
        """Add a value to those of ``key``. Whether it is stored now as was wished.

        Args:
            key: at least one byte.
            value: is stored once, however often it is put.
            overwrite: if false, only if ``key`` has no value yet.
            dupdata: if false, only if ``key`` does not have this value yet.
            append: only if the pair comes after all that are there.
        """
        pair = encode_pair(key, value)
        if append:
            return self._pairs.put(pair, b"", append=True)
        if overwrite:
            return self._pairs.put(pair, b"", overwrite=False) or dupdata
        with self._pairs._atomically() as pairs:
            if next(iter(pairs.keys(prefix=_escape(key) + _END, limit=1)), None) is not None:
                return False
            return pairs.put(pair, b"")

    def put_many(self, pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]]) -> None:
        """Add (key, value) pairs, in one transaction: all or none."""
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        self._pairs.put_many([(encode_pair(key, value), b"") for key, value in items])

    def delete(self, key: Data, value: Data | None = None) -> bool:
        """Remove one value of ``key``; without ``value`` all of them. Whether there was any."""
        if value is not None:
            return self._pairs.delete(encode_pair(key, value))
        return self._pairs.delete_range(prefix=_escape(key) + _END) > 0

    def delete_range(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """Remove, at once, all values of the keys of a range; how many."""
        return self._pairs.delete_range(**_bounds(start, stop, prefix))

    def clear(self) -> None:
        """Remove everything, at once."""
        self._pairs.clear()


def _bounds(start: Data | None, stop: Data | None, prefix: Data | None) -> dict[str, Any]:
    """A range of keys as one of pairs: a key without an end comes before all of its pairs."""
    given = {"start": start, "stop": stop, "prefix": prefix}
    return {name: _escape(bound) for name, bound in given.items() if bound is not None}


class DuplicatesCursor:
    """A place among the pairs of a table with duplicates; the moves are LMDB's. Like :class:`kvwasi.Cursor`.

    A move says whether there is a pair to go to. Within the values of a key (``next_dup`` and so on) it
    stays where it is if there is none.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     tags = store.table("tags", dupsort=True)
    ...     tags.put_many([("a", "1"), ("a", "2"), ("b", "3")])
    ...     with tags.cursor() as cursor:
    ...         cursor.seek("a"), cursor.next_dup(), cursor.next_dup(), cursor.item, cursor.count()
    ...         cursor.next_nodup(), cursor.item
    (True, True, False, (b'a', b'2'), 2)
    (True, (b'b', b'3'))
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    @property
    def valid(self) -> bool:
        """Whether it stands at a pair."""
        return self._cursor.valid

    @property
    def item(self) -> Pair:
        """Key and value.

        Raises:
            KeyNotFoundError: it stands at no pair.
        """
        return decode_pair(self._cursor.key)

    @property
    def key(self) -> bytes:
        """The key; raises as :attr:`item` does."""
        return self.item[0]

    @property
    def value(self) -> bytes:
        """The value; raises as :attr:`item` does."""
        return self.item[1]

    def first(self) -> bool:
        """Go to the first value of the first key."""
        return self._cursor.first()

    def last(self) -> bool:
        """Go to the last value of the last key."""
        return self._cursor.last()

    def next(self) -> bool:
        """Go to the following pair."""
        return self._cursor.next()

    def prev(self) -> bool:
        """Go to the preceding pair."""
        return self._cursor.prev()

    def next_nodup(self) -> bool:
        """Go to the first value of the following key."""
        if not self._cursor.valid:
            return self._cursor.next()
        return self._cursor.seek(_escape(self.key) + _BEHIND)

    def prev_nodup(self) -> bool:
        """Go to the last value of the preceding key."""
        if self._cursor.valid:
            self._cursor.seek(_escape(self.key) + _END)
        return self._cursor.prev()

    def next_dup(self) -> bool:
        """Go to the following value of the same key."""
        return self._within(self._cursor.next, self._cursor.prev)

    def prev_dup(self) -> bool:
        """Go to the preceding value of the same key."""
        return self._within(self._cursor.prev, self._cursor.next)

    def _within(self, move: Any, back: Any) -> bool:
        key = self.key
        if move() and self.key == key:
            return True
        back()
        return False

    def first_dup(self) -> bool:
        """Go to the first value of the same key."""
        return self._cursor.seek(_escape(self.key) + _END)

    def last_dup(self) -> bool:
        """Go to the last value of the same key."""
        self._cursor.seek(_escape(self.key) + _BEHIND)
        return self._cursor.prev()

    def seek(self, key: Data) -> bool:
        """Go to the first value of the first key that is not below ``key``."""
        return self._cursor.seek(_escape(key))

    def seek_exact(self, key: Data) -> bool:
        """Go to the first value of ``key``. Whether it has any."""
        return self._cursor.seek_prefix(_escape(key) + _END)

    def seek_pair(self, key: Data, value: Data) -> bool:
        """Go to exactly this pair. Whether it is there."""
        return self._cursor.seek_exact(encode_pair(key, value))

    def seek_pair_range(self, key: Data, value: Data) -> bool:
        """Go to the first value of ``key`` that is not below ``value``. Whether there is one."""
        pair = encode_pair(key, value)
        found = self._cursor.seek(pair) and self.key == _engine.as_bytes(key)
        return found or self._cursor.seek_exact(pair)  # which stands in the gap, then

    def count(self) -> int:
        """How many values the key has that it stands at."""
        start = _escape(self.key) + _END
        stop = _engine.prefix_stop(start)
        return _engine.EntryIterator(self._cursor._reads, start, stop, False, _engine.KEYS, None).count()

    def delete(self, *, dupdata: bool = False) -> bool:
        """Remove the pair that it stands at, or (``dupdata``) all values of its key; see Cursor.delete."""
        if not dupdata or not self._cursor.valid:
            return self._cursor.delete()
        start = _escape(self.key) + _END
        while self._cursor.seek_prefix(start):
            self._cursor.delete()
        return True

    def __iter__(self) -> Iterator[Pair]:
        """The pairs from where it stands to the last; the cursor moves along."""
        return (decode_pair(key) for key, _ in self._cursor)

    def __reversed__(self) -> Iterator[Pair]:
        """The pairs from where it stands back to the first; the cursor moves along."""
        return (decode_pair(key) for key, _ in reversed(self._cursor))

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._cursor.close()

    def __enter__(self) -> Self:
        self._cursor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["KIND", "DuplicatesCursor", "DuplicatesReads", "DuplicatesTable", "decode_pair", "encode_pair"]
