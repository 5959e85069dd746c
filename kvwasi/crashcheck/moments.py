"""Which dangerous moments a trace of this package's store crosses: told from what is written where.

The tests ask that the workloads cross each moment.
"""

import struct
from collections import Counter

from kvwasi.crashcheck.layout import SECTOR_MAGIC, SECTORS_START, SUPERBLOCK_MAGIC, SUPERBLOCK_SLOTS
from kvwasi.crashcheck.trace import Trace

__all__ = ["MOMENTS", "moments"]

MOMENTS = {
    "created": "a new file gets its name",
    "log begun": "a sector of the log is begun",
    "log reused": "a sector that was in use before is begun as one of the log",
    "values begun": "a run of sectors for a large value is begun",
    "values reused": "such a run is begun in sectors that were in use before",
    "index begun": "a sector for the index is begun",
    "index reused": "a sector that was in use before is begun as one of the index",
    "checkpoint": "a superblock is written over an older one, with another place to replay from",
    "superblock again": "a superblock is written over an older one, for what is durable now",
    "grown": "the file becomes longer",
    "replaced": "a file takes the place of the database (compaction, repair, backup)",
    "flush failed": "a flush fails",
}
_TYPES = {1: "log", 2: "values", 3: "index"}


def moments(trace: Trace) -> Counter[str]:
    """How often each of :data:`MOMENTS` comes."""
    found: Counter[str] = Counter()
    sizes: dict[int, int] = {}
    replays: dict[tuple[int, int], bytes] = {}
    begun: set[tuple[int, int, bytes]] = set()
    for event in trace.events:
        if event.kind == "base":
            sizes[event.file] = len(event.data)
            for slot in SUPERBLOCK_SLOTS:
                replays[event.file, slot] = event.data[slot + 64 : slot + 72]
        elif event.kind == "write":
            end = event.offset + len(event.data)
            found["grown"] += 0 < sizes.get(event.file, 0) < end
            sizes[event.file] = max(sizes.get(event.file, 0), end)
            _written(event.file, event.offset, event.data, found, replays, begun)
        elif event.kind == "truncate":
            before = sizes.get(event.file, 0)
            found["grown"] += 0 < before < event.offset
            sizes[event.file] = event.offset
        elif event.kind == "sync":
            found["flush failed"] += event.error != 0
        elif event.kind in ("link", "rename"):
            found["created" if event.kind == "link" else "replaced"] += 1
    return +found


def _written(
    file: int,
    offset: int,
    data: bytes,
    found: Counter[str],
    replays: dict[tuple[int, int], bytes],
    begun: set[tuple[int, int, bytes]],
) -> None:
    if offset in SUPERBLOCK_SLOTS and data[8:16] == SUPERBLOCK_MAGIC:
        slot, replay = (file, offset), data[64:72]
        known = [replays[file, other] for other in SUPERBLOCK_SLOTS if (file, other) in replays]
        if slot in replays:
            found["superblock again" if replay in known else "checkpoint"] += 1
        replays[slot] = replay
    at = data.find(SECTOR_MAGIC)
    while at >= 0:
        start = at - 8
        if start >= 0 and (offset + start - SECTORS_START) % (1 << 16) == 0 and len(data) >= start + 64:
            kind, _, _, erases = struct.unpack_from("<HHII", data, start + 12)
            place = file, offset + start, data[start : start + 8]
            if kind in _TYPES and place not in begun:
                begun.add(place)
                found[f"{_TYPES[kind]} {'reused' if erases else 'begun'}"] += 1
        at = data.find(SECTOR_MAGIC, at + 1)
