"""Named tables of each kind for asyncio, and where they are found."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from kvwasi.aio.series import AsyncSeries
from kvwasi.aio.verbs import ANYTHING, Anything, AsyncEntries, AsyncReads, Named, expected, taken
from kvwasi.expiring import ExpiringTable
from kvwasi.names import check_kinds

if TYPE_CHECKING:
    from kvwasi.ranges import Data
    from kvwasi.series import Retention


class _Table(Named):
    """What ``table`` of the plain object finds; ``_kind`` is how it is told which."""

    _kind: ClassVar[dict[str, bool]] = {}

    def __init__(self, of: AsyncReads, name: str | bytes, *, create: bool = True) -> None:
        super().__init__(of, name)
        self._options = {**self._kind, "create": create} if isinstance(of, AsyncEntries) else self._kind

    def _find(self, of: Any) -> Any:
        return of.table(self._name, **self._options)


class AsyncTable(_Table, AsyncEntries):
    """A named table; made by ``table`` of a store, a transaction or (to be read) a snapshot."""


class AsyncDuplicatesTable(_Table):
    """A table with several values a key; made by ``table(..., dupsort=True)``.

    Arguments, results and errors are those of :class:`kvwasi.DuplicatesTable`.
    """

    _kind: ClassVar[dict[str, bool]] = {"dupsort": True}

    async def get(self, key: Data, default: Any = None) -> Any:
        """The first value of ``key``, ``default`` if it has none."""
        return await self._read(lambda table: table.get(key, default))

    async def get_all(self, key: Data, *, reverse: bool = False) -> list[bytes]:
        """All values of ``key``, in their order or from the last."""
        return await self._read(lambda table: table.get_all(key, reverse=reverse))

    async def has(self, key: Data, value: Data) -> bool:
        """Whether ``value`` is among the values of ``key``."""
        return await self._read(lambda table: table.has(key, value))

    async def contains(self, key: Data) -> bool:
        """Whether ``key`` has any value."""
        return await self._read(lambda table: key in table)

    async def count(self, key: Data | None = None) -> int:
        """How many values ``key`` has; without it, how many pairs there are."""
        return await self._read(lambda table: len(table) if key is None else table.count(key))

    def items(self, **bounds: Any) -> AsyncIterator[tuple[bytes, bytes]]:
        """The pairs of a range, for ``async for``; ``bounds`` as for the plain ``items``."""
        return self._iterate(lambda table: table.items(**bounds))

    def keys(self, **bounds: Any) -> AsyncIterator[bytes]:
        """The keys of a range, each once, likewise."""
        return self._iterate(lambda table: table.keys(**bounds))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    async def first(self) -> tuple[bytes, bytes] | None:
        """The first key with its first value; None if there is none."""
        return await self._read(lambda table: table.first())

    async def last(self) -> tuple[bytes, bytes] | None:
        """The last key with its last value; None if there is none."""
        return await self._read(lambda table: table.last())

    async def put(
        self, key: Data, value: Data, *, overwrite: bool = True, dupdata: bool = True, append: bool = False
    ) -> bool:
        """Add a value to those of ``key``. Whether it is stored now as was wished."""
        options = {"overwrite": overwrite, "dupdata": dupdata, "append": append}
        return await self._write(lambda table: table.put(key, value, **options))

    async def put_many(self, pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]]) -> None:
        """Add (key, value) pairs: all or none."""
        wanted = taken(pairs)
        await self._write(lambda table: table.put_many(wanted))

    async def delete(self, key: Data, value: Data | None = None) -> bool:
        """Remove one value of ``key``; without ``value`` all of them. Whether there was any."""
        return await self._write(lambda table: table.delete(key, value))

    async def delete_range(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """Remove all values of the keys of a range; how many."""
        return await self._write(lambda table: table.delete_range(start=start, stop=stop, prefix=prefix))

    async def clear(self) -> None:
        """Remove everything."""
        await self._write(lambda table: table.clear())


class AsyncExpiringTable(Named):
    """A table whose entries may expire; made by ``table(..., expires=True)``.

    Arguments, results and errors are those of :class:`kvwasi.ExpiringTable`.
    """

    def __init__(self, of: AsyncReads, name: str | bytes, *, create: bool = True) -> None:
        super().__init__(of, name)
        self._create = create
        self._latest = 0

    def _find(self, of: Any) -> ExpiringTable:
        return ExpiringTable(of, self._name, create=self._create, clock=self._now)

    def _now(self) -> int:
        """The time, which never goes back for this object."""
        self._latest = max(self._latest, time.time_ns())
        return self._latest

    async def get(self, key: Data, default: Any = None) -> Any:
        """The value of ``key``, ``default`` if it is not there or has expired."""
        return await self._read(lambda table: table.get(key, default))

    async def contains(self, key: Data) -> bool:
        """Whether ``key`` is there and has not expired."""
        return await self._read(lambda table: key in table)

    async def ttl(self, key: Data) -> float | None:
        """How many seconds are left of an entry; None: it never expires."""
        return await self._read(lambda table: table.ttl(key))

    async def count(self) -> int:
        """How many entries there are that have not expired."""
        return await self._read(len)

    def items(self, **bounds: Any) -> AsyncIterator[tuple[bytes, bytes]]:
        """(key, value) of a range, for ``async for``; ``bounds`` as for the plain ``items``."""
        return self._iterate(lambda table: table.items(**bounds))

    def keys(self, **bounds: Any) -> AsyncIterator[bytes]:
        """The keys of a range, likewise."""
        return self._iterate(lambda table: table.keys(**bounds))

    def values(self, **bounds: Any) -> AsyncIterator[bytes]:
        """The values of a range, likewise."""
        return self._iterate(lambda table: table.values(**bounds))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    async def put(
        self,
        key: Data,
        value: Data,
        *,
        ttl: float | timedelta | None = None,
        overwrite: bool = True,
        expect: Data | Anything | None = ANYTHING,
    ) -> bool:
        """Store ``value`` under ``key``, for ``ttl`` seconds or for ever. Whether it was stored."""
        options = {"ttl": ttl, "overwrite": overwrite, **expected(expect)}
        return await self._write(lambda table: table.put(key, value, **options))

    async def put_many(
        self,
        pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]],
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Store (key, value) pairs, which expire together: all or none."""
        wanted = taken(pairs)
        await self._write(lambda table: table.put_many(wanted, ttl=ttl))

    async def pop(self, key: Data, default: Any = None) -> Any:
        """Remove ``key`` and return its value; ``default`` if it is not there or has expired."""
        return await self._write(lambda table: table.pop(key, default))

    async def touch(self, key: Data, ttl: float | timedelta | None) -> bool:
        """Let an entry expire after so many seconds from now, or (None) never. Whether it is there."""
        return await self._write(lambda table: table.touch(key, ttl))

    async def delete(self, key: Data) -> bool:
        """Remove ``key``. Whether it was there."""
        return await self._write(lambda table: table.delete(key))

    async def clear(self) -> None:
        """Remove every entry."""
        await self._write(lambda table: table.clear())

    async def collect(self) -> int:
        """Give the space of all that has expired back. How many entries."""
        return await self._write(lambda table: table.collect())


class Parts(AsyncReads):
    """What has named tables and time series: a store, a transaction, a snapshot (of which they are read)."""

    @overload
    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: Literal[False] = False
    ) -> AsyncTable: ...
    @overload
    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: Literal[True]
    ) -> AsyncDuplicatesTable: ...
    @overload
    def table(
        self, name: str | bytes, *, create: bool = True, expires: Literal[True]
    ) -> AsyncExpiringTable: ...

    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: bool = False, expires: bool = False
    ) -> AsyncTable | AsyncDuplicatesTable | AsyncExpiringTable:
        """A named table of a kind, see :meth:`kvwasi.Store.table`. It is looked for by the calls that use it.

        Args:
            name: as there.
            create: whether its first write makes it if it is not there; of a snapshot it has to be.
            dupsort: a table in which a key has any number of values.
            expires: a table whose entries may expire.
        """
        check_kinds(dupsort, expires)
        kind = AsyncDuplicatesTable if dupsort else AsyncExpiringTable if expires else AsyncTable
        return kind(self, name, create=create)

    async def tables(self, *, dupsort: bool = False, expires: bool = False) -> list[str]:
        """The names of the tables, in order; with ``dupsort`` or ``expires`` of those of that kind."""
        return await self._read(lambda parts: parts.tables(dupsort=dupsort, expires=expires))

    def series(self, name: str | bytes, *, retention: Retention | None = None) -> AsyncSeries:
        """A time series, see :meth:`kvwasi.Store.series`. ``retention``: what its writes are to keep."""
        return AsyncSeries(self, name, retention)

    async def series_names(self) -> list[str]:
        """The names of the time series, in order."""
        return await self._read(lambda parts: parts.series_names())


class ChangingParts(Parts, AsyncEntries):
    """A store or a transaction."""

    async def drop_table(self, name: str | bytes, *, dupsort: bool = False, expires: bool = False) -> None:
        """Remove a table and all that is in it."""
        await self._write(lambda parts: parts.drop_table(name, dupsort=dupsort, expires=expires))

    async def drop_series(self, name: str | bytes) -> None:
        """Remove a time series and all that is in it."""
        await self._write(lambda parts: parts.drop_series(name))


__all__ = ["AsyncDuplicatesTable", "AsyncExpiringTable", "AsyncTable", "ChangingParts", "Parts"]
