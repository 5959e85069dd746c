"""Entries in batches of bytes, as the time series read them."""

import struct
from pathlib import Path
from typing import cast

import pytest

import kvwasi
from kvwasi.engine import _engine

LARGE = bytes(range(256)) * 300  # more than the guest's buffer passes


def unpacked(
    reads: object,
    start: bytes | None = None,
    stop: bytes | None = None,
    reverse: bool = False,
    limit: int | None = None,
) -> list[tuple[bytes, bytes]]:
    found = []
    batches = _engine.EntryIterator(cast(_engine.Reads, reads), start, stop, reverse, _engine.PACKED, limit)
    for packed in cast("list[bytes]", list(batches)):
        at = 0
        while at < len(packed):
            key_length, length = struct.unpack_from("=II", packed, at)
            value = at + 8 + key_length
            found.append((packed[at + 8 : value], packed[value : value + length]))
            at = value + length
        assert at == len(packed)
    return found


@pytest.mark.parametrize("table", [None, "numbers"])
def test_the_same_as_items(tmp_path: Path, table: str | None) -> None:
    with kvwasi.open(tmp_path / "a.kv", sync="none") as store:
        entries = store if table is None else store.table(table)
        assert unpacked(entries) == []
        for i in range(1500):
            entries[b"%05d" % i] = LARGE + b"%d" % i if i % 400 == 7 else b"v" * (i % 90)
        items = list(entries.items())
        assert unpacked(entries) == items
        assert unpacked(entries, reverse=True) == items[::-1]
        assert unpacked(entries, b"00005", b"00999") == items[5:999]
        assert unpacked(entries, b"00005", limit=300) == items[5:305]
        assert unpacked(entries, limit=0) == []
        with store.transaction() as transaction:
            changed = transaction if table is None else transaction.table(table)
            changed[b"00003"] = b"new"
            changed[b"00004"] = LARGE[::-1]
            assert unpacked(changed) == [*items[:3], (b"00003", b"new"), (b"00004", LARGE[::-1]), *items[5:]]


def test_what_is_left_unread(tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv", sync="none") as store:
        for i in range(600):
            store[b"%05d" % i] = b"value"
        batches = _engine.EntryIterator(cast(_engine.Reads, store), None, None, False, _engine.PACKED, None)
        assert len(next(batches)) == 16 * (8 + 5 + 5)
        del batches
        assert len(unpacked(store)) == 600


def test_a_damaged_value_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.kv"
    with kvwasi.open(path) as store:
        for i in range(50):
            store[b"%05d" % i] = b"the value number %d" % i
    data = bytearray(path.read_bytes())
    at = data.rindex(b"the value number 31")
    data[at] ^= 1
    path.write_bytes(data)
    with kvwasi.open(path) as store, pytest.raises(kvwasi.CorruptionError):
        unpacked(store)
