"""The crash model: what the storage may hold when the power goes out at some moment of a trace.

What a completed sync covers is there. Of what came since, the pending items, any may be there or not, whole
or torn at the device's sectors, with three rules that the usual file systems keep: names change in order; a
sync of a new file keeps its name, too (level L5 drops these two, as POSIX does); what follows a shrinking of
the file is there only if the shrinking is.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvwasi.crashcheck.trace import MARKS, REVERTED, Event, Trace
from kvwasi.engine._engine import hash64

__all__ = ["SECTOR_BYTES", "Choice", "Disk", "Image", "State", "sector_count"]

SECTOR_BYTES = 512
_NAME_KINDS = ("create", "link", "rename", "unlink")
_NOTHING = bytes(SECTOR_BYTES)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the states at a moment: enough to build it again.

    Attributes:
        event: the power goes out after this event of the trace.
        level: of the crash model, ``"L0"`` to ``"L7"``.
        mask: bit i: pending item i is there.
        torn: the item that is there in part, or -1.
        piece: which part: ``h3`` its first 3 sectors, ``t3`` all but these, ``b3`` its first 3 bytes, ``r3``
            a random choice of its sectors with seed 3.
        fill: of the space that was asked for but not written: ``""`` it is not there, ``z`` zeros, ``g``
            garbage, ``s`` what stands elsewhere in the file.
    """

    event: int
    level: str
    mask: int = 0
    torn: int = -1
    piece: str = ""
    fill: str = ""

    def __str__(self) -> str:
        torn = f".{self.torn}{self.piece}" if self.torn >= 0 else ""
        return f"{self.level}.e{self.event}.m{self.mask:x}{torn}" + (f".{self.fill}" if self.fill else "")

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """The inverse of ``str``. Raises ValueError."""
        level, event, mask, *rest = text.split(".")
        torn, piece, fill = -1, "", ""
        for part in rest:
            if part[0].isdigit():
                digits = len(part) - len(part.lstrip("0123456789"))
                torn, piece = int(part[:digits]), part[digits:]
            else:
                fill = part
        return cls(int(event[1:]), level, int(mask[1:], 16), torn, piece, fill)


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a write that lie in one sector each: their place and bytes."""
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        yield offset + at, data[at:end]
        at = end


def _sector_hash(number: int, content: bytes) -> int:
    """0 for zeros, so that an image's hash does not depend on how it came to be that long."""
    if len(content) < SECTOR_BYTES:
        content = content.ljust(SECTOR_BYTES, b"\0")
    return 0 if content == _NOTHING else hash64(content, number + 1)


class Image:
    """A file's content, as sectors that differ from those of ``base``, which stays as it is meanwhile."""

    def __init__(self, base: "Image | None" = None) -> None:
        self._base = base
        self._sectors: dict[int, bytes] = {}
        self._unhashed: dict[int, bytes] = {}  # what was there when the hash was right
        self._hash: int = 0
        self.size: int = base.size if base else 0

    def sector(self, number: int) -> bytes:
        """Its 512 bytes, zeros behind the end."""
        found = self._sectors.get(number)
        if found is not None:
            return found
        return self._base.sector(number) if self._base else _NOTHING

    def _set(self, number: int, content: bytes) -> None:
        if number not in self._unhashed:
            self._unhashed[number] = self.sector(number)
        self._sectors[number] = content

    def write(self, offset: int, data: bytes) -> None:
        """As ``pwrite``."""
        for at, part in _sectors(offset, data):
            number, within = divmod(at, SECTOR_BYTES)
            if len(part) < SECTOR_BYTES:
                old = self.sector(number)
                part = old[:within] + part + old[within + len(part) :]
            self._set(number, part)
        if data:
            self.size = max(self.size, offset + len(data))

    def truncate(self, size: int) -> None:
        """As ``ftruncate``."""
        for number in range(size // SECTOR_BYTES, -(-self.size // SECTOR_BYTES)):
            keep = max(0, size - number * SECTOR_BYTES)
            self._set(number, self.sector(number)[:keep].ljust(SECTOR_BYTES, b"\0"))
        self.size = size

    def identity(self) -> tuple[int, int]:
        """Equal for equal contents: the size, and the sum of the sectors' hashes."""
        for number, old in self._unhashed.items():
            self._hash ^= _sector_hash(number, old) ^ _sector_hash(number, self.sector(number))
        self._unhashed.clear()
        return self.size, self._hash ^ (self._base.identity()[1] if self._base else 0)

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of what is not zeros (about)."""
        numbers: set[int] = set()
        layer: Image | None = self
        while layer is not None:
            numbers.update(layer._sectors)
            layer = layer._base
        run: list[bytes] = []
        start = previous = -2
        for number in sorted(number for number in numbers if number * SECTOR_BYTES < self.size):
            if number != previous + 1:
                if run:
                    yield start * SECTOR_BYTES, b"".join(run)
                run, start = [], number
            run.append(self.sector(number))
            previous = number
        if run:
            yield start * SECTOR_BYTES, b"".join(run)

    def content(self) -> bytes:
        """All of it."""
        whole = bytearray(-(-self.size // SECTOR_BYTES) * SECTOR_BYTES)
        for offset, data in self.runs():
            whole[offset : offset + len(data)] = data
        return bytes(whole[: self.size])


@dataclass
class State:
    """A disk after a power cut: the files by name."""

    files: dict[str, Image]

    def identity(self) -> tuple[object, ...]:
        """Equal for equal disks."""
        return tuple(sorted((name, image.identity()) for name, image in self.files.items()))


@dataclass
class _Pending:
    """An item that a power cut may lose.

    ``failed``: a sync of it failed, and no later one covers it. ``settled``: it is a name that was there when
    its file was flushed.
    """

    number: int
    event: Event
    failed: bool = False
    settled: bool = False


@dataclass
class Disk:
    """Steps through a trace, and builds the states at the moment where it stands."""

    trace: Trace
    at: int = 0
    """Events that have happened."""
    pending: list[_Pending] = field(default_factory=list)
    _files: dict[int, Image] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def step(self) -> bool:
        """Let one event happen; False at the end."""
        if self.at == len(self.trace.events):
            return False
        event, number = self.trace.events[self.at], self.at
        self.at += 1
        if event.kind == "base":
            self._files[event.file] = Image()
            self._files[event.file].write(0, event.data)
            self._names[event.name] = event.file
        elif event.kind == "sync":
            self._flush(
                [p for p in self._of(event.file) if not p.failed and _covers(event, number, p)], event
            )
            self._settle(event)
        elif event.kind == "sync_write":
            self._flush(self._of(event.file)[-1:], event)
        elif event.kind == "sync_names":
            self._flush([p for p in self.pending if p.event.kind in _NAME_KINDS], event)
        elif event.kind not in MARKS:
            if event.kind == "create":
                self._files[event.file] = Image()
            self.pending.append(_Pending(number, event))
        return True

    def _settle(self, by: Event) -> None:
        if by.error:
            return
        names = [p for p in self.pending if p.event.kind in _NAME_KINDS]
        made = [n for n, p in enumerate(names) if p.event.kind == "create" and p.event.file == by.file]
        for item in names[: made[-1] + 1] if made else ():
            item.settled = True

    def _of(self, file: int) -> list[_Pending]:
        return [p for p in self.pending if p.event.file == file and p.event.kind in ("write", "truncate")]

    def _flush(self, items: list[_Pending], by: Event) -> None:
        gone = {id(item) for item in items}
        if by.error and not by.flags & REVERTED:
            for item in items:
                item.failed = True
            return
        self.pending = [p for p in self.pending if id(p) not in gone]
        if not by.error:
            events = [item.event for item in items]
            self._apply(self._rescued(events) + events, self._files, self._names)

    def _rescued(self, events: list[Event]) -> list[Event]:
        """What goes to the device though its flush had failed: it is in the sectors of ``events``."""
        touched = {
            (event.file, at // SECTOR_BYTES)
            for event in events
            if event.kind == "write"
            for at, _ in _sectors(event.offset, event.data)
        }
        rescued, pending = list[Event](), list[_Pending]()
        for item in self.pending:
            if not item.failed or item.event.kind != "write":
                pending.append(item)
                continue
            for at, data in _sectors(item.event.offset, item.event.data):
                part = Event("write", item.event.file, at, data)
                if (part.file, at // SECTOR_BYTES) in touched:
                    rescued.append(part)
                else:
                    pending.append(_Pending(item.number, part, failed=True))
        if rescued:
            self.pending = pending
        return rescued

    @staticmethod
    def _apply(events: list[Event], files: dict[int, Image], names: dict[str, int]) -> None:
        for event in events:
            if event.kind == "write":
                files[event.file].write(event.offset, event.data)
            elif event.kind == "truncate":
                files[event.file].truncate(event.offset)
            elif event.kind == "create":
                names[event.name] = event.file
            elif event.kind == "unlink":
                names.pop(event.name, None)
            elif event.name in names:
                names[event.name2] = names[event.name]
                if event.kind == "rename":
                    del names[event.name]

    def grows(self, event: Event) -> bool:
        """Whether it makes its file longer than it is for certain."""
        if event.kind not in ("write", "truncate"):
            return False
        return event.offset + len(event.data) > self._files[event.file].size

    def legal(self, mask: int, *, ordered_names: bool = True) -> int:
        """``mask`` without what cannot be there because something before it is not."""
        result = names_lost = 0
        cut: set[int] = set()
        for bit, item in enumerate(self.pending):
            is_name = item.event.kind in _NAME_KINDS
            keep = mask >> bit & 1 | (item.settled and ordered_names)
            if (is_name and names_lost and ordered_names) or (not is_name and item.event.file in cut):
                keep = 0
            if not keep:
                names_lost |= is_name
                if item.event.kind == "truncate" and item.event.offset < self._files[item.event.file].size:
                    cut.add(item.event.file)
            result |= keep << bit
        return result

    def build(self, choice: Choice) -> State:
        """The state of a choice that was made for this moment."""
        files = {file: Image(image) for file, image in self._files.items()}
        names = dict(self._names)
        kept = []
        for bit, item in enumerate(self.pending):
            if bit == choice.torn:
                kept += _torn(item.event, choice.piece)
            elif choice.mask >> bit & 1:
                kept.append(item.event)
        self._apply(kept, files, names)
        if choice.fill:
            self._fill(files, choice)
        return State({name: files[file] for name, file in names.items()})

    def _fill(self, files: dict[int, Image], choice: Choice) -> None:
        """The files are as long as was asked for, whatever of it was written."""
        for item in self.pending:
            event = item.event
            if event.kind not in ("write", "truncate"):
                continue
            image, durable = files[event.file], self._files[event.file]
            end = event.offset + len(event.data)
            if end <= image.size:
                continue
            start, chance = image.size, random.Random(f"{choice}/{item.number}")
            image.truncate(end)
            if choice.fill == "g":
                image.write(start, chance.randbytes(end - start))
            elif choice.fill == "s" and durable.size:
                shift = chance.randrange(max(1, durable.size // SECTOR_BYTES)) * SECTOR_BYTES
                stale = durable.content()[shift:]
                image.write(start, (stale * ((end - start) // len(stale) + 1))[: end - start])

    def seen(self) -> dict[str, bytes]:
        """The files as processes see them now, which is with everything."""
        files = {file: Image(image) for file, image in self._files.items()}
        names = dict(self._names)
        self._apply([item.event for item in self.pending], files, names)
        return {name: files[file].content() for name, file in names.items()}


def _covers(sync: Event, number: int, item: _Pending) -> bool:
    """Whether a flush is one of this item, too."""
    if item.number >= (sync.offset or number):
        return False
    if not sync.data:
        return True
    start, end = struct.unpack("<QQ", sync.data)
    return bool(item.event.offset >= start and item.event.offset + len(item.event.data) <= end)


def _torn(event: Event, piece: str) -> list[Event]:
    """The part of a write that is there."""
    kind, number = piece[0], int(piece[1:])
    if kind == "b":
        parts = [(event.offset, event.data[:number])]
    else:
        parts = list(_sectors(event.offset, event.data))
        if kind == "h":
            parts = parts[:number]
        elif kind == "t":
            parts = parts[number:]
        else:
            chance = random.Random(number)
            parts = [part for part in parts if chance.random() < 0.5]
    return [Event("write", event.file, offset, data) for offset, data in parts]


def sector_count(event: Event) -> int:
    """In how many of the device's sectors a write lies."""
    if not event.data:
        return 0
    return (event.offset + len(event.data) - 1) // SECTOR_BYTES - event.offset // SECTOR_BYTES + 1
