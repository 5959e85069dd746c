"""Changing a series in a transaction: entries into blocks, blocks out of the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvwasi.series import _codec
from kvwasi.series.layout import (
    ALTERED,
    BLOCK,
    BLOCK_FROM,
    SINGLE,
    Retention,
    Status,
    encode_altered,
    key,
    time_of,
)

if TYPE_CHECKING:
    from kvwasi.series.view import View
    from kvwasi.table import Table

_END = _codec.TIME_MAX + 1
_TRIM_BLOCKS = 8  # that are removed by one append
_TRIM_SINGLES = 64


def store(view: View, new: _codec.Columns, weight: int) -> tuple[int, int]:
    """Append entries that come after all others. The newest stays on its own, see the layout.

    ``weight`` is that of the entries on their own, as far as it is known. Returns how many blocks were
    written, and the weight now.
    """
    assert view.note is not None
    table, retention = view.writable, view.note.retention
    newest = new.single(len(new) - 1)
    if len(new) < BLOCK_FROM and table.count(start=SINGLE) + len(new) <= retention.singles_max:
        singles = [new.single(index) for index in range(len(new))]
        heavier = weight + sum(_codec.weight_of(data) for _, data in singles)
        if heavier <= retention.singles_max:
            table.put_many(singles)
            return 0, heavier
    run = _codec.Columns(view.kind)
    for columns in view.singles():
        run.add_columns(columns)
    waiting = len(run)
    run.add_columns(new)
    written = _seal(view, run, len(run) - 1, retention) if len(run) > 1 else 0
    if waiting:
        table.delete_range(start=SINGLE, stop=key(SINGLE, run.time(waiting - 1) + 1))
    table.put(*newest)
    return written, _codec.weight_of(newest[1])


def _seal(view: View, run: _codec.Columns, count: int, retention: Retention) -> int:
    """Put the first ``count`` entries into blocks, together with the last blocks if those are no larger.

    So an entry is written again a few times until its block is full, as in a binary counter.
    """
    table = view.writable
    smaller: list[bytes] = []
    total, before, bytes_before = count, 0, 0
    size = run.size(count)
    found = view.block_before(_END)
    while found is not None:
        block = _codec.Header(found[1])
        before, bytes_before = block.before + block.count, block.bytes_before + block.size
        fits = block.count + total <= retention.block_entries and block.size + size <= retention.block_bytes
        if block.count > total or not fits:
            break
        smaller.append(found[1])
        total, size = total + block.count, size + block.size
        before, bytes_before = block.before, block.bytes_before
        _remove_block(table, found[0])
        found = view.block_before(time_of(found[0]))
    columns = _codec.Columns(view.kind)
    columns.reserve(total)
    for data in reversed(smaller):
        columns.add_block(data)
    columns.add_columns(run)
    begin = 0
    blocks: list[tuple[bytes, bytes]] = []
    while begin < total:
        end = columns.fitting(begin, total, retention.block_entries, retention.block_bytes)
        data = columns.block(begin, end, before, bytes_before)
        blocks.append((key(BLOCK, columns.time(begin)), data))
        before, bytes_before = before + end - begin, bytes_before + len(data)
        begin = end
    table.put_many(blocks)
    if columns.altered:
        for found_key, data in blocks:
            _note_statuses(view, found_key, data)
    return len(blocks)


def _note_statuses(view: View, block_key: bytes, data: bytes) -> None:
    """Keep how many entries of a block have which status beside it."""
    if _codec.Header(data).altered:
        columns = _codec.Columns(view.kind)
        columns.add_block(data)
        last = columns.time(len(columns) - 1)
        view.writable[ALTERED + block_key[1:]] = encode_altered(last, columns.count_statuses())


def _remove_block(table: Table, block_key: bytes) -> None:
    table.delete(block_key)
    table.delete(ALTERED + block_key[1:])


def set_status(view: View, time: int, status: Status) -> bool:
    """Change the status of an entry. Whether there is one."""
    table = view.writable
    columns = _codec.Columns(view.kind)
    single = table.get(key(SINGLE, time))
    if single is not None:
        columns.add_single(key(SINGLE, time), single)
        columns.set_status(0, status)
        table.put(*columns.single(0))
        return True
    found = view.block_before(time + 1)
    if found is None:
        return False
    columns.add_block(found[1])
    index = columns.place(time)
    if index == len(columns) or columns.time(index) != time:
        return False
    if columns.status(index) != status:
        columns.set_status(index, status)
        block = _codec.Header(found[1])
        data = columns.block(0, len(columns), block.before, block.bytes_before)
        table[found[0]] = data
        table.delete(ALTERED + found[0][1:])
        _note_statuses(view, found[0], data)
    return True


def trim(view: View, retention: Retention, written: int = 0) -> bool:
    """Remove some of the oldest that goes beyond a retention. Whether there may be more.

    ``written`` blocks were just added.
    """
    if retention == Retention():
        return False
    table = view.writable
    oldest_kept = view.last_time() - (retention.age_ns or _END)
    last, entries = view.block_before(_END), view.rank(_END)
    for _ in range(_TRIM_BLOCKS + written):
        first = view.first_block()
        if first is None or last is None:
            return _trim_singles(table, oldest_kept)
        block, newest = first[1], _codec.Header(last[1])
        count = entries - block.before
        size = newest.bytes_before + newest.size - block.bytes_before
        if not (
            block.last < oldest_kept
            or (retention.count is not None and count - block.count >= retention.count)
            or (retention.bytes is not None and size - block.size >= retention.bytes)
        ):
            return False
        _remove_block(table, first[0])
    return True


def _trim_singles(table: Table, oldest_kept: int) -> bool:
    if oldest_kept <= 0:
        return False
    old = list(iter(table.keys(start=SINGLE, stop=key(SINGLE, oldest_kept), limit=_TRIM_SINGLES)))
    for one in old:
        del table[one]
    return len(old) == _TRIM_SINGLES


__all__ = ["set_status", "store", "trim"]
