"""Tables whose entries may expire.

A value lies behind eight bytes, the time at which it expires (big-endian nanoseconds since 1970; all ones:
never). A second table has a key for each entry that will: that time and the entry's key. So what is due is
found without a search, and the number of living entries is a difference of two counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kvwasi.engine import _engine
from kvwasi.errors import KeyNotFoundError, KeyTooLargeError, NoSuchTableError, ReadOnlyError
from kvwasi.names import decode_name, given_name, reserved_name
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.ranges import Data, OrderedReads
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

KIND, DUE_KIND = "expires", "due"
"""Of their reserved names of tables."""
_KEY_BYTES_MAX = 1016  # behind the time at which it expires it is a key, too
_NEVER = (1 << 64) - 1
_TIME_MAX = (1 << 63) - 1
_CLOCK = b"\xff"  # among what is due: the latest time at which something was collected
_COLLECTED_A_WRITE = 8
_ANYTHING: Any = object()


def _due_key(expires: int, key: bytes = b"") -> bytes:
    return expires.to_bytes(8, "big") + key


class ExpiringTable(MutableMapping[bytes, bytes]):
    """A table whose entries may expire; made by ``table(..., expires=True)`` of a store or a transaction.

    An entry that has expired is absent at once: for reading, counting and conditions alike. Its space is
    given back by later writes to the table, some entries at a time, or by :meth:`collect`. Time is the
    system's clock; if that is set back, what was collected stays expired, and nothing comes back that had
    expired for this object. Made by a snapshot's ``table``, it can only be read.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     sessions = store.table("sessions", expires=True)
    ...     sessions.put("ada", "1", ttl=60)
    ...     sessions["root"] = "2"  # never
    ...     sessions["ada"], 59 < sessions.ttl("ada") <= 60, sessions.ttl("root"), len(sessions)
    True
    (b'1', True, None, 2)
    """

    def __init__(
        self,
        of: Store | Transaction | Snapshot,
        name: str | bytes,
        *,
        create: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._of = of
        self._name = given_name(name)
        self._clock = clock
        self._latest = 0
        try:
            self._entries, self._due = self._tables(of, create=create)
        except NoSuchTableError:
            raise NoSuchTableError(f"there is no table {self.name!r} that expires") from None
        self._latest = int.from_bytes(self._due.get(_CLOCK, b""), "big")

    def _tables(self, of: Any, *, create: bool = True) -> tuple[Any, Any]:
        names = reserved_name(KIND, self._name), reserved_name(DUE_KIND, self._name)
        if isinstance(of, Snapshot):
            entries: OrderedReads = SnapshotTable(of, names[0])
            try:
                return entries, SnapshotTable(of, names[1])
            except NoSuchTableError:  # nothing in it expires
                return entries, {}
        return Table(of, names[0], create=create), Table(of, names[1])

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._name)

    def __repr__(self) -> str:
        return f"<kvwasi.ExpiringTable {self.name!r} of {self._of!r}>"

    def _now(self) -> int:
        """The time, which never goes back for this object."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    # --- reading ---

    def _find(self, entries: Any, key: Data, now: int) -> bytes | None:
        """What is stored under ``key``, if it has not expired."""
        stored: bytes | None = entries.get(key)
        return stored if stored is not None and int.from_bytes(stored[:8], "big") > now else None

    def get(self, key: Data, default: Any = None) -> Any:
        """The value of ``key``, ``default`` if it is not there or has expired."""
        stored = self._find(self._entries, key, self._now())
        return default if stored is None else stored[8:]

    def __getitem__(self, key: Data) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyNotFoundError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes | bytearray | memoryview | str) and self.get(key) is not None

    def ttl(self, key: Data) -> float | None:
        """How many seconds are left of an entry; None: it never expires.

        Raises:
            KeyNotFoundError: it is not there, or has expired.
        """
        now = self._now()
        stored = self._find(self._entries, key, now)
        if stored is None:
            raise KeyNotFoundError(key)
        expires = int.from_bytes(stored[:8], "big")
        return None if expires == _NEVER else (expires - now) / 10**9

    def items(self, **bounds: Any) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        """(key, value) of a range in order; ``bounds`` as for :meth:`kvwasi.Store.items`, no ``limit``."""
        now = self._now()
        for key, stored in self._entries.items(**bounds):
            if int.from_bytes(stored[:8], "big") > now:
                yield key, stored[8:]

    def keys(self, **bounds: Any) -> Iterator[bytes]:  # type: ignore[override]
        """The keys of a range, likewise."""
        return (key for key, _ in self.items(**bounds))

    def values(self, **bounds: Any) -> Iterator[bytes]:  # type: ignore[override]
        """The values of a range, likewise."""
        return (value for _, value in self.items(**bounds))

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def __len__(self) -> int:
        """How many entries there are that have not expired; by the index alone."""
        of = self._of
        if hasattr(of, "snapshot"):  # two tables are looked at: at one moment
            with of.snapshot() as snapshot:
                try:
                    entries, due = self._tables(snapshot)
                except NoSuchTableError:
                    return 0
                return self._count(entries, due)
        return self._count(self._entries, self._due)

    def _count(self, entries: Any, due: Any) -> int:
        expired: int = due.count(stop=_due_key(self._now() + 1)) if hasattr(due, "count") else 0
        return len(entries) - expired

    # --- writing ---

    @contextlib.contextmanager
    def _change(self, collected: int = _COLLECTED_A_WRITE) -> Iterator[tuple[Any, Any, int]]:
        """The two tables in a transaction, and the time. So much of what is due is collected with it."""
        of = self._of
        if isinstance(of, Snapshot):
            raise ReadOnlyError("a snapshot cannot be changed")
        whole: Any = of
        with whole.transaction() if hasattr(of, "snapshot") else whole.savepoint() as own:
            entries, due = self._tables(own if hasattr(of, "snapshot") else of)
            now = self._now()
            yield entries, due, now
            self._collect(entries, due, now, collected)

    @staticmethod
    def _collect(entries: Any, due: Any, now: int, limit: int) -> int:
        old = list(iter(due.keys(stop=_due_key(now + 1), limit=limit)))
        for one in old:
            due.delete(one)
            entries.delete(one[8:])
        if old:
            due[_CLOCK] = now.to_bytes(8, "big")
        return len(old)

    @staticmethod
    def _remove(entries: Any, due: Any, key: Data) -> None:
        """Forget an entry, expired or not."""
        stored = entries.get(key)
        if stored is not None:
            entries.delete(key)
            if int.from_bytes(stored[:8], "big") != _NEVER:
                due.delete(stored[:8] + _engine.as_bytes(key))

    def put(
        self,
        key: Data,
        value: Data,
        *,
        ttl: float | timedelta | None = None,
        overwrite: bool = True,
        expect: Any = _ANYTHING,
    ) -> bool:
        """Store ``value`` under ``key``. Whether it was stored.

        Args:
            key: 1 to 1016 bytes.
            value: up to 1 GiB.
            ttl: after so many seconds it expires; None: never.
            overwrite: if false, only if the key is not there.
            expect: only if this is the present value (None: if the key is not there).
        """
        if expect is not _ANYTHING and not overwrite:
            raise ValueError("expect excludes overwrite")
        with self._change() as (entries, due, now):
            expires = _expiry(now, ttl)
            if not overwrite or expect is not _ANYTHING:
                present = self._find(entries, key, now)
                wanted = None if not overwrite or expect is None else _engine.as_bytes(expect)
                if (None if present is None else present[8:]) != wanted:
                    return False
            self._store(entries, due, key, expires, _engine.as_bytes(value))
            return True

    def _store(self, entries: Table, due: Table, key: Data, expires: int, value: bytes) -> None:
        """Have the key this value until then, in both tables."""
        raw = _engine.as_bytes(key)
        if len(raw) > _KEY_BYTES_MAX:
            raise KeyTooLargeError(f"a key of a table that expires has at most {_KEY_BYTES_MAX} bytes")
        self._remove(entries, due, raw)
        entries.put(raw, expires.to_bytes(8, "big") + value)
        if expires != _NEVER:
            due.put(_due_key(expires, raw), b"")

    def put_many(
        self,
        pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]],
        /,
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Store (key, value) pairs, or the items of a mapping, in one transaction: all or none.

        They expire together after ``ttl`` seconds, or (None) never.
        """
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        with self._change() as (entries, due, now):
            expires = _expiry(now, ttl)
            for key, value in items:
                self._store(entries, due, key, expires, _engine.as_bytes(value))

    def __setitem__(self, key: Data, value: Data) -> None:
        self.put(key, value)

    def update(self, other: Any = (), /, **named: Data) -> None:
        """Store the items of a mapping, pairs, and keyword arguments; as :meth:`put_many` does."""
        pairs = other.items() if hasattr(other, "items") else other
        self.put_many([*pairs, *named.items()])

    def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Store ``default``, for ever, if ``key`` is not there; return the value that is there now."""
        with self._change() as (entries, due, now):
            stored = self._find(entries, key, now)
            if stored is not None:
                return stored[8:]
            self._store(entries, due, key, _NEVER, _engine.as_bytes(default))
            return _engine.as_bytes(default)

    def touch(self, key: Data, ttl: float | timedelta | None) -> bool:
        """Let an entry expire after so many seconds from now, or (None) never. Whether it is there."""
        with self._change() as (entries, due, now):
            stored = self._find(entries, key, now)
            if stored is None:
                return False
            self._store(entries, due, key, _expiry(now, ttl), stored[8:])
            return True

    def delete(self, key: Data) -> bool:
        """Remove ``key``. Whether it was there."""
        with self._change() as (entries, due, now):
            there = self._find(entries, key, now) is not None
            self._remove(entries, due, key)
            return there

    def __delitem__(self, key: Data) -> None:
        if not self.delete(key):
            raise KeyNotFoundError(key)

    def pop(self, key: Data, default: Any = _ANYTHING) -> Any:
        """Remove ``key`` and return its value; ``default`` if it is not there.

        Raises:
            KeyNotFoundError: it is not there, and there is no default.
        """
        with self._change() as (entries, due, now):
            stored = self._find(entries, key, now)
            self._remove(entries, due, key)
        if stored is None and default is _ANYTHING:
            raise KeyNotFoundError(key)
        return default if stored is None else stored[8:]

    def popitem(self) -> tuple[bytes, bytes]:
        """Remove the first key and return it with its value.

        Raises:
            KeyNotFoundError: there is none.
        """
        with self._change() as (entries, due, now):
            for key, stored in entries.items():
                if int.from_bytes(stored[:8], "big") > now:
                    self._remove(entries, due, key)
                    return key, stored[8:]
        raise KeyNotFoundError("the table is empty")

    def clear(self) -> None:
        """Remove every entry, at once."""
        with self._change() as (entries, due, _):
            entries.clear()
            due.delete_range(stop=b"\x80")

    def collect(self) -> int:
        """Give the space of all that has expired back, a thousand entries in a transaction. How many."""
        total = 0
        while True:
            with self._change(0) as (entries, due, now):
                found = self._collect(entries, due, now, 1000)
            total += found
            if not found:
                return total


def _expiry(now: int, ttl: float | timedelta | None) -> int:
    """When something expires.

    Raises:
        ValueError: ``ttl`` is not positive.
    """
    if ttl is None:
        return _NEVER
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not seconds > 0:
        raise ValueError(f"a ttl is positive, not {ttl!r}")
    return min(now + max(int(min(seconds, 1e10) * 10**9), 1), _TIME_MAX)


__all__ = ["DUE_KIND", "KIND", "ExpiringTable"]
