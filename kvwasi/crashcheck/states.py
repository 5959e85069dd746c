"""Choosing among the states that a power cut may leave: the levels of the crash model, with seeded samples.

| level | of what was pending |
|---|---|
| L0 | nothing is there |
| L1 | every prefix |
| L2 | every subset of up to 6 items; of more, each alone, each missing, and samples |
| L3 | one write torn at 512-byte boundaries: head, tail, random pieces |
| L4 | the file has grown, with zeros, garbage or old data where nothing was written |
| L5 | names in any order: one that was made, moved or removed later may be there without an earlier one |
| L6 | a write torn within a sector, which devices promise not to do: for information |
| L7 | after a flush that failed, any of what it should have written may be lost for good |
"""

import random
from collections.abc import Iterator

from kvwasi.crashcheck.disk import Choice, Disk, sector_count

__all__ = ["COUNTED_LEVELS", "LEVELS", "choices"]

LEVELS = {
    "L0": "all dropped",
    "L1": "every prefix",
    "L2": "subsets",
    "L3": "one write torn at 512 bytes",
    "L4": "grown: zeros, garbage, old data",
    "L5": "names lost or out of order",
    "L6": "torn inside a sector (for information)",
    "L7": "a failed flush, contents new or old",
}
COUNTED_LEVELS = tuple(level for level in LEVELS if level != "L6")
EXHAUSTIVE_ITEMS = 6


def choices(disk: Disk, seed: str, rounds: int, levels: str = "") -> Iterator[Choice]:
    """Choices at the moment where ``disk`` stands; more with more ``rounds``, all different.

    ``levels``: only this level, under which then all others go: for traces with a failed flush.
    """
    chance = random.Random(f"{seed}/{disk.at}")
    seen: set[Choice] = set()
    for choice in _all(disk, chance, rounds):
        plain = Choice(choice.event, "", choice.mask, choice.torn, choice.piece, choice.fill)
        if plain in seen or (levels and choice.level in ("L5", "L6")):
            continue
        seen.add(plain)
        yield (
            choice
            if not levels
            else Choice(choice.event, levels, choice.mask, choice.torn, choice.piece, choice.fill)
        )


def _all(disk: Disk, chance: random.Random, rounds: int) -> Iterator[Choice]:
    at, count = disk.at, len(disk.pending)
    everything = (1 << count) - 1
    yield Choice(at, "L0", disk.legal(0))
    for length in range(1, count + 1):
        yield Choice(at, "L1", disk.legal((1 << length) - 1))
    free = [bit for bit, item in enumerate(disk.pending) if not item.settled]
    for subset in _subsets(len(free), chance, rounds):
        mask = sum(1 << bit for place, bit in enumerate(free) if subset >> place & 1)
        yield Choice(at, "L2", disk.legal(mask))
    yield from _torn(disk, chance, rounds, everything)
    yield from _grown(disk, chance, rounds)
    names = sum(1 << bit for bit, item in enumerate(disk.pending) if item.event.name)
    if names:
        for _ in range(4 * rounds):
            mask = chance.getrandbits(count) | chance.choice((0, everything & ~names))
            yield Choice(at, "L5", disk.legal(mask, ordered_names=False))


def _subsets(count: int, chance: random.Random, rounds: int) -> Iterator[int]:
    if count <= EXHAUSTIVE_ITEMS:
        yield from range(1 << count)
        return
    everything = (1 << count) - 1
    for bit in chance.sample(range(count), min(count, 8 * rounds)):
        yield 1 << bit
        yield everything ^ 1 << bit
    for _ in range(16 * rounds):
        yield chance.getrandbits(count) | (chance.getrandbits(count) if chance.random() < 0.3 else 0)


def _torn(disk: Disk, chance: random.Random, rounds: int, everything: int) -> Iterator[Choice]:
    """The last write, and some earlier ones, in part; the others all there, or not, or some."""
    writes = [bit for bit, item in enumerate(disk.pending) if item.event.kind == "write"]
    if not writes:
        return
    for torn in dict.fromkeys([writes[-1], *chance.sample(writes, min(len(writes), rounds))]):
        event = disk.pending[torn].event
        sectors = sector_count(event)
        others = everything & ~(1 << torn)
        masks = [others, others & ((1 << torn) - 1), others & chance.getrandbits(len(disk.pending)), 0]
        for piece in _pieces(sectors, chance, rounds):
            mask = disk.legal(chance.choice(masks) | 1 << torn)
            if mask >> torn & 1:
                yield Choice(disk.at, "L3", mask & ~(1 << torn), torn, piece)
        if len(event.data) > 1:
            cut = f"b{chance.randrange(1, len(event.data))}"
            mask = disk.legal(chance.choice(masks) | 1 << torn)
            if mask >> torn & 1:
                yield Choice(disk.at, "L6", mask & ~(1 << torn), torn, cut)


def _pieces(sectors: int, chance: random.Random, rounds: int) -> Iterator[str]:
    if sectors < 2:
        return
    cuts = {1, sectors // 2, sectors - 1, *(chance.randrange(1, sectors) for _ in range(rounds))}
    for cut in sorted(cuts):
        yield f"h{cut}"
        yield f"t{cut}"
    for _ in range(2 * rounds if sectors > 2 else 0):
        yield f"r{chance.randrange(1 << 16)}"


def _grown(disk: Disk, chance: random.Random, rounds: int) -> Iterator[Choice]:
    """The files' new sizes are there before what was written."""
    count = len(disk.pending)
    if not any(disk.grows(item.event) for item in disk.pending):
        return
    for mask in (0, *(chance.getrandbits(count) for _ in range(rounds))):
        for fill in "zgs":
            yield Choice(disk.at, "L4", disk.legal(mask), fill=fill)
