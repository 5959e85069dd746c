"""A series that is written."""

from __future__ import annotations

import contextlib
import time as _time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kvwasi.errors import TimeOrderError
from kvwasi.series import _codec
from kvwasi.series.changes import set_status, store, trim, weight_of
from kvwasi.series.layout import (
    ALTERED,
    SINGLE,
    Note,
    Retention,
    Status,
    Time,
    key,
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


class Series(SeriesReads):
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
        self._first_retention = retention or Retention()
        self._facts = _Facts()
        with self._view() as view:
            if view is None or view.note is None:
                return
            kind, known = view.note.kind, view.note.retention
        if retention not in (None, known):
            with self._change() as changed:
                changed.set_note(Note(kind, retention))
                trim(changed, retention)
        self._remember()

    # --- appending ---

    def append(self, value: Any, ts: Time | None = None, *, on_conflict: OnConflict = "error") -> int:
        """Append an entry; durable when it returns, if the store's commits are. Its time.

        Args:
            value: bytes-like or str, a float, or an int of 64 bits, as the entries before it.
            ts: its time, None: now.
            on_conflict: what to do if that is not after the newest entry: ``"error"``, or ``"bump"`` to take
                the next nanosecond after that.

        Raises:
            TimeOrderError: it is not after the newest entry.
            TypeError, ValueError: the value or the time is none for this series.
            Otherwise as ``put`` does.
        """
        if ts is None:
            at = _time.time_ns()
        else:
            at = ts if type(ts) is int and 0 <= ts <= _codec.TIME_MAX else nanoseconds(ts)
        bump = on_conflict != "error" and _is_bump(on_conflict)
        facts = self._facts
        if facts.weight >= facts.weight_max or at > facts.next_trim:
            return self._append([value], [at], bump)[1]
        entry_key, data = _codec.encode_single(facts.kind, at, value)
        while not self._table.put(entry_key, data, append=True):
            last = self._last_time()
            if not bump:
                raise _out_of_order(at, last)
            at = nanoseconds(max(at, last + 1))
            entry_key = key(SINGLE, at)
        facts.weight += weight_of(data)
        return at

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
        return self._append(values, timestamps, _is_bump(on_conflict))[0]

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
            written, weight = store(view, columns, self._facts.weight)
            trim(view, view.note.retention, written)
        self._remember()
        self._facts.weight = weight
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
        self._facts = _Facts()

    def trim(self) -> int:
        """Remove, at once, all that the retention does not keep. How many entries.

        Appending does so step by step.
        """
        with self._change() as view:
            before = view.count(0, _codec.TIME_MAX + 1, ANY)
            while view.note is not None and trim(view, view.note.retention):
                pass
            removed = before - view.count(0, _codec.TIME_MAX + 1, ANY)
        self._facts = _Facts()
        return removed

    # --- how ---

    @property
    def _of_store(self) -> bool:
        """Whether it has commits of its own. A transaction's may be undone: then nothing is remembered."""
        return hasattr(self._of, "snapshot")

    @contextlib.contextmanager
    def _change(self) -> Iterator[View]:
        """The series in a transaction."""
        if self._of_store:
            with self._of.transaction() as transaction:  # type: ignore[union-attr]
                yield View(Table(transaction, self._table_name))
        else:
            yield View(self._table)

    def _remember(self) -> None:
        """Look at the series; which also settles which table of its name it is that entries are put into."""
        if self._of_store:
            self._facts = _look(View(self._table))

    def _last_time(self) -> int:
        with self._view() as view:
            return -1 if view is None else view.last_time()


@dataclass(slots=True)
class _Facts:
    """What is remembered of a store's series: when an append is more than putting an entry.

    None is, as long as nothing is known: then each looks.
    """

    kind: int = 0
    weight: int = 0
    """Of the entries that are in no block."""
    weight_max: int = 0
    next_trim: int = -1
    """The time of an entry that, when appended, makes others too old."""


def _is_bump(on_conflict: OnConflict) -> bool:
    if on_conflict not in ("error", "bump"):
        raise ValueError(f"on_conflict is error or bump, not {on_conflict!r}")
    return on_conflict == "bump"


def _look(view: View) -> _Facts:
    if view.note is None:
        return _Facts()
    retention = view.note.retention
    facts = _Facts(view.kind, view.table.count(start=SINGLE), retention.singles_max, _codec.TIME_MAX)
    if retention.age_ns is not None:
        first = view.first_block()
        oldest = -1 if first is None else first[1].last
        if first is None:
            for found in view.table.keys(start=SINGLE, limit=1):
                oldest = time_of(found)
        facts.next_trim = oldest + retention.age_ns
    return facts


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
