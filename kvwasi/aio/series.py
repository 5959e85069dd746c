"""Time series for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from kvwasi.aio.verbs import AsyncReads, Named

if TYPE_CHECKING:
    from kvwasi.series import Entry, Retention, Status, Time
    from kvwasi.series.series import OnConflict


class AsyncSeries(Named):
    """A time series; made by ``series`` of a store or a transaction. See :class:`kvwasi.Series`."""

    def __init__(self, of: AsyncReads, name: str | bytes, retention: Retention | None = None) -> None:
        super().__init__(of, name)
        self._retention = retention

    def _find(self, of: Any) -> Any:
        return of.series(self._name)

    def _find_to_change(self, of: Any) -> Any:
        return of.series(self._name, retention=self._retention)

    async def append(self, value: Any, ts: Time | None = None, *, on_conflict: OnConflict = "error") -> int:
        """Append an entry; its time."""
        return await self._write(lambda series: series.append(value, ts, on_conflict=on_conflict))

    async def append_many(
        self,
        values: Iterable[Any],
        timestamps: Iterable[Time] | None = None,
        *,
        on_conflict: OnConflict = "error",
    ) -> int:
        """Append many entries, all or none; how many."""
        return await self._write(
            lambda series: series.append_many(values, timestamps, on_conflict=on_conflict)
        )

    async def set_status(self, time: Time, status: Status) -> bool:
        """Say what has become of an entry. Whether there is one."""
        return await self._write(lambda series: series.set_status(time, status))

    async def clean(self) -> None:
        """Remove all entries."""
        await self._write(lambda series: series.clean())

    async def trim(self) -> int:
        """Remove all that the retention does not keep. How many entries."""
        return await self._write(lambda series: series.trim())

    async def kind(self) -> str | None:
        """What its values are: ``"bytes"``, ``"float"`` or ``"int"``; None before the first."""
        return await self._read(lambda series: series.kind)

    async def retention(self) -> Retention:
        """What is kept."""
        return await self._read(lambda series: series.retention)

    async def get(self, time: Time) -> Any:
        """The entry of exactly this time; None if there is none."""
        return await self._read(lambda series: series.get(time))

    async def first(self) -> tuple[int, Any] | None:
        """The oldest entry."""
        return await self._read(lambda series: series.first())

    async def last(self) -> tuple[int, Any] | None:
        """The newest entry."""
        return await self._read(lambda series: series.last())

    async def count(
        self, start: Time | None = None, stop: Time | None = None, *, status: Status | None = None
    ) -> int:
        """How many entries of a range there are."""
        return await self._read(lambda series: series.count(start, stop, status=status))

    async def to_numpy(
        self, start: Time | None = None, stop: Time | None = None, *, status: Status | None = None
    ) -> Any:
        """Times and values of a range as arrays."""
        return await self._read(lambda series: series.to_numpy(start, stop, status=status))

    def items(
        self, start: Time | None = None, stop: Time | None = None, **more: Any
    ) -> AsyncIterator[tuple[int, Any]]:
        """(time, value) of the entries of a range, for ``async for``; ``more`` as for the plain ``items``."""
        return self._iterate(lambda series: series.items(start, stop, **more))

    def entries(
        self, start: Time | None = None, stop: Time | None = None, **more: Any
    ) -> AsyncIterator[Entry]:
        """The same with what has become of each, and without ``status`` the deleted ones, too."""
        return self._iterate(lambda series: series.entries(start, stop, **more))

    def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        return self.items()


__all__ = ["AsyncSeries"]
