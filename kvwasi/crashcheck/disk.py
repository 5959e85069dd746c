"""The crash model: what the storage may hold when the power goes out at some moment of a trace.

What a completed sync covers is there. Of what came since, the pending items, any may be there or not, whole
or torn at the device's sectors, with three rules that the usual file systems keep: names change in order; a
sync of a new file keeps its name, too (level L5 drops these two, as POSIX does); what follows a shrinking of
the file is there only if the shrinking is.
"""

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from kvwasi.crashcheck.image import SECTOR_BYTES, Change, Content, Image, sectors
from kvwasi.crashcheck.trace import MARKS, REVERTED, Event, Trace

__all__ = ["Choice", "Disk", "State", "sector_count"]

_NAME_KINDS = ("create", "link", "rename", "unlink")


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
    change: Change = field(init=False)
    """What it does to its file."""

    def __post_init__(self) -> None:
        event = self.event
        self.change = Change(event.offset, event.data if event.kind == "write" else None)


@dataclass
class Disk:
    """Steps through a trace, and builds the states at the moment where it stands."""

    trace: Trace
    at: int = 0
    """Events that have happened."""
    pending: list[_Pending] = field(default_factory=list)
    _files: dict[int, Content] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _seen_names: dict[str, int] = field(default_factory=dict)
    """As processes see them."""

    def step(self) -> bool:
        """Let one event happen; False at the end."""
        if self.at == len(self.trace.events):
            return False
        event, number = self.trace.events[self.at], self.at
        self.at += 1
        if event.kind == "base":
            self._files[event.file] = Content(event.data)
            self._names[event.name] = self._seen_names[event.name] = event.file
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
                self._files[event.file] = Content()
            elif event.kind in ("link", "rename"):  # of the file that has the name now, whatever has it later
                event = replace(event, file=self._seen_names.get(event.name, 0))
            _rename([event], self._seen_names)
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
        if by.error:
            return
        changes = self._changes([*self._rescued(items), *items])
        for file, of_it in changes.items():
            self._files[file].apply(of_it)
        _rename((item.event for item in items), self._names)

    def _rescued(self, items: list[_Pending]) -> list[_Pending]:
        """What goes to the device though its flush had failed: it is in the sectors of ``items``."""
        if not any(item.failed for item in self.pending):
            return []
        touched = {
            (item.event.file, at // SECTOR_BYTES)
            for item in items
            if item.event.kind == "write"
            for at, _ in sectors(item.event.offset, item.event.data)
        }
        rescued, pending = list[_Pending](), list[_Pending]()
        for item in self.pending:
            if not item.failed or item.event.kind != "write":
                pending.append(item)
                continue
            parts = sectors(item.event.offset, item.event.data)
            file = item.event.file
            for again, run in groupby(parts, lambda part: (file, part[0] // SECTOR_BYTES) in touched):  # noqa: B023
                places, datas = zip(*run, strict=True)
                part = _Pending(item.number, Event("write", file, places[0], b"".join(datas)), failed=True)
                (rescued if again else pending).append(part)
        if rescued:
            self.pending = pending
        return rescued

    @staticmethod
    def _changes(items: Sequence[_Pending]) -> dict[int, list[Change]]:
        """What items do to files, in order."""
        changes: dict[int, list[Change]] = {}
        for item in items:
            if item.event.kind in ("write", "truncate"):
                changes.setdefault(item.event.file, []).append(item.change)
        return changes

    def grows(self, event: Event) -> bool:
        """Whether it makes its file longer than it is for certain."""
        if event.kind not in ("write", "truncate"):
            return False
        return event.offset + len(event.data) > len(self._files[event.file].data)

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
                if item.event.kind == "truncate" and item.event.offset < len(
                    self._files[item.event.file].data
                ):
                    cut.add(item.event.file)
            result |= keep << bit
        return result

    def build(self, choice: Choice) -> State:
        """The state of a choice that was made for this moment."""
        kept: list[_Pending] = []
        for bit, item in enumerate(self.pending):
            if bit == choice.torn:
                kept += (_Pending(item.number, event) for event in _torn(item.event, choice.piece))
            elif choice.mask >> bit & 1:
                kept.append(item)
        names = dict(self._names)
        _rename((item.event for item in kept), names)
        changes = self._changes(kept)
        files = {file: Image(self._files[file], changes.get(file, ())) for file in set(names.values())}
        if choice.fill:
            self._fill(files, choice)
        return State({name: files[file] for name, file in names.items()})

    def _fill(self, files: dict[int, Image], choice: Choice) -> None:
        """The files are as long as was asked for, whatever of it was written."""
        for item in self.pending:
            event = item.event
            if event.kind not in ("write", "truncate"):
                continue
            end = event.offset + len(event.data)
            image = files.get(event.file)
            if image is None or end <= image.size:
                continue
            start, chance = image.size, random.Random(f"{choice}/{item.number}")
            durable = image.base.data
            image.add(Change(end))
            if choice.fill == "g":
                image.add(Change(start, chance.randbytes(end - start)))
            elif choice.fill == "s" and durable:
                shift = chance.randrange(max(1, len(durable) // SECTOR_BYTES)) * SECTOR_BYTES
                stale = bytes(durable[shift:])
                image.add(Change(start, (stale * ((end - start) // len(stale) + 1))[: end - start]))

    def seen(self) -> dict[str, bytes]:
        """The files as processes see them now, which is with everything."""
        changes = self._changes(self.pending)
        return {
            name: Image(self._files[file], changes.get(file, ())).content()
            for name, file in self._seen_names.items()
        }


def _rename(events: Iterable[Event], names: dict[str, int]) -> None:
    """Let names of files change."""
    for event in events:
        if event.kind == "create":
            names[event.name] = event.file
        elif event.kind == "unlink":
            names.pop(event.name, None)
        elif event.kind in ("link", "rename") and event.file:
            names[event.name2] = event.file
            if event.kind == "rename" and names.get(event.name) == event.file:
                del names[event.name]


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
        runs = [(0, number)]
    elif kind == "h":
        runs = [(0, _border(event, number))]
    elif kind == "t":
        runs = [(_border(event, number), len(event.data))]
    else:
        chance, runs = random.Random(number), []
        for sector in range(sector_count(event)):
            if chance.random() < 0.5:
                start, end = _border(event, sector), _border(event, sector + 1)
                if runs and runs[-1][1] == start:
                    start = runs.pop()[0]
                runs.append((start, end))
    return [Event("write", event.file, event.offset + a, event.data[a:b]) for a, b in runs if a < b]


def _border(event: Event, number: int) -> int:
    """Where in the data of a write its sector ``number`` begins."""
    if number == 0:
        return 0
    return min(len(event.data), number * SECTOR_BYTES - event.offset % SECTOR_BYTES)


def sector_count(event: Event) -> int:
    """In how many of the device's sectors a write lies."""
    if not event.data:
        return 0
    return (event.offset + len(event.data) - 1) // SECTOR_BYTES - event.offset // SECTOR_BYTES + 1
