"""A store or a transaction as a mapping in key order, and views of ranges of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MappingView,
    MutableMapping,
    ValuesView,
)
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

from kvwasi.cursor import Cursor
from kvwasi.engine import _engine
from kvwasi.errors import KeyNotFoundError, NotANumberError

if TYPE_CHECKING:
    from collections.abc import Sized

    from kvwasi.snapshot import Snapshot

Data: TypeAlias = "bytes | bytearray | memoryview | str"
"""What is accepted as a key or a value; str is stored as UTF-8."""

_MISSING: Any = object()


_INT64 = range(-(1 << 63), 1 << 63)


def _number(value: bytes) -> int:
    if len(value) > 20 or not value.removeprefix(b"-").isdigit():  # 64 bits take 20 characters
        raise NotANumberError(f"the value is no whole number: {value[:32]!r}")
    return int(value)


class _Range:
    """The keys from ``start`` to below ``stop``, forwards or backwards, at most ``limit`` of them."""

    __slots__ = ("limit", "owner", "reverse", "start", "stop")

    def __init__(
        self,
        owner: _engine.Reads,
        start: Data | None,
        stop: Data | None,
        prefix: Data | None,
        reverse: bool,
        limit: int | None,
    ) -> None:
        self.owner = owner
        self.start = None if start is None else _engine.as_bytes(start)
        self.stop = None if stop is None else _engine.as_bytes(stop)
        if prefix is not None:
            first, last = _engine.as_bytes(prefix), _engine.prefix_stop(prefix)
            self.start = first if self.start is None else max(self.start, first)
            self.stop = last if self.stop is None or (last is not None and last < self.stop) else self.stop
        self.reverse = reverse
        if limit is not None and limit < 0:
            raise ValueError("limit is negative")
        self.limit = limit

    def entries(self, what: int, *, flip: bool = False) -> Iterator[Any]:
        """Iterate; ``flip``: from the other end."""
        if flip and self.limit is not None:  # the same entries, from their end
            return iter(list(self.entries(what))[::-1])
        return _engine.EntryIterator(
            self.owner, self.start, self.stop, self.reverse != flip, what, self.limit
        )

    def count(self) -> int:
        if self.start is None and self.stop is None:
            total = len(cast("Sized", self.owner))
            return total if self.limit is None else min(total, self.limit)
        return _engine.EntryIterator(
            self.owner, self.start, self.stop, False, _engine.KEYS, self.limit
        ).count()

    def covers(self, key: object) -> bool:
        """Whether ``key`` lies in the range, there or not."""
        if not isinstance(key, bytes | bytearray | memoryview | str):
            return False
        wanted = _engine.as_bytes(key)
        if (self.start is not None and wanted < self.start) or (
            self.stop is not None and wanted >= self.stop
        ):
            return False
        return self.limit is None or wanted in self.entries(_engine.KEYS)


class _RangeView(MappingView):
    """What the views of a range share. Each iteration sees the store as it is when it begins."""

    _what: ClassVar[int]  # of the engine's iterators
    _called: ClassVar[str]

    def __init__(self, owner: Mapping[bytes, bytes], bounds: _Range) -> None:
        super().__init__(owner)
        self._bounds = bounds

    def __iter__(self) -> Iterator[Any]:
        return self._bounds.entries(self._what)

    def __reversed__(self) -> Iterator[Any]:
        return self._bounds.entries(self._what, flip=True)

    def __len__(self) -> int:
        return self._bounds.count()

    def __repr__(self) -> str:
        return f"<{self._called} of {self._bounds.owner!r}>"


class Keys(_RangeView, KeysView[bytes]):
    """The keys of a range, in order."""

    _what, _called = _engine.KEYS, "keys"

    def __contains__(self, key: object) -> bool:
        return self._bounds.covers(key) and key in self._bounds.owner


class Values(_RangeView, ValuesView[bytes]):
    """The values of a range, in the order of their keys."""

    _what, _called = _engine.VALUES, "values"

    def __contains__(self, value: object) -> bool:
        return any(value == found for found in self)


class Items(_RangeView, ItemsView[bytes, bytes]):
    """The (key, value) pairs of a range, in the order of their keys."""

    _what, _called = _engine.ITEMS, "items"

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or not self._bounds.covers(item[0]):
            return False
        value = self._bounds.owner.get(item[0])
        return value is not None and value == item[1]


def _views(bounds: _Range, snapshot: Snapshot | None) -> Iterator[tuple[bytes, memoryview]]:
    reads = bounds.owner
    if isinstance(reads, _engine.Verbs):  # a transaction may change what is still to come
        for key, value in bounds.entries(_engine.ITEMS):
            yield key, memoryview(value)
        return
    try:
        for key in bounds.entries(_engine.KEYS):
            found = reads.get(key, view=True)
            assert found is not None, "nothing changes under a snapshot"
            yield key, found
            del found  # the caller's alone
    finally:
        if snapshot is not None:
            snapshot.close()


class OrderedReads(Mapping[bytes, bytes]):
    """What stores, transactions, snapshots and tables share above the reading verbs of the engine: ranges."""

    def keys(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Keys:
        """The keys from ``start`` to below ``stop``, or with ``prefix``, in order; at most ``limit`` of them.

        ``reverse`` gives the same range from its end. The view can be iterated again and again; an iterator
        sees the store as it was when the iterator was made.
        """
        return Keys(self, _Range(cast(_engine.Reads, self), start, stop, prefix, reverse, limit))

    def values(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Values:
        """The values of the keys that :meth:`keys` would give."""
        return Values(self, _Range(cast(_engine.Reads, self), start, stop, prefix, reverse, limit))

    def items(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Items:
        """The (key, value) pairs of the keys that :meth:`keys` would give."""
        return Items(self, _Range(cast(_engine.Reads, self), start, stop, prefix, reverse, limit))

    def __iter__(self) -> Iterator[bytes]:
        return cast(
            "Iterator[bytes]",
            _engine.EntryIterator(cast(_engine.Reads, self), None, None, False, _engine.KEYS, None),
        )

    def __reversed__(self) -> Iterator[bytes]:
        return cast(
            "Iterator[bytes]",
            _engine.EntryIterator(cast(_engine.Reads, self), None, None, True, _engine.KEYS, None),
        )

    def count(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """How many keys there are from ``start`` to below ``stop``, or with ``prefix``.

        The index tells, a leaf at a time: no key or value is handed over.
        """
        return len(self.keys(start=start, stop=stop, prefix=prefix))

    def first(self) -> tuple[bytes, bytes] | None:
        """The first key and its value; None if there is none."""
        return next(iter(self.items(limit=1)), None)

    def last(self) -> tuple[bytes, bytes] | None:
        """The last key and its value; None if there is none."""
        return next(iter(self.items(reverse=True, limit=1)), None)

    def _moment(self) -> tuple[_engine.Reads, Snapshot | None]:
        """The same entries where only the caller changes any, and the snapshot that has to be closed."""
        return cast(_engine.Reads, self), None

    def cursor(self) -> Cursor:
        """A place among the keys that moves both ways; see :class:`Cursor`.

        That of a store, or of a table of it, has a snapshot of its own until it is closed.
        """
        return Cursor(*self._moment())

    def views(
        self,
        *,
        start: Data | None = None,
        stop: Data | None = None,
        prefix: Data | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, memoryview]]:
        """As :meth:`items`, but an iterator, and each value is a view: see ``view`` of ``get``.

        >>> import kvwasi, tempfile, os
        >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
        ...     store.put_many({"a": bytes(1000), "b": bytes(3000)})
        ...     sum(value.nbytes for _, value in store.views())
        4000
        """
        reads, snapshot = self._moment()
        return _views(_Range(reads, start, stop, prefix, reverse, limit), snapshot)


class OrderedEntries(OrderedReads, MutableMapping[bytes, bytes]):
    """The rest of a mapping that can be changed."""

    def _atomically(self) -> AbstractContextManager[OrderedEntries]:
        """The same entries where several verbs are one change: in a transaction of their own if need be."""
        return nullcontext(self)

    def pop(self, key: Data, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value; ``default`` if it is not there.

        Raises:
            KeyNotFoundError: it is not there, and there is no default.
        """
        with self._atomically() as entries:
            value = cast(_engine.Verbs, entries).get(key)
            if value is None:
                if default is _MISSING:
                    raise KeyNotFoundError(key)
                return default
            cast(_engine.Verbs, entries).delete(key)
            return value

    def pop_first(self) -> tuple[bytes, bytes] | None:
        """Remove the first key and return it with its value; None if there is none."""
        with self._atomically() as entries:
            return entries._remove(entries.first())

    def pop_last(self) -> tuple[bytes, bytes] | None:
        """Remove the last key and return it with its value; None if there is none."""
        with self._atomically() as entries:
            return entries._remove(entries.last())

    def _remove(self, entry: tuple[bytes, bytes] | None) -> tuple[bytes, bytes] | None:
        if entry is not None:
            del self[entry[0]]
        return entry

    def popitem(self) -> tuple[bytes, bytes]:
        """Remove the first key and return it with its value.

        Raises:
            KeyNotFoundError: there is none.
        """
        entry = self.pop_first()
        if entry is None:
            raise KeyNotFoundError("the store is empty")
        return entry

    def _change_if(self, key: Data, expect: Data, value: Data | None) -> bool:
        """What ``put`` and ``delete`` do if ``expect`` is a value. Without a ``value`` the key is deleted."""
        wanted = _engine.as_bytes(expect)
        with self._atomically() as entries:
            verbs = cast(_engine.Verbs, entries)
            if verbs.get(key) != wanted:
                return False
            if value is None:
                verbs.delete(key)
            else:
                verbs.put(key, value)
            return True

    def increment(self, key: Data, by: int = 1, *, default: int = 0) -> int:
        """Add to a number and return the sum. It is stored as decimal text, so that any tool reads it.

        Args:
            key: 1 to 1024 bytes.
            by: what to add; may be negative.
            default: what to begin with if the key is not there.

        Raises:
            NotANumberError: what is there is no whole number, or the sum has more than 64 bits.
            Otherwise as ``put`` does.

        >>> import kvwasi, tempfile, os
        >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
        ...     store.increment("visits"), store.increment("visits", 10), store["visits"]
        (1, 11, b'11')
        """
        with self._atomically() as entries:
            value = cast(_engine.Verbs, entries).get(key)
            total = (default if value is None else _number(value)) + by
            if not _INT64.start <= total < _INT64.stop:
                raise NotANumberError(f"{total} has more than 64 bits")
            cast(_engine.Verbs, entries).put(key, b"%d" % total)
            return total

    def delete_range(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """Remove, at once, the keys from ``start`` to below ``stop``, or with ``prefix``; how many."""
        with self._atomically() as entries:
            verbs = cast(_engine.Verbs, entries)
            bounds = _Range(verbs, start, stop, prefix, False, None)
            return verbs._delete_range(bounds.start, bounds.stop)

    def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Store ``default`` if ``key`` is not there; return the value that is there now."""
        while True:
            if cast(_engine.Verbs, self).put(key, default, overwrite=False):
                return _engine.as_bytes(default)
            value = cast(_engine.Verbs, self).get(key)
            if value is not None:  # else it has been deleted in between
                return value

    def clear(self) -> None:
        """Remove every key, at once."""
        self.delete_range()

    @abstractmethod
    def put_many(self, pairs: Mapping[Data, Data] | Iterable[tuple[Data, Data]], /) -> None:
        """Store (key, value) pairs, or the items of a mapping."""

    def update(self, other: Any = (), /, **named: Data) -> None:
        """Store the items of a mapping, pairs, and keyword arguments; as :meth:`put_many` does."""
        if named:
            pairs = other.items() if hasattr(other, "items") else other
            self.put_many([*pairs, *named.items()])
        else:
            self.put_many(other)
