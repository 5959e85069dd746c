"""How a series lies in its table: keys, single entries, and what is noted of the whole.

The table has a note under ``b"\\0"``, and keys of a byte that says what it is and a time, eight bytes,
big-endian: blocks of many entries under the time of the first, for each block with changed statuses how many
it has of which, and behind all others the newest entries, each under its own key. All of these are younger
than all entries in blocks, and where there is a block there is such an entry: so one look at the end of the
table says whether a time is the newest. guest-db/FORMAT.md has the bytes.
"""

from __future__ import annotations

import functools
import json
import struct
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TypeAlias

from kvwasi.errors import CorruptionError
from kvwasi.series import _codec

NOTE = b"\0"
ALTERED, BLOCK, SINGLE = b"\1", b"\2", b"\3"
"""What keys begin with, in their order."""

SINGLES_MAX = 1024
"""Entries of their own before they are put into a block."""
BLOCK_FROM = 32
"""Entries that are appended at once and become a block at once."""
BLOCK_ENTRIES = 4096
BLOCK_BYTES = 36 << 10
_GRAIN = 8
"""A series that is to hold little has blocks of an eighth of that."""
_LEAST_ENTRIES, _LEAST_BYTES = 16, 1024

Time: TypeAlias = "int | datetime"
"""Nanoseconds since 1970-01-01 00:00 UTC, 0 to 2**63 - 1, or a datetime with a time zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Status(IntEnum):
    """What has become of an entry."""

    WRITTEN = 0
    USER1 = 1
    USER2 = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class Retention:
    """What a series is to keep; what goes beyond any of these limits is removed, the oldest first.

    Attributes:
        age: older entries go, when others are appended.
        count: this many entries stay, and at most an eighth and 1,024 more.
        bytes: the same for bytes, as they are stored.

    >>> from datetime import timedelta
    >>> Retention(age=timedelta(days=7), count=1_000_000).count
    1000000
    """

    age: timedelta | None = None
    count: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if self.age is not None and self.age <= timedelta(0):
            raise ValueError("the age of a retention is positive")
        for limit in (self.count, self.bytes):
            if limit is not None and limit < 1:
                raise ValueError("the limits of a retention are at least 1")

    @property
    def age_ns(self) -> int | None:
        """The age in nanoseconds."""
        return None if self.age is None else self.age // _MICROSECOND * 1000

    @property
    def singles_max(self) -> int:
        """How many entries of their own there may be."""
        return _grain(self.count, _LEAST_ENTRIES, SINGLES_MAX)

    @property
    def block_entries(self) -> int:
        """How many entries a block may have."""
        return _grain(self.count, _LEAST_ENTRIES, BLOCK_ENTRIES)

    @property
    def block_bytes(self) -> int:
        """How many bytes of values a block of more than one entry may have."""
        return _grain(self.bytes, _LEAST_BYTES, BLOCK_BYTES)


def _grain(limit: int | None, least: int, most: int) -> int:
    return most if limit is None else min(max(limit // _GRAIN, least), most)


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of a series: of which kind its values are, and what it keeps."""

    kind: int
    retention: Retention = Retention()

    def encode(self) -> bytes:
        """As it is stored: JSON."""
        facts: dict[str, object] = {"version": 1, "values": KIND_NAMES[self.kind]}
        limits = asdict(self.retention) | {"age": self.retention.age_ns}
        facts |= {name: limit for name, limit in limits.items() if limit is not None}
        return json.dumps(facts).encode("ascii")

    @staticmethod
    @functools.lru_cache(maxsize=256)  # it hardly ever changes, and whoever looks at a series needs it
    def decode(data: bytes) -> Note:
        """The inverse."""
        try:
            facts = json.loads(data)
            age = facts.get("age")
            kept = None if age is None else age // 1000 * _MICROSECOND
            retention = Retention(kept, facts.get("count"), facts.get("bytes"))
            return Note(KIND_NAMES.index(facts["values"]), retention)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise CorruptionError("a time series is damaged: what is noted of it", 0, "value") from None


KIND_NAMES = ["bytes", "float", "int"]
"""By the numbers of the codec."""


def key(what: bytes, time: int) -> bytes:
    """The key of something at a time."""
    return what + time.to_bytes(8, "big")


def time_of(entry_key: bytes) -> int:
    """The time in a key."""
    if len(entry_key) != 9:
        raise CorruptionError("a time series is damaged: a key of another length", 0, "value")
    return int.from_bytes(entry_key[1:], "big")


_ALTERED = struct.Struct("<qIII")


def encode_altered(last: int, counts: tuple[int, int, int, int]) -> bytes:
    """Of a block with changed statuses: its last time, and how many entries it has of which."""
    return _ALTERED.pack(last, *counts[1:])


def decode_altered(data: bytes) -> tuple[int, tuple[int, int, int]]:
    """The inverse."""
    if len(data) != _ALTERED.size:
        raise CorruptionError("a time series is damaged: the statuses of a block", 0, "value")
    last, *counts = _ALTERED.unpack(data)
    return last, (counts[0], counts[1], counts[2])


def kind_of(value: object) -> int:
    """Of which kind a series is that begins with this value."""
    if isinstance(value, bytes | bytearray | memoryview | str):
        return _codec.KIND_BYTES
    if hasattr(value, "__index__"):
        return _codec.KIND_INT
    if hasattr(value, "__float__"):
        return _codec.KIND_FLOAT
    raise TypeError(f"a value is bytes-like, str, int or float, not {type(value).__name__}")


def nanoseconds(time: Time) -> int:
    """A time as it is stored.

    Raises:
        ValueError: it is out of range, or has no time zone.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError("a datetime needs a time zone, such as datetime.now(timezone.utc)")
        time = (time - _EPOCH) // _MICROSECOND * 1000
    elif not isinstance(time, int):
        raise TypeError(f"a time is a number of nanoseconds or a datetime, not {type(time).__name__}")
    if not 0 <= time <= _codec.TIME_MAX:
        raise ValueError(f"a time is from 0 to 2**63 - 1 ns since 1970, not {time}")
    return time
