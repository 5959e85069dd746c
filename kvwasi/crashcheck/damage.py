"""Damaged files: bits flipped, ends cut off, sectors swapped, files that are something else.

The database was closed cleanly before. Reading it then gives the right data or an error of the engine's own:
never wrong data in silence, never a signal, never a hang; and opening it to read changes nothing.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvwasi.crashcheck.engines import ENGINES, Engine, Mode
from kvwasi.crashcheck.history import Model
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.record import record, scratch_directory

__all__ = ["KINDS", "DamageReport", "run_damage"]

OUTCOMES = ("right", "error", "wrong", "changed", "signal", "bug")
"""``wrong``: other contents, in silence; ``changed``: by opening it to read; ``bug``: no error of its own."""
BLOCKS = (512, 4096)


@dataclass(frozen=True)
class Damage:
    """One damaged file: ``of`` the kind, ``where`` in it, and how it is made from the sound one."""

    of: str
    where: int
    make: Callable[[bytes], bytes]


@dataclass
class DamageReport:
    """What became of the damaged files, by kind and outcome."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How many broke the promise."""
        return sum(
            count
            for counter in self.outcomes.values()
            for outcome, count in counter.items()
            if outcome not in ("right", "error")
        )


def _flips(content: bytes, chance: random.Random, share: float) -> Iterator[Damage]:
    """One bit of each byte; of long runs of zeros only some."""
    for at in range(len(content)):
        dense = any(content[max(0, at - 64) : at + 64])
        if chance.random() >= (share if dense else share / 50):
            continue
        bit = chance.randrange(8)
        yield Damage("bit flipped", at * 8 + bit, lambda c, at=at, bit=bit: _flipped(c, at, bit))  # type: ignore[misc]


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def _cuts(content: bytes, chance: random.Random, share: float) -> Iterator[Damage]:
    """Every length; with something else behind."""
    for length in range(len(content)):
        if chance.random() >= share / 8:
            continue
        yield Damage("cut short", length, lambda c, n=length: c[:n])  # type: ignore[misc]
        if chance.random() < 0.3:
            tail = chance.randbytes(chance.randrange(1, 5000))
            yield Damage("cut, garbage behind", length, lambda c, n=length, t=tail: c[:n] + t)  # type: ignore[misc]


def _blocks(content: bytes, chance: random.Random, share: float) -> Iterator[Damage]:
    """Blocks swapped, doubled, lost."""
    for size in BLOCKS:
        count = len(content) // size
        for block in range(count):
            if chance.random() >= share:
                continue
            other = chance.randrange(count)
            a, b = slice(block * size, (block + 1) * size), slice(other * size, (other + 1) * size)
            yield Damage(f"{size} bytes swapped", block, lambda c, a=a, b=b: _moved(c, a, c[b], b, c[a]))  # type: ignore[misc]
            yield Damage(f"{size} bytes doubled", block, lambda c, a=a, b=b: _moved(c, a, c[b], b, c[b]))  # type: ignore[misc]
            yield Damage(f"{size} bytes zeroed", block, lambda c, a=a: _moved(c, a, bytes(a.stop - a.start)))  # type: ignore[misc]
            junk = chance.randbytes(size)
            yield Damage(f"{size} bytes of garbage", block, lambda c, a=a, j=junk: _moved(c, a, j))  # type: ignore[misc]


def _moved(content: bytes, a: slice, to_a: bytes, b: slice | None = None, to_b: bytes = b"") -> bytes:
    damaged = bytearray(content)
    damaged[a] = to_a
    if b is not None:
        damaged[b] = to_b
    return bytes(damaged)


def _foreign(content: bytes, chance: random.Random, share: float) -> Iterator[Damage]:
    """Files that are something else."""
    for number, other in enumerate(
        (b"", b"\0", b"text\n", bytes(8192), bytes(1 << 20), b"SQLite format 3\0" + bytes(4080))
    ):
        yield Damage("another file", number, lambda c, o=other: o)  # type: ignore[misc]
    for number in range(8):
        junk = chance.randbytes(chance.choice((1, 100, 4096, 300_000)))
        yield Damage("another file", 10 + number, lambda c, j=junk: j)  # type: ignore[misc]
        yield Damage("a beginning alone", number, lambda c, j=junk, n=number: c[: 64 << n] + j)  # type: ignore[misc]


KINDS: tuple[Callable[[bytes, random.Random, float], Iterator[Damage]], ...] = (
    _flips,
    _cuts,
    _blocks,
    _foreign,
)


def run_damage(engine_name: str, seed: int, share: float = 1.0) -> DamageReport:
    """Damage a small database in every way; ``share``: only such a part of the places."""
    engine = ENGINES[engine_name]
    mode = engine.modes[0]
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        recording = record(engine_name, mode.name, "small", seed, place)
        content = (Path(place) / engine.file).read_bytes()
    expected = recording.history.model(recording.history.last())
    chance = random.Random(f"{seed}/damage")
    todo = [damage for kind in KINDS for damage in kind(content, chance, share)]
    report = DamageReport()
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:

        def work(task: int, tell: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
            tell(_look(engine, mode, place, todo[task].make(content), expected))

        for task, result in run_tasks(len(todo), work):
            damage = todo[task]
            outcome, what = ("signal", result.why) if isinstance(result, Lost) else result
            report.outcomes.setdefault(damage.of, Counter())[outcome] += 1
            if outcome not in ("right", "error"):
                report.failures.append(f"{damage.of} at {damage.where}: {outcome}: {what}")
    return report


def _look(engine: Engine, mode: Mode, place: str, content: bytes, expected: Model) -> tuple[str, str]:
    """Open the file to read, then to write; the worse outcome of both."""
    path = Path(place) / engine.file
    worst = ("right", "")
    for read_only in (True, False):
        path.write_bytes(content)
        try:
            outcome = _read(engine, mode, place, read_only, expected)
        except engine.errors() as error:
            outcome = ("error", str(error)) if type(error).__name__ != "EngineError" else ("bug", str(error))
        except Exception as error:
            outcome = "bug", f"{type(error).__name__}: {error}"
        if read_only and path.read_bytes() != content:
            outcome = "changed", "opening it to read changed it"
        worst = max(worst, outcome, key=lambda one: OUTCOMES.index(one[0]))
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
