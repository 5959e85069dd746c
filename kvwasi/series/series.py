"""A series that is written."""

from __future__ import annotations

import contextlib
import time as _time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from kvwasi.errors import TimeOrderError
from kvwasi.series import _codec
from kvwasi.series.changes import set_status, store, trim
from kvwasi.series.layout import (
    ALTERED,
    SINGLE,
    Note,
    Retention,
    Status,
    Time,
    kind_of,
    nanoseconds,
    time_of,
)
from kvwasi.series.reads import SeriesReads
from kvwasi.series.view import ANY, View
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

OnConflict = Literal["error", "bump"]


class Series(_codec.Appender, SeriesReads):
    """A time series; made by ``series`` of a store or a transaction.

    Entries have times that increase, in nanoseconds since 1970, and values that are all bytes, all floats or
    all (64-bit) ints: the first one says which. They lie in blocks of some thousands, the newest on their
    own until there are enough of them. Each call is a commit of its own, or belongs to the transaction.

    >>> import kvwasi, tempfile, os
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...     temperatures = store.series("temperature")
    ...     temperatures.append(21.5, ts=1000)
    ...     temperatures.append_many([21.75, 22.0], [2000, 3000])
    ...     list(temperatures.items(start=2000)), temperatures.count(stop=3000), temperatures.last()
    1000
    ([(2000, 21.75), (3000, 22.0)], 2, (3000, 22.0))
    """

    def __init__(
        self, of: Store | Transaction, name: str | bytes, *, retention: Retention | None = None
    ) -> None:
        super().__init__(of, name)
        self._table = Table(of, self._table_name)
        self._appends_to(self._table, nanoseconds)
        self._first_retention = retention or Retention()
        with self._view() as view:
            if view is None or view.note is None:
                return
            kind, known = view.note.kind, view.note.retention
        if retention not in (None, known):
            with self._change() as changed:
                changed.set_note(Note(kind, retention))
                trim(changed, retention)
        self._remember()

    # --- appending; one entry: see Appender ---

    def append_many(
        self,
        values: Iterable[Any],
        timestamps: Iterable[Time] | None = None,
        *,
        on_conflict: OnConflict = "error",
    ) -> int:
        """Append many entries, all or none. How many.

        Args:
            values: an iterable, or an array of float64 or int64 (NumPy's, ``array.array``, a memoryview).
            timestamps: as many; an iterable, an array of int64 or datetime64; None: now, and one nanosecond
                after the other.
            on_conflict: as for :meth:`append`.

        Raises:
            TimeOrderError: a time is not after the one before it; nothing was appended.
            Otherwise as :meth:`append` does.
        """
        if isinstance(values, Iterator):
            values = list(values)
        return self._append(values, timestamps, _codec.bumps(on_conflict))[0]

    def _append(self, values: Any, timestamps: Any, bump: bool) -> tuple[int, int]:
        """Append in one transaction; how many, and the time of the last."""
        with self._change() as view:
            if view.note is None:
                for value in values:
                    view.set_note(Note(kind_of(value), self._first_retention))
                    break
            columns = _codec.Columns(view.kind)
            columns.add_values(values)
            count = len(columns)
            if timestamps is None:
                columns.set_times_from(0, _time.time_ns())
            else:
                columns.set_times(0, _times(timestamps))
            if count == 0 or view.note is None:
                return 0, -1
            last = view.last_time()
            wrong = columns.settle(0, last, bump)
            if wrong >= 0:
                raise _out_of_order(columns.time(wrong), columns.time(wrong - 1) if wrong else last)
            written, weight = store(view, columns, self._weight)
            trim(view, view.note.retention, written)
        self._remember(weight)
        return count, columns.time(count - 1)

    # --- changing ---

    def set_status(self, time: Time, status: Status) -> bool:
        """Say what has become of the entry of exactly this time. Whether there is one.

        A deleted one is passed over from now on, but its place is only given back with its block.
        """
        at, status = nanoseconds(time), Status(status)
        with self._change() as view:
            return set_status(view, at, status)

    def clean(self) -> None:
        """Remove all entries, at once. What kind they are and what is kept stays."""
        with self._change() as view:
            view.writable.delete_range(start=ALTERED)
        self._forget()

    def trim(self) -> int:
        """Remove, at once, all that the retention does not keep. How many entries.

        Appending does so step by step.
        """
        with self._change() as view:
            before = view.count(0, _codec.TIME_MAX + 1, ANY)
            while view.note is not None and trim(view, view.note.retention):
                pass
            removed = before - view.count(0, _codec.TIME_MAX + 1, ANY)
        self._forget()
        return removed

    # --- how ---

    @property
    def _of_store(self) -> bool:
        """Whether it has commits of its own."""
        return hasattr(self._of, "snapshot")

    @contextlib.contextmanager
    def _change(self) -> Iterator[View]:
        """The series in a transaction."""
        if self._of_store:
            with self._of.transaction() as transaction:  # type: ignore[union-attr]
                yield View(Table(transaction, self._table_name))
        else:
            yield View(self._table)

    def _remember(self, weight: int | None = None) -> None:
        """Look at the series; which also settles which table of its name it is that entries are put into."""
        if not self._of_store:  # what a transaction has done may be undone
            self._know(_codec.KIND_BYTES, weight or 0, 0, -1)
            return
        view = View(self._table)
        if view.note is None:
            self._forget()
            return
        retention = view.note.retention
        known = view.table.count(start=SINGLE) if weight is None else weight
        self._know(view.kind, known, retention.singles_max, _next_trim(view, retention))

    def _after(self, refused: int, bump: bool) -> int:
        """The time for an entry whose own was refused."""
        with self._view() as view:
            last = -1 if view is None else view.last_time()
        if not bump or last >= _codec.TIME_MAX:
            raise _out_of_order(refused, last)
        return max(refused, last + 1)


def _next_trim(view: View, retention: Retention) -> int:
    """The time of an entry that, when appended, makes others too old."""
    if retention.age_ns is None:
        return _codec.TIME_MAX
    first = view.first_block()
    oldest = -1 if first is None else first[1].last
    if first is None:
        for found in view.table.keys(start=SINGLE, limit=1):
            oldest = time_of(found)
    return min(oldest + retention.age_ns, _codec.TIME_MAX)


def _out_of_order(at: int, last: int) -> Exception:
    if last >= _codec.TIME_MAX:
        return TimeOrderError("the newest entry has the last time that there is", at, last)
    return TimeOrderError(f"the time {at} is not after {last}, that of the entry before it", at, last)


def _times(timestamps: Any) -> Any:
    """Times as the codec takes them."""
    if getattr(getattr(timestamps, "dtype", None), "kind", "") == "M":
        return timestamps.astype("datetime64[ns]").view("int64")
    if isinstance(timestamps, list | tuple) or not hasattr(timestamps, "__len__"):
        return [at if type(at) is int else nanoseconds(at) for at in timestamps]
    return timestamps


__all__ = ["OnConflict", "Series"]
