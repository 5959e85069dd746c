"""A series that is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kvwasi.errors import NoSuchTableError
from kvwasi.names import decode_name, given_name, reserved_name
from kvwasi.series import _codec
from kvwasi.series.layout import KIND_NAMES, Note, Retention, Status, Time, nanoseconds
from kvwasi.series.view import ANY, ANY_BUT_DELETED, View
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.table import Table

if TYPE_CHECKING:
    import numpy

    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

KIND = "series"
"""Of their reserved names of tables."""


class Entry(NamedTuple):
    """An entry of a series."""

    time: int
    """Nanoseconds since 1970-01-01 00:00 UTC."""
    value: Any
    """bytes, float or int, as the series has them."""
    status: Status


class SeriesReads:
    """A time series as it is read; of a snapshot, this is all. See :class:`Series`.

    Ranges of times are half-open: from ``start`` to below ``stop``, each a number of nanoseconds since 1970
    or a datetime with a time zone; None is open. Where ``status`` may be given, None means all entries but
    the deleted ones.
    """

    def __init__(self, of: Store | Transaction | Snapshot, name: str | bytes) -> None:
        self._of = of
        self._table_name = reserved_name(KIND, given_name(name))

    @property
    def name(self) -> str:
        """Its name."""
        return decode_name(self._table_name[len(reserved_name(KIND)) :])

    @property
    def kind(self) -> str | None:
        """What its values are: ``"bytes"``, ``"float"`` or ``"int"``; None before the first."""
        with self._view() as view:
            return None if view is None or view.note is None else KIND_NAMES[view.note.kind]

    @property
    def retention(self) -> Retention:
        """What it keeps."""
        return self._note().retention

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._of, self.name)  # as far as a store can be pickled

    def __repr__(self) -> str:
        return f"<kvwasi.{type(self).__name__} {self.name!r} of {self._of!r}>"

    def _note(self) -> Note:
        with self._view() as view:
            return Note(_codec.KIND_BYTES) if view is None or view.note is None else view.note

    @contextlib.contextmanager
    def _view(self) -> Iterator[View | None]:
        """The series at one moment; None: there is nothing of it."""
        of = self._of
        if isinstance(of, Snapshot):
            yield self._snapshot_view(of)
        elif hasattr(of, "snapshot"):
            with of.snapshot() as snapshot:
                yield self._snapshot_view(snapshot)
        else:
            yield View(Table(of, self._table_name))

    def _snapshot_view(self, snapshot: Snapshot) -> View | None:
        try:
            return View(SnapshotTable(snapshot, self._table_name))
        except NoSuchTableError:
            return None

    # --- what is in it ---

    def items(
        self,
        start: Time | None = None,
        stop: Time | None = None,
        *,
        status: Status | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """(time, value) of the entries of a range, in the order of their times, or from its end.

        The iterator sees the series as it was when its first entry was asked for.
        """
        for columns in self._parts(start, stop, _wanted(status), reverse):
            pairs = columns.pairs()
            yield from reversed(pairs) if reverse else pairs

    def entries(
        self,
        start: Time | None = None,
        stop: Time | None = None,
        *,
        status: Status | None = None,
        reverse: bool = False,
    ) -> Iterator[Entry]:
        """The same with what has become of each, and without ``status`` the deleted ones, too."""
        for columns in self._parts(start, stop, ANY if status is None else status, reverse):
            triples = columns.triples()
            for time, value, number in reversed(triples) if reverse else triples:
                yield Entry(time, value, Status(number))

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self.items()

    def __reversed__(self) -> Iterator[tuple[int, Any]]:
        return self.items(reverse=True)

    def _parts(
        self, start: Time | None, stop: Time | None, status: int, reverse: bool
    ) -> Iterator[_codec.Columns]:
        first, last = _bounds(start, stop)
        with self._view() as view:
            if view is not None:
                yield from view.ranges(first, last, status, reverse=reverse)

    def get(self, time: Time) -> Entry | None:
        """The entry of exactly this time, deleted or not; None if there is none."""
        at = nanoseconds(time)
        return next(self.entries(at, None if at == _codec.TIME_MAX else at + 1), None)

    def first(self) -> tuple[int, Any] | None:
        """The oldest entry that is not deleted; None if there is none."""
        return next(self.items(), None)

    def last(self) -> tuple[int, Any] | None:
        """The newest entry that is not deleted; None if there is none."""
        return next(self.items(reverse=True), None)

    def count(
        self, start: Time | None = None, stop: Time | None = None, *, status: Status | None = None
    ) -> int:
        """How many entries of a range there are. Takes some look-ups, whatever the length of the range."""
        first, last = _bounds(start, stop)
        with self._view() as view:
            return 0 if view is None or last <= first else view.count(first, last, _wanted(status))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def to_numpy(
        self, start: Time | None = None, stop: Time | None = None, *, status: Status | None = None
    ) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]:
        """The times (int64, nanoseconds since 1970) and the values (float64 or int64) of a range, as arrays.

        Raises:
            TypeError: the values are bytes.
            ImportError: NumPy is not installed.
        """
        import numpy

        first, last = _bounds(start, stop)
        with self._view() as view:
            if view is None or view.note is None:
                return numpy.empty(0, numpy.int64), numpy.empty(0, numpy.float64)
            if view.kind == _codec.KIND_BYTES:
                raise TypeError(f"the values of the series {self.name!r} are bytes, not numbers")
            columns = view.collect(first, last, _wanted(status))
        type_ = numpy.float64 if columns.kind == _codec.KIND_FLOAT else numpy.int64
        times, values = columns.take()
        if not len(times):
            return numpy.empty(0, numpy.int64), numpy.empty(0, type_)
        return numpy.frombuffer(memoryview(times), numpy.int64), numpy.frombuffer(memoryview(values), type_)


def _wanted(status: Status | None) -> int:
    return ANY_BUT_DELETED if status is None else Status(status)


def _bounds(start: Time | None, stop: Time | None) -> tuple[int, int]:
    return (
        0 if start is None else nanoseconds(start),
        _codec.TIME_MAX + 1 if stop is None else nanoseconds(stop),
    )


__all__ = ["KIND", "Entry", "SeriesReads"]
