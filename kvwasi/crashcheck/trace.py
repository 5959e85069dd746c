"""What was asked of the storage, in order: the one format of traces, whoever made them.

A trace begins with the files that are there (``base``, durable), and goes on with events. Its file is
``HEADER`` and then, for each event, ``_RECORD`` (little-endian), the two names and the data; ``preload.c``
writes the same.

>>> trace = Trace([Event("create", file=1, name="a"), Event("write", file=1, data=b"hello")])
>>> Trace.decode(trace.encode()).replayed()
{'a': b'hello'}
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

__all__ = ["Event", "Trace", "TraceError", "Window", "windows"]

HEADER = b"kvwasi trace 1\n"
_RECORD = struct.Struct(
    "<BBHHHiIQQ"
)  # kind, flags, lengths of the names, 0, error, file, offset, data length
KINDS = (
    "base",  # a file that is there at the beginning
    "create",  # `name` is a new, empty file
    "write",  # `data` at `offset`
    "truncate",  # to `offset` bytes
    # of the file: what was written before event `offset` (0: before this one); failed if `error`; `data`:
    # first byte and end, two 64-bit numbers, if it is not of the whole file
    "sync",
    "sync_write",  # the write just before this one was synchronous and has returned
    "sync_names",  # of the directory
    "link",  # `name` gets the second name `name2`
    "rename",  # `name` becomes `name2`
    "unlink",  # `name` goes
    "begun",  # commit `offset` of lane `file` is asked for
    "durable",  # commit `offset` of lane `file`, and all before it, was promised to survive a power cut
)
MARKS = ("begun", "durable")
_CODES = {kind: code for code, kind in enumerate(KINDS)}
REVERTED = 1
"""Flag of a failed sync: the file reads as before what was not flushed (btrfs), not as after it (ext4)."""


class TraceError(Exception):
    """A trace that is malformed, or that is not what happened to the files."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of ``KINDS``, which say what the fields mean. ``file`` is a number within the trace."""

    kind: str
    file: int = 0
    offset: int = 0
    data: bytes = b""
    name: str = ""
    name2: str = ""
    error: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        """As it stands in a trace's file."""
        name, name2 = os.fsencode(self.name), os.fsencode(self.name2)
        code, length = _CODES[self.kind], len(self.data)
        sizes = code, self.flags, len(name), len(name2), 0, self.error, self.file, self.offset, length
        return _RECORD.pack(*sizes) + name + name2 + self.data


def _decoded(raw: bytes) -> Iterator[Event]:
    at = len(HEADER)
    while at < len(raw):
        try:
            code, flags, name, name2, _, error, file, offset, data = _RECORD.unpack_from(raw, at)
        except struct.error:
            raise TraceError("the trace ends within an event") from None
        at += _RECORD.size
        if at + name + name2 + data > len(raw) or code >= len(KINDS):
            raise TraceError(f"no event at byte {at - _RECORD.size}")
        names = os.fsdecode(raw[at : at + name]), os.fsdecode(raw[at + name : at + name + name2])
        at += name + name2
        yield Event(KINDS[code], file, offset, raw[at : at + data], *names, error, flags)
        at += data


@dataclass
class Trace:
    """Events, in the order in which they happened (a sync, when it returned)."""

    events: list[Event] = field(default_factory=list)

    def encode(self) -> bytes:
        """The trace as a file."""
        return HEADER + b"".join(event.encode() for event in self.events)

    @classmethod
    def decode(cls, raw: bytes) -> "Trace":
        """The trace of a file's content. Raises :class:`TraceError`."""
        if not raw.startswith(HEADER):
            raise TraceError("not a trace")
        return cls(list(_decoded(raw)))

    def replayed(self) -> dict[str, bytes]:
        """The files, by name, as a process sees them after all that happened."""
        from kvwasi.crashcheck.disk import Disk

        disk = Disk(self)
        while disk.step():
            pass
        return disk.seen()

    def verify(self, directory: str | os.PathLike[str], ignored: Iterable[str] = ()) -> None:
        """The fidelity gate: ``directory`` holds exactly what the trace says, byte for byte.

        Raises :class:`TraceError`.
        """
        found = {}
        for entry in os.scandir(directory):
            if entry.name not in ignored:
                with open(entry.path, "rb") as stream:
                    found[entry.name] = stream.read()
        replayed = self.replayed()
        for name in sorted(found.keys() | replayed.keys()):
            if found.get(name) != replayed.get(name):
                raise TraceError(f"the trace is not what happened to {name}")

    def without(self, dropped: Iterable[int]) -> "Trace":
        """The same without these events."""
        gone = set(dropped)
        kept = [event for number, event in enumerate(self.events) if number not in gone]
        return Trace([_renumbered(event, gone) for event in kept])


def _renumbered(event: Event, gone: set[int]) -> Event:
    if event.kind != "sync" or event.offset == 0:
        return event
    fewer = sum(number < event.offset for number in gone)
    return replace(event, offset=event.offset - fewer)


Window = tuple[tuple[int, int], ...]
"""For each lane, the commits after which its contents may be those found: from the first to the last."""


def windows(trace: Trace, lanes: int, start: Window | None = None) -> list[Window]:
    """The window that holds after each event."""
    now = list(start or ((0, 0),) * lanes)
    result = []
    for event in trace.events:
        if event.kind in MARKS:
            durable, begun = now[event.file]
            if event.kind == "begun":
                now[event.file] = durable, max(begun, event.offset)
            else:
                now[event.file] = max(durable, event.offset), max(begun, event.offset)
        result.append(tuple(now))
    return result
