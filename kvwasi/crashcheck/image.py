"""What files hold: durable contents, and images of them after a power cut, told apart by sums of sectors.

An :class:`Image` is a :class:`Content` and the changes on top of it. It is written to disk as just that, and
its identity needs only the sectors that they touch: a state costs what was pending, not the whole file.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property

from kvwasi.engine._engine import hash64

__all__ = ["SECTOR_BYTES", "Change", "Content", "Image", "sectors"]

SECTOR_BYTES = 512
_NOTHING = bytes(SECTOR_BYTES)
_Sector = tuple[bytes, int]
"""Its bytes and its sum."""


def sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a write that lie in one sector each: their place and bytes."""
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        yield offset + at, data[at:end]
        at = end


def _sum(number: int, content: bytes) -> int:
    """0 for zeros, so that an image's sum does not depend on how it came to be that long."""
    return 0 if content == _NOTHING else hash64(content, number + 1)


class Change:
    """A write of ``data`` at ``offset``; without data, a truncation to ``offset`` bytes."""

    def __init__(self, offset: int, data: bytes | None = None) -> None:
        self.offset, self.data = offset, data

    @cached_property
    def parts(self) -> tuple[dict[int, _Sector], list[tuple[int, int, bytes]]]:
        """Of a write: the sectors that it fills; number, place and bytes where it fills a part of one."""
        whole: dict[int, _Sector] = {}
        partial = []
        for at, part in sectors(self.offset, self.data or b""):
            number, within = divmod(at, SECTOR_BYTES)
            if len(part) == SECTOR_BYTES:
                whole[number] = part, _sum(number, part)
            else:
                partial.append((number, within, part))
        return whole, partial

    def size_after(self, size: int) -> int:
        """How long a file of this size is then."""
        if self.data is None:
            return self.offset
        return max(size, self.offset + len(self.data)) if self.data else size


class _Sums(dict[int, int]):
    """The sums of a content's sectors, worked out when they are asked for."""

    def __init__(self, content: "Content") -> None:
        self.content = content

    def __missing__(self, number: int) -> int:
        found = self[number] = _sum(number, self.content.sector(number))
        return found


class Content:
    """What a file holds for certain."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.sums = _Sums(self)
        self.sum: int = hash64(data) if data else 0
        """Of what it held at first and of each sector that has changed since."""

    def sector(self, number: int) -> bytes:
        """Its 512 bytes, zeros behind the end."""
        return bytes(self.data[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]).ljust(
            SECTOR_BYTES, b"\0"
        )

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes durable."""
        image = Image(self, changes)
        _, self.sum = image.identity()
        for number in image.touched():
            self.sums.pop(number, None)
        for change in changes:
            if change.data is None:
                _resize(self.data, change.offset)
            elif change.data:
                _resize(self.data, max(len(self.data), change.offset))
                self.data[change.offset : change.offset + len(change.data)] = change.data


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


class Image:
    """A content with changes on top; good as long as the content stays as it is."""

    def __init__(self, base: Content, changes: Sequence[Change] = ()) -> None:
        self.base = base
        self.changes: list[Change] = []
        self.size = len(base.data)
        for change in changes:
            self.add(change)

    def add(self, change: Change) -> None:
        """One more change."""
        self.changes.append(change)
        self.size = change.size_after(self.size)

    def identity(self) -> tuple[int, int]:
        """Equal for equal contents (of one beginning): the size, and a sum of the sectors' sums."""
        found, sums, total = self.touched(), self.base.sums, self.base.sum
        for number, (content, known) in found.items():
            total ^= sums[number] ^ (known if known >= 0 else _sum(number, content))
        return self.size, total

    def touched(self) -> dict[int, _Sector]:
        """The sectors that the changes touch; their sum is -1 if it is not known yet."""
        found: dict[int, _Sector] = {}
        size = len(self.base.data)
        for change in self.changes:
            if change.data is None:
                self._shrink(found, size, change.offset)
            else:
                whole, partial = change.parts
                found.update(whole)
                for number, within, part in partial:
                    old = found[number][0] if number in found else self.base.sector(number)
                    found[number] = old[:within] + part + old[within + len(part) :], -1
            size = change.size_after(size)
        return found

    def _shrink(self, found: dict[int, _Sector], size: int, to: int) -> None:
        for number in range(to // SECTOR_BYTES, -(-size // SECTOR_BYTES)):
            old = found[number][0] if number in found else self.base.sector(number)
            keep = max(0, to - number * SECTOR_BYTES)
            found[number] = old[:keep].ljust(SECTOR_BYTES, b"\0"), -1

    def content(self) -> bytes:
        """All of it."""
        whole = Content()
        whole.data = self.base.data.copy()
        whole.apply(self.changes)
        return bytes(whole.data)

    def write_to(self, path: str) -> None:
        """Make the file ``path`` hold it. One that is there is written over: cheaper than a new one."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, len(self.base.data))
            _write(descriptor, self.base.data, 0)
            for change in self.changes:
                if change.data is None:
                    os.ftruncate(descriptor, change.offset)
                else:
                    _write(descriptor, change.data, change.offset)
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)
