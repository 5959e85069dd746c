"""A reader of time series, written from FORMAT.md alone: slow, simple, independent of the codec."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

MASK = (1 << 64) - 1


def entries(table: Mapping[bytes, bytes]) -> Iterator[tuple[int, Any, int]]:
    """(time, value, status) of all entries of a series' table."""
    for key, data in sorted(table.items()):
        time = int.from_bytes(key[1:], "big")
        if key[0] == 2:
            yield from block(data)
        elif key[0] == 3:
            yield time, value(data[0] // 4, data[1:]), data[0] % 4


def value(kind: int, data: bytes) -> Any:
    return data if kind == 0 else struct.unpack("<d" if kind == 1 else "<q", data)[0]


def varints(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0


def block(data: bytes) -> Iterator[tuple[int, Any, int]]:
    fields = struct.unpack_from("<BBBBIQQQQII", data)
    version, kind, flags, zero, count, _, _, first, last, time_bytes, length = fields
    assert (version, zero) == (1, 0)
    at = struct.calcsize("<BBBBIQQQQII")
    times = [first]
    if time_bytes == 0:
        times = [first + n * (last - first) // max(count - 1, 1) for n in range(count)]
    distance = 0
    for change in varints(data[at : at + time_bytes]):
        distance = distance + (change >> 1 ^ -(change & 1)) & MASK
        times.append(times[-1] + distance)
    assert times[-1] == last
    at += time_bytes
    statuses = [0] * count
    if flags & 1:
        statuses = [data[at + n // 4] >> 2 * (n % 4) & 3 for n in range(count)]
        at += (count + 3) // 4
    lengths = [length] * count
    if not flags & 2:
        lengths = list(varints(data[at : at + length]))
        at += length
    for time, status, size in zip(times, statuses, lengths, strict=True):
        yield time, value(kind, data[at : at + size]), status
        at += size
    assert at == len(data)
