"""The verbs of stores, transactions, snapshots and tables, awaited: a thread makes the plain call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from kvwasi.engine import _engine
from kvwasi.errors import ReadOnlyError
from kvwasi.names import decode_name, encode_name
from kvwasi.ranges import Data

T = TypeVar("T")
_BATCH = 512  # entries that an iterator fetches at once


class Anything:
    """Of ``expect``, when it was not given."""


ANYTHING = Anything()


def expected(expect: Data | Anything | None) -> dict[str, Any]:
    """The plain call's argument of that name, if it was given."""
    return {} if isinstance(expect, Anything) else {"expect": expect}


def taken(pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]]) -> list[tuple[bytes, bytes]]:
    """The pairs as they are now: the writing thread comes later."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [(_engine.as_bytes(key), _engine.as_bytes(value)) for key, value in items]


class Reading(ABC):
    """What is read by plain calls that a thread makes."""

    @abstractmethod
    async def _read(self, do: Callable[[Any], T]) -> T:
        """Call ``do`` with what is read, in a thread."""

    async def _iterate(self, begin: Callable[[Any], Iterator[Any]]) -> AsyncIterator[Any]:
        iterator = await self._read(begin)
        while batch := await self._read(lambda _: list(islice(iterator, _BATCH))):
            for entry in batch:
                yield entry


class AsyncReads(Reading):
    """What reads. Arguments, results and errors are those of the plain API."""

    async def get(self, key: Data, default: Any = None, *, view: bool = False) -> Any:
        """The value of ``key`` as bytes, or with ``view`` where it lies; ``default`` if it is not there."""
        return await self._read(lambda reads: reads.get(key, default, view=view))

    async def get_many(self, keys: Iterable[Data]) -> list[bytes | None]:
        """The values of ``keys``, in their order; None for those that are not there."""
        wanted = list(keys)
        return await self._read(lambda reads: reads.get_many(wanted))

    async def contains(self, key: Data) -> bool:
        """Whether ``key`` is there."""
        return await self._read(lambda reads: key in reads)

    async def count(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """How many keys there are from ``start`` to below ``stop``, or with ``prefix``."""
        return await self._read(lambda reads: reads.count(start=start, stop=stop, prefix=prefix))

    async def first(self) -> tuple[bytes, bytes] | None:
        """The first key and its value; None if there is none."""
        return await self._read(lambda reads: reads.first())

    async def last(self) -> tuple[bytes, bytes] | None:
        """The last key and its value; None if there is none."""
        return await self._read(lambda reads: reads.last())

    def keys(self, **bounds: Any) -> AsyncIterator[bytes]:
        """The keys of a range in order, for ``async for``; ``bounds`` as for :meth:`kvwasi.Store.keys`."""
        return self._iterate(lambda reads: iter(reads.keys(**bounds)))

    def values(self, **bounds: Any) -> AsyncIterator[bytes]:
        """The values of a range, likewise."""
        return self._iterate(lambda reads: iter(reads.values(**bounds)))

    def items(self, **bounds: Any) -> AsyncIterator[tuple[bytes, bytes]]:
        """The (key, value) pairs of a range, likewise."""
        return self._iterate(lambda reads: iter(reads.items(**bounds)))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()


class AsyncEntries(AsyncReads):
    """What can be changed, too. A call that was cancelled has happened wholly or not at all."""

    @abstractmethod
    async def _write(self, do: Callable[[Any], T]) -> T:
        """Call ``do`` with what is changed, in the writing thread."""

    async def put(
        self,
        key: Data,
        value: Data,
        *,
        overwrite: bool = True,
        append: bool = False,
        expect: Data | Anything | None = ANYTHING,
    ) -> bool:
        """Store ``value`` under ``key``, see :meth:`kvwasi.Store.put`. Whether it was stored."""
        options = {"overwrite": overwrite, "append": append, **expected(expect)}
        return await self._write(lambda entries: entries.put(key, value, **options))

    async def put_many(self, pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]]) -> None:
        """Store (key, value) pairs, or the items of a mapping: all or none."""
        wanted = taken(pairs)
        await self._write(lambda entries: entries.put_many(wanted))

    async def delete(self, key: Data, *, expect: Data | Anything | None = ANYTHING) -> bool:
        """Remove ``key``, with ``expect`` only if that is its value. Whether it was removed."""
        options = expected(expect)
        return await self._write(lambda entries: entries.delete(key, **options))

    async def increment(self, key: Data, by: int = 1, *, default: int = 0) -> int:
        """Add to a number and return the sum, see :meth:`kvwasi.Store.increment`."""
        return await self._write(lambda entries: entries.increment(key, by, default=default))

    async def pop(self, key: Data, default: Any = None) -> Any:
        """Remove ``key`` and return its value; ``default`` if it is not there."""
        return await self._write(lambda entries: entries.pop(key, default))

    async def pop_first(self) -> tuple[bytes, bytes] | None:
        """Remove the first key and return it with its value; None if there is none."""
        return await self._write(lambda entries: entries.pop_first())

    async def pop_last(self) -> tuple[bytes, bytes] | None:
        """Remove the last key and return it with its value; None if there is none."""
        return await self._write(lambda entries: entries.pop_last())

    async def delete_range(
        self, *, start: Data | None = None, stop: Data | None = None, prefix: Data | None = None
    ) -> int:
        """Remove the keys from ``start`` to below ``stop``, or with ``prefix``; how many."""
        return await self._write(lambda entries: entries.delete_range(start=start, stop=stop, prefix=prefix))

    async def clear(self) -> None:
        """Remove every key."""
        await self._write(lambda entries: entries.clear())


class Named(Reading):
    """A part of a store, a transaction or a snapshot, which each call finds by its name."""

    def __init__(self, of: AsyncReads, name: str | bytes) -> None:
        self._of = of
        self._name = encode_name(name)

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._name)

    def __repr__(self) -> str:
        return f"<kvwasi.aio.{type(self).__name__} {self.name!r} of {self._of!r}>"

    @abstractmethod
    def _find(self, of: Any) -> Any:
        """The plain object for it in a plain store, transaction or snapshot."""

    def _find_to_change(self, of: Any) -> Any:
        return self._find(of)

    async def _read(self, do: Callable[[Any], T]) -> T:
        return await self._of._read(lambda of: do(self._find(of)))

    async def _write(self, do: Callable[[Any], T]) -> T:
        if not isinstance(self._of, AsyncEntries):
            raise ReadOnlyError("a snapshot cannot be changed")
        return await self._of._write(lambda of: do(self._find_to_change(of)))


__all__ = ["ANYTHING", "Anything", "AsyncEntries", "AsyncReads", "Named", "Reading", "expected", "taken"]
