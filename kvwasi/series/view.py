"""Reading a series at one moment: counts by the headers of blocks, ranges block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from kvwasi.engine import _engine
from kvwasi.errors import CorruptionError
from kvwasi.series import _codec
from kvwasi.series.layout import (
    ALTERED,
    BLOCK,
    NOTE,
    SINGLE,
    Note,
    Status,
    decode_altered,
    key,
    time_of,
)

if TYPE_CHECKING:
    from kvwasi.ranges import OrderedReads
    from kvwasi.table import Table

ANY, ANY_BUT_DELETED = -1, -2
"""Beside the statuses, what may be asked for."""
_END = _codec.TIME_MAX + 1  # behind every time

Counts = tuple[int, int, int]
"""How many entries there are with each status but the first."""


class View:
    """A series as its table is at one moment, or in a transaction. Ranges of times are half-open."""

    def __init__(self, table: OrderedReads) -> None:
        self.table = table
        note = table.get(NOTE)
        self.note = None if note is None else Note.decode(note)
        self.kind = _codec.KIND_BYTES if self.note is None else self.note.kind

    @property
    def writable(self) -> Table:
        """The table, of a transaction."""
        return cast("Table", self.table)

    def set_note(self, note: Note) -> None:
        """Write it; in a transaction."""
        self.writable[NOTE] = note.encode()
        self.note, self.kind = note, note.kind

    # --- places ---

    def first_block(self) -> tuple[bytes, _codec.Header] | None:
        """The first block's key and header."""
        for found, data in self.table.items(start=BLOCK, stop=SINGLE, limit=1):
            return found, _codec.Header(data)
        return None

    def block_before(self, time: int) -> tuple[bytes, bytes] | None:
        """The last block that begins before a time, with its key."""
        return next(iter(self.table.items(start=BLOCK, stop=key(BLOCK, time), reverse=True, limit=1)), None)

    def last_time(self) -> int:
        """The time of the newest entry; -1: there is none."""
        for found in self.table.keys(start=SINGLE, reverse=True, limit=1):
            last = time_of(found)
            if last > _codec.TIME_MAX:
                raise CorruptionError("a time series is damaged: a time that there is not", 0, "value")
            return last
        return -1

    def singles(self, start: int = 0, stop: int = _END, *, reverse: bool = False) -> Iterator[_codec.Columns]:
        """The entries that are in no block, some at a time; reversed, each some in its order."""
        first, end = key(SINGLE, start), key(SINGLE, stop)
        reads = cast(_engine.Reads, self.table)
        for packed in _engine.EntryIterator(reads, first, end, reverse, _engine.PACKED, None):
            columns = _codec.Columns(self.kind)
            columns.add_packed(cast(bytes, packed), reverse)
            yield columns

    # --- ranges ---

    def ranges(
        self, start: int, stop: int, status: int = ANY, *, reverse: bool = False
    ) -> Iterator[_codec.Columns]:
        """The entries of a range, a block or so at a time; reversed, each block in its order."""
        if reverse:
            yield from self._chosen(self.singles(start, stop, reverse=True), status)
        for data in self._blocks(start, stop, reverse=reverse):
            columns = _codec.Columns(self.kind)
            columns.add_block(data, start, stop, status)
            if len(columns):
                yield columns
        if not reverse:
            yield from self._chosen(self.singles(start, stop), status)

    def collect(self, start: int, stop: int, status: int) -> _codec.Columns:
        """The same at once."""
        columns = _codec.Columns(self.kind)
        columns.reserve(self.rank(stop) - self.rank(start) + _codec.ENTRIES_MAX)
        for data in self._blocks(start, stop):
            columns.add_block(data, start, stop, status)
        for some in self._chosen(self.singles(start, stop), status):
            columns.add_columns(some)
        return columns

    def _blocks(self, start: int, stop: int, *, reverse: bool = False) -> Iterable[bytes]:
        """The blocks that have entries of a range, or may."""
        first = self.block_before(start)
        begin, end = key(BLOCK, start) if first is None else first[0], key(BLOCK, stop)
        return self.table.values(start=begin, stop=end, reverse=reverse) if begin < end else ()

    def _chosen(self, parts: Iterator[_codec.Columns], status: int) -> Iterator[_codec.Columns]:
        for columns in parts:
            if status != ANY and (columns.altered or status > 0):
                columns = columns.having(status)
            if len(columns):
                yield columns

    # --- counts ---

    def rank(self, time: int) -> int:
        """How many entries there are before a time, and before those that are still there."""
        found = self.block_before(time)
        if found is None:
            first = self.first_block()
            if first is not None:
                return first[1].before
            return self.table.count(start=SINGLE, stop=key(SINGLE, time))
        block = _codec.Header(found[1])
        if time > block.last:
            return block.before + block.count + self.table.count(start=SINGLE, stop=key(SINGLE, time))
        return block.before + self._decoded(found[1]).place(time)

    def count(self, start: int, stop: int, status: int) -> int:
        """How many entries of a range have a status. Blocks within the range are not read."""
        if status > 0:
            return self._altered(start, stop)[status - 1]
        total = self.rank(stop) - self.rank(start)
        if status == ANY:
            return total
        altered = self._altered(start, stop)
        return total - (altered[Status.DELETED - 1] if status == ANY_BUT_DELETED else sum(altered))

    def _altered(self, start: int, stop: int) -> Counts:
        parts = []
        first = self.block_before(start)
        begin = start if first is None else time_of(first[0])
        if begin < stop:
            for found, data in self.table.items(start=key(ALTERED, begin), stop=key(ALTERED, stop)):
                last, counts = decode_altered(data)
                if time_of(found) < start or last >= stop:
                    columns = _codec.Columns(self.kind)
                    columns.add_block(self.table[BLOCK + found[1:]], start, stop)
                    counts = columns.count_statuses()[1:]
                parts.append(counts)
        parts += [columns.count_statuses()[1:] for columns in self.singles(start, stop) if columns.altered]
        one, two, three = (sum(part[i] for part in parts) for i in range(3))
        return one, two, three

    def _decoded(self, data: bytes) -> _codec.Columns:
        columns = _codec.Columns(self.kind)
        columns.add_block(data)
        return columns


__all__ = ["ANY", "ANY_BUT_DELETED", "View"]
