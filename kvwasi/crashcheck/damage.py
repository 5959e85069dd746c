"""Damaged files: bits flipped, ends cut off, sectors swapped, lies with right checksums, other files.

The database was closed cleanly before. Reading it then gives the right data or an error of the engine's own:
never wrong data in silence, never a signal, never a hang; and opening it to read changes nothing.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvwasi.crashcheck import craft
from kvwasi.crashcheck.engines import ENGINES, Engine, Mode
from kvwasi.crashcheck.history import Model
from kvwasi.crashcheck.layout import SECTORS_START
from kvwasi.crashcheck.names import Named
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.record import record, scratch_directory

__all__ = ["KINDS", "Damage", "DamageReport", "reproduce_damage", "run_damage"]

OUTCOMES = ("right", "error", "other", "wrong", "changed", "slow", "memory", "signal", "bug")
"""``other``: other contents, where a lie with right checksums tells them; ``wrong``: other contents, in
silence; ``changed``: by opening it to read; ``slow``: it took too long; ``memory``: it asked for more than
:data:`MEMORY_MAX`; ``bug``: no error of its own."""
HARMLESS = ("right", "error", "other")
SLOW_S = 10.0
MEMORY_MAX = 64 << 20
"""Bytes of linear memory that any of the files may take, whatever it says: each has less than 2 MiB."""
WORKLOAD = "small"
BITS_WORKLOAD = "tiny"
"""Of which every bit is flipped."""
BLOCKS = (512, 4096, 1 << 18)


@dataclass(frozen=True)
class Damage(Named):
    """One damaged file: ``where`` counts the places that a kind of damage has."""

    engine: str
    workload: str
    seed: int
    kind: str
    where: int

    def __str__(self) -> str:
        kind = self.kind.replace(" ", "-")
        return f"damage/{self.engine}/{self.workload}/{self.seed}/{kind}/{self.where}"

    @classmethod
    def parse(cls, text: str) -> "Damage":
        """The inverse of ``str``. Raises ValueError and KeyError."""
        _, engine, workload, seed, kind, where = text.split("/")
        kind = {name.replace(" ", "-"): name for name in KINDS}[kind]
        if engine not in ENGINES or workload not in (WORKLOAD, BITS_WORKLOAD):
            raise ValueError(f"no engine {engine} or no workload {workload}")
        return cls(engine, workload, int(seed), kind, int(where))

    def make(self, content: bytes) -> bytes:
        """The sound file, damaged."""
        chance = random.Random(f"{self.seed}/{self.kind}/{self.where}")
        made = KINDS[self.kind](content, self.where, chance)
        if made is None:
            raise ValueError("there is no such place")
        return made


@dataclass
class DamageReport:
    """What became of the damaged files, by kind and outcome."""

    engine: str = ""
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[tuple[Damage, str]] = field(default_factory=list)
    """What broke the promise, and how."""

    @property
    def files(self) -> int:
        """How many were looked at."""
        return sum(counter.total() for counter in self.outcomes.values())

    @property
    def wrong(self) -> int:
        """How many broke the promise."""
        return len(self.findings)

    def add(self, other: "DamageReport") -> None:
        """Sum up."""
        for kind, counter in other.outcomes.items():
            self.outcomes.setdefault(kind, Counter()).update(counter)
        self.findings += other.findings


def _flipped(content: bytes, where: int, chance: random.Random) -> bytes | None:
    if where >= 8 * len(content):
        return None
    damaged = bytearray(content)
    damaged[where // 8] ^= 1 << where % 8
    return bytes(damaged)


def _changed(content: bytes, where: int, chance: random.Random) -> bytes | None:
    if where >= len(content):
        return None
    damaged = bytearray(content)
    damaged[where] ^= chance.randrange(1, 256)
    return bytes(damaged)


def _cut(content: bytes, where: int, chance: random.Random) -> bytes | None:
    return content[:where] if where < len(content) else None


def _cut_and_garbage(content: bytes, where: int, chance: random.Random) -> bytes | None:
    return content[:where] + chance.randbytes(chance.randrange(1, 5000)) if where < len(content) else None


def _garbage_behind(content: bytes, where: int, chance: random.Random) -> bytes | None:
    return content + chance.randbytes(1 << where) if where < 20 else None


def _first_block(size: int) -> int:
    """Where blocks begin: those as large as a sector are sectors."""
    return SECTORS_START if size > SECTORS_START else 0


def _blocks(size: int, how: str) -> "Maker":
    """One block exchanged with another one, or something else in its place."""

    def make(content: bytes, where: int, chance: random.Random) -> bytes | None:
        start = _first_block(size)
        count = (len(content) - start) // size
        if where >= count:
            return None
        other = chance.randrange(count)
        a, b = (slice(start + block * size, start + (block + 1) * size) for block in (where, other))
        damaged = bytearray(content)
        if how == "swapped":
            damaged[a], damaged[b] = content[b], content[a]
        else:
            damaged[a] = {"doubled": content[b], "zeroed": bytes(size), "garbage": chance.randbytes(size)}[
                how
            ]
        return bytes(damaged)

    return make


def _foreign(content: bytes, where: int, chance: random.Random) -> bytes | None:
    others = (b"", b"\0", b"text\n", bytes(8192), bytes(1 << 20), b"SQLite format 3\0" + bytes(4080))
    if where < len(others):
        return others[where]
    return chance.randbytes(chance.choice((1, 100, 4096, 300_000))) if where < 20 else None


def _beginning(content: bytes, where: int, chance: random.Random) -> bytes | None:
    return (
        content[: 64 << where] + chance.randbytes(chance.choice((1, 100, 4096, 300_000)))
        if where < 8
        else None
    )


def _craft(of: str) -> "Maker":
    return lambda content, where, chance: craft.crafted(content, of, where)


Maker = Callable[[bytes, int, random.Random], bytes | None]
KINDS: dict[str, Maker] = {
    "bit flipped": _flipped,
    "byte changed": _changed,
    "cut short": _cut,
    "cut with garbage behind": _cut_and_garbage,
    "garbage behind": _garbage_behind,
    **{
        f"{size} bytes {how}": _blocks(size, how)
        for size in BLOCKS
        for how in ("swapped", "doubled", "zeroed", "garbage")
    },
    "another file": _foreign,
    "a beginning alone": _beginning,
    **{f"{of} crafted": _craft(of) for of in craft.CRAFTS},
}


def _dense(content: bytes, share: float, sparse: float) -> Iterator[int]:
    """Of the bytes, a part, evenly spread; of those in long runs of zeros a smaller one."""
    due = 0.0
    for start in range(0, len(content), 64):
        around = content[max(0, start - 64) : start + 128].count(0) < 192
        for at in range(start, min(start + 64, len(content))):
            due += share if around else share * sparse
            if due >= 1:
                due -= 1
                yield at


def _places(kind: str, content: bytes, share: float) -> Iterator[int]:
    """Where a kind of damage is done."""
    if kind == "bit flipped":
        yield from (8 * at + bit for at in _dense(content, share, 1 / 64) for bit in range(8))
    elif kind == "byte changed":
        yield from _dense(content, share / 4, 1 / 64)
    elif kind.startswith("cut"):
        yield from _dense(content, share, 1 / 64)
    else:
        count, due = _count(kind, content), 0.0
        for where in range(count):
            due += share if count > 400 else min(1.0, share * 8)
            if due >= 1:
                due -= 1
                yield where


def _count(kind: str, content: bytes) -> int:
    """How many places a kind has that is not of single bytes."""
    if kind.endswith("crafted"):
        return craft.count(content, kind.removesuffix(" crafted"))
    size = kind.split()[0]
    if size.isdigit():
        return (len(content) - _first_block(int(size))) // int(size)
    return 8 if kind == "a beginning alone" else 20


def _sound(engine: Engine, workload: str, seed: int) -> tuple[bytes, Model]:
    """A database that was closed, and what it holds."""
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        recording = record(engine.name, engine.modes[0].name, workload, seed, place)
        content = (Path(place) / engine.file).read_bytes()
    return content, recording.history.model(recording.history.last())


def run_damage(
    engine_name: str, seed: int, share: float = 1.0, piece: int = 0, pieces: int = 1
) -> DamageReport:
    """Damage small databases in every way; ``share``: only such a part of the places, of these one ``piece``.

    Every bit of a tiny one is flipped, and it is cut at every length; all else is done to a larger one.
    """
    report = DamageReport(engine_name)
    for workload in (BITS_WORKLOAD, WORKLOAD):
        content, expected = _sound(ENGINES[engine_name], workload, seed)
        todo = [
            Damage(engine_name, workload, seed, kind, where)
            for kind in KINDS
            if _is_for(kind, workload) and (engine_name == "kvwasi" or not kind.endswith("crafted"))
            for where in _places(kind, content, share)
        ]
        report.add(_run(todo[piece::pieces], content, expected))
    return report


def _is_for(kind: str, workload: str) -> bool:
    if kind.endswith("crafted"):
        return True
    bits = kind in ("bit flipped", "cut short", "cut with garbage behind")
    return bits == (workload == BITS_WORKLOAD)


def reproduce_damage(text: str, keep: str | None = None) -> str:
    """Damage a file as a name says; what is wrong then. Raises ValueError and KeyError for no such name."""
    damage = Damage.parse(text)
    content, expected = _sound(ENGINES[damage.engine], damage.workload, damage.seed)
    made = damage.make(content)
    if keep is not None:
        (Path(keep) / ENGINES[damage.engine].file).write_bytes(made)
    findings = _run([damage], content, expected).findings
    return findings[0][1] if findings else ""


def _run(todo: list[Damage], content: bytes, expected: Model) -> DamageReport:
    report = DamageReport()
    if not todo:
        return report
    engine = ENGINES[todo[0].engine]
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:

        def work(task: int, tell: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
            tell(_look(engine, engine.modes[0], place, todo[task], content, expected))

        for task, result in run_tasks(len(todo), work, prepare=lambda: _limit_memory(engine)):
            damage = todo[task]
            outcome, what = ("signal", result.why) if isinstance(result, Lost) else result
            report.outcomes.setdefault(damage.kind, Counter())[outcome] += 1
            if outcome not in HARMLESS:
                report.findings.append((damage, f"{outcome}: {what}"))
    return report


_NO_ANSWERS = {"EngineError": "bug", "OutOfMemoryError": "memory"}
"""Errors that say nothing of the file."""


def _limit_memory(engine: Engine) -> None:
    if engine.name == "kvwasi":
        from kvwasi.engine import _engine

        _engine.limit_memory(MEMORY_MAX)


def _look(
    engine: Engine, mode: Mode, place: str, damage: Damage, content: bytes, expected: Model
) -> tuple[str, str]:
    """Open the file to read, then to write; the worse outcome of both."""
    path = Path(place) / engine.file
    content = damage.make(content)
    worst, began = ("right", ""), time.process_time()
    for read_only in (True, False):
        with open(path, "r+b" if path.exists() else "wb") as stream:
            stream.write(content)
            stream.truncate()
        try:
            outcome = _read(engine, mode, place, read_only, expected)
        except engine.errors() as error:
            outcome = _NO_ANSWERS.get(type(error).__name__, "error"), str(error)
        except Exception as error:
            outcome = "bug", f"{type(error).__name__}: {error}"
        if outcome[0] == "wrong" and damage.kind.endswith("crafted"):
            outcome = "other", outcome[1]
        if read_only and path.read_bytes() != content:
            outcome = "changed", "opening it to read changed it"
        worst = max(worst, outcome, key=lambda one: OUTCOMES.index(one[0]))
    if time.process_time() - began > SLOW_S:
        worst = max(worst, ("slow", "it took too long"), key=lambda one: OUTCOMES.index(one[0]))
    return worst


def _read(engine: Engine, mode: Mode, place: str, read_only: bool, expected: Model) -> tuple[str, str]:
    database = engine.open(place, mode, read_only=read_only)
    try:
        contents = dict(database.scan())
        if contents != expected:
            differing = sorted(k for k in contents.keys() | expected if contents.get(k) != expected.get(k))
            return "wrong", f"{len(differing)} keys differ in silence, the first {differing[0]!r}"
        if database.gets(expected) != list(expected.values()):
            return "wrong", "get finds something else"
        database.check()
    finally:
        database.close()
    return "right", ""
