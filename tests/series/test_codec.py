"""Blocks of a series: what is written is read, what is damaged is told."""

import random
import struct
from array import array
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvwasi
from kvwasi.series import _codec

TIMES = st.lists(st.integers(0, _codec.TIME_MAX), min_size=1, max_size=60, unique=True).map(sorted)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    _codec.KIND_BYTES: st.binary(max_size=300),
    _codec.KIND_FLOAT: st.floats(),
    _codec.KIND_INT: st.integers(-(1 << 63), (1 << 63) - 1),
}


def columns_of(kind: int, times: list[int], values: list[Any]) -> _codec.Columns:
    columns = _codec.Columns(kind)
    columns.add_values(values)
    columns.set_times(0, times)
    return columns


def pack(key: bytes, data: bytes) -> bytes:
    return struct.pack("=II", len(key), len(data)) + key + data


def same(one: list[Any], other: list[Any]) -> bool:
    return repr(one) == repr(other)  # NaN is itself here


@given(st.data(), st.sampled_from(list(VALUES)), TIMES)
def test_round_trip(data: st.DataObject, kind: int, times: list[int]) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=len(times), max_size=len(times)))
    statuses = data.draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times)))
    columns = columns_of(kind, times, values)
    for index, status in enumerate(statuses):
        columns.set_status(index, status)
    block = columns.block(0, len(times), 7, 9)
    header = _codec.Header(block)
    assert (header.kind, header.count, header.before, header.bytes_before) == (kind, len(times), 7, 9)
    assert (header.first, header.last, header.size) == (times[0], times[-1], len(block))
    assert header.altered == any(statuses)
    expected = list(zip(times, values, statuses, strict=True))
    back = _codec.Columns(kind)
    back.add_block(block)
    assert same(back.triples(), expected)
    assert back.count_statuses() == tuple(statuses.count(status) for status in range(4))
    singles = _codec.Columns(kind)
    for index in range(len(times)):
        singles.add_single(*columns.single(index))
    assert same(singles.triples(), expected)
    for order in (1, -1):
        packed = b"".join(pack(*columns.single(index)) for index in range(len(times))[::order])
        singles.add_packed(packed, order < 0)
    assert same(singles.triples(), 3 * expected)

    start = data.draw(st.sampled_from([*times, 0]))
    stop = data.draw(st.sampled_from([*times, 1 << 63]))
    wanted = data.draw(st.sampled_from([-2, -1, 0, 1, 2, 3]))
    part = _codec.Columns(kind)
    part.add_block(block, start, stop, wanted)
    chosen = [
        entry
        for entry in expected
        if start <= entry[0] < stop
        and (wanted == -1 or entry[2] == wanted or (wanted == -2 and entry[2] != 3))
    ]
    assert same(part.triples(), chosen)
    if wanted != -1:
        assert same(
            back.having(wanted).pairs(),
            [e[:2] for e in expected if e[2] == wanted or (wanted == -2 and e[2] < 3)],
        )


def test_regular_times_take_no_space() -> None:
    columns = columns_of(_codec.KIND_FLOAT, list(range(10, 40_970, 10)), [0.5] * 4096)
    assert len(columns.block(0, 4096, 0, 0)) == 48 + 8 * 4096


def test_values_of_one_length_store_it_once() -> None:
    times = list(range(100))
    one = columns_of(_codec.KIND_BYTES, times, [b"12345"] * 100).block(0, 100, 0, 0)
    other = columns_of(_codec.KIND_BYTES, times, [b"12345"] * 99 + [b"1234"]).block(0, 100, 0, 0)
    assert (len(one), len(other)) == (48 + 500, 48 + 100 + 499)


@pytest.mark.parametrize("kind", VALUES)
def test_damage_is_told_and_harms_nobody(kind: int) -> None:
    """Flipped bits, bytes and cuts of blocks, and sizes that lie: an error or other entries, nothing else."""
    chance = random.Random(kind)
    times = sorted(chance.sample(range(10**6), 40))
    values = {
        _codec.KIND_BYTES: [chance.randbytes(chance.randrange(20)) for _ in times],
        _codec.KIND_FLOAT: [chance.random() for _ in times],
        _codec.KIND_INT: [chance.randrange(100) for _ in times],
    }[kind]
    columns = columns_of(kind, times, values)
    columns.set_status(3, 2)
    block = columns.block(0, 40, 5, 6)
    damaged = [block[:length] for length in range(len(block))]
    damaged += [block + b"\0", b""]
    for bit in range(8 * len(block)):
        changed = bytearray(block)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    for field in (4, 40, 44):
        for lie in (0, 1, 39, 41, 65_536, 65_537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            damaged.append(block[:field] + struct.pack("<I", lie) + block[field + 4 :])
    for _ in range(2000):
        changed = bytearray(block)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(changed))] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        damaged.append(bytes(changed))
    told = 0
    for data in damaged:
        back = _codec.Columns(kind)
        try:
            _codec.Header(data)
            back.add_block(data)
        except kvwasi.CorruptionError:
            told += 1
            continue
        found = [time for time, _ in back.pairs()]
        assert found == sorted(set(found)) and len(found) <= _codec.ENTRIES_MAX
    assert told > len(block) + 10


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (b"\3", b"\4"),
        (b"\3" + bytes(8), b""),
        (b"\3" + bytes(8), b"\x04123"),
        (b"\3\xff" + bytes(7), b"\4" + bytes(8)),
    ],
)
def test_damaged_singles(key: bytes, data: bytes) -> None:
    with pytest.raises(kvwasi.CorruptionError):
        _codec.Columns(_codec.KIND_FLOAT).add_single(key, data)
    with pytest.raises(kvwasi.CorruptionError):
        _codec.Columns(_codec.KIND_FLOAT).add_packed(pack(key, data))


def test_arrays_are_taken_whole() -> None:
    times = numpy.arange(1000, dtype=numpy.int64)
    floats = numpy.linspace(0, 1, 1000)
    expected = columns_of(_codec.KIND_FLOAT, times.tolist(), floats.tolist()).pairs()
    for given_times, given_values in (
        (times, floats),
        (array("q", times.tolist()), array("d", floats.tolist())),
        (memoryview(times), memoryview(floats)),
        (range(1000), iter(floats)),
        (times[::-1][::-1], numpy.repeat(floats, 2)[::2]),  # not contiguous
    ):
        assert columns_of(_codec.KIND_FLOAT, given_times, given_values).pairs() == expected  # type: ignore[arg-type]
    small = columns_of(_codec.KIND_INT, [1, 2], numpy.array([-1, 1], numpy.int16))  # type: ignore[arg-type]
    assert small.pairs() == [(1, -1), (2, 1)]
    assert columns_of(_codec.KIND_FLOAT, [1], numpy.array([0.5], numpy.float32)).pairs() == [(1, 0.5)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "times", "values", "error"),
    [
        (_codec.KIND_INT, [1], [0.5], TypeError),
        (_codec.KIND_INT, [1], [1 << 63], ValueError),
        (_codec.KIND_FLOAT, [1], ["x"], TypeError),
        (_codec.KIND_BYTES, [1], [5], TypeError),
        (_codec.KIND_BYTES, [1, 2, 3], b"abc", TypeError),
        (_codec.KIND_INT, [1, 2], [1], ValueError),
        (_codec.KIND_INT, [1], [1, 2], ValueError),
        (_codec.KIND_INT, [-1], [1], ValueError),
        (_codec.KIND_INT, [1 << 63], [1], ValueError),
        (_codec.KIND_INT, array("q", [1, -1]), [1, 2], ValueError),
        (_codec.KIND_INT, array("q", [1]), [1, 2], ValueError),
    ],
)
def test_impossible_entries(kind: int, times: Any, values: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        columns_of(kind, times, values)


def test_blobs_fill_blocks_by_their_bytes() -> None:
    columns = columns_of(_codec.KIND_BYTES, [1, 2, 3, 4], [bytes(10), bytes(90), bytes(200), b""])
    assert [columns.fitting(begin, 4, 100, 100) for begin in range(4)] == [2, 2, 3, 4]
    assert columns.fitting(0, 4, 1, 100) == 1
