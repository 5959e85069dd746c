"""What is measured: lives of a database, made of named steps, the same for every engine.

The names are those of LevelDB's db_bench where it has them. A step returns what it read, so that the
harness can compare it across engines by hash, outside the measured time.
"""

from __future__ import annotations

import collections
import itertools
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from kvwasi.bench.engines import Engine, Entry

SEED = 7973
GET_BATCH = 1000
PUT_BATCH = 1000
SEEK_ENTRIES = 10
LARGE_BYTES = 100 << 10

T = TypeVar("T")


def _anew(data: bytes) -> bytes:
    return bytes(bytearray(data))


def _keys_laid_out(keys: Iterable[bytes]) -> list[bytes]:
    """Copies that lie in memory as they are used. Else a walk over Python's heap would be measured, too."""
    return [_anew(key) for key in keys]


def _laid_out(entries: Iterable[Entry]) -> list[Entry]:
    return [(_anew(key), _anew(value)) for key, value in entries]


@dataclass
class Dataset:
    """Entries in random order, and what is derived from them: the same for each engine."""

    name: str
    entries: Sequence[Entry]

    def __post_init__(self) -> None:
        entries = list(self.entries)
        random.Random(SEED).shuffle(entries)
        self.entries = _laid_out(entries)

    @cached_property
    def ordered(self) -> Sequence[Entry]:
        """The entries in key order."""
        return _laid_out(sorted(self.entries))

    @cached_property
    def reads(self) -> Sequence[bytes]:
        """The keys in another random order."""
        return _keys_laid_out(self._shuffled([key for key, _ in self.entries], 1))

    @cached_property
    def missing(self) -> Sequence[bytes]:
        """Keys beside those that are there: each is a neighbour of one that is."""
        return [key + b"." for key in self.reads]

    @cached_property
    def overwrites(self) -> Sequence[Entry]:
        """Another value of the same length for each key, in a random order."""
        return _laid_out(self._shuffled([(key, value[::-1]) for key, value in self.entries], 2))

    @cached_property
    def synced(self) -> Sequence[Entry]:
        """What is put one by one, each flushed: up to a hundredth of the entries, but at least 100."""
        return self.entries[: max(len(self.entries) // 100, min(100, len(self.entries)))]

    @cached_property
    def large(self) -> Sequence[Entry]:
        """A thousandth as many entries of 100 KiB, half compressible; at least 5."""
        generator = random.Random(SEED)
        count = max(5, len(self.entries) // 1000)
        return [(b"%016d" % number, generator.randbytes(LARGE_BYTES // 2) * 2) for number in range(count)]

    @staticmethod
    def _shuffled(items: list[T], seed: int) -> list[T]:
        random.Random(SEED + seed).shuffle(items)
        return items


def numbered(count: int, value_bytes: int = 100) -> Dataset:
    """``count`` keys of 16 bytes, in db_bench's manner: ``%016d``, values half compressible."""
    generator = random.Random(SEED)
    half = value_bytes // 2
    entries = [(b"%016d" % number, generator.randbytes(half) * 2) for number in range(count)]
    return Dataset(f"{count:,} keys of 16 B, values of {value_bytes} B", entries)


@dataclass(frozen=True)
class Result:
    """What a step did: how many operations, and what it read (values, or keys and values, in its order)."""

    operations: int
    read: Iterable[bytes | None] = ()
    figure: float | None = None
    """What is measured, where that is not the time of an operation."""


@dataclass(frozen=True)
class Step:
    """``run`` is measured, ``prepare`` goes before it."""

    name: str
    what: str
    run: Callable[[Engine, Dataset], Result]
    prepare: Callable[[Engine, Dataset], None] | None = None
    unit: str = "us"


@dataclass(frozen=True)
class Life:
    """The steps of one database, from empty on. Its whole content is compared at the end."""

    name: str
    steps: Sequence[Step]


def flat(entries: Iterable[Entry]) -> Iterable[bytes]:
    """Keys and values in a row."""
    return itertools.chain.from_iterable(entries)


def in_threads(
    engine: Engine, parts: Sequence[Sequence[Entry]], run: Callable[[Engine, Sequence[Entry]], None]
) -> None:
    """Run ``run`` for each part in a thread of its own, to their end. Raises what one of them raised."""
    if len(parts) > 1 and not engine.threads:
        raise NotImplementedError
    failures: list[BaseException] = []

    def work(part: Sequence[Entry]) -> None:
        try:
            own = engine.for_thread()
            try:
                run(own, part)
            finally:
                if own is not engine:
                    own.close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- the steps ---


def _fill_ordered(engine: Engine, data: Dataset) -> Result:
    entries = data.ordered[:: engine.share]
    engine.put_in_transaction(entries)
    return Result(len(entries))


def _fill_random(engine: Engine, data: Dataset) -> Result:
    entries = data.entries[:: engine.share]
    engine.put_in_transaction(entries)
    return Result(len(entries))


def _fill_at_once(engine: Engine, data: Dataset) -> Result:
    engine.put_batch(data.entries)
    return Result(len(data.entries))


def _fill_batches(engine: Engine, data: Dataset) -> Result:
    entries = data.entries[: len(data.entries) // engine.share]
    for first in range(0, len(entries), PUT_BATCH):
        engine.put_batch(entries[first : first + PUT_BATCH])
    return Result(len(entries))


def _fill_each(engine: Engine, data: Dataset) -> Result:
    engine.put_each(data.synced)
    return Result(len(data.synced))


def _fill_large(engine: Engine, data: Dataset) -> Result:
    engine.put_in_transaction(data.large)
    return Result(len(data.large))


def _overwrite(engine: Engine, data: Dataset) -> Result:
    entries = data.overwrites[:: engine.share]
    engine.put_in_transaction(entries)
    return Result(len(entries))


def _delete(engine: Engine, data: Dataset) -> Result:
    keys = data.reads[: len(data.reads) // 2 // engine.share]
    engine.delete_in_transaction(keys)
    return Result(len(keys))


def _read_each(engine: Engine, data: Dataset) -> Result:
    keys = data.reads[:: engine.share]
    return Result(len(keys), engine.get_each(keys))


def _read_first(engine: Engine, data: Dataset) -> Result:
    keys = data.reads[: len(data.reads) // 10 // engine.share]
    return Result(len(keys), engine.get_each(keys))


def _touch(engine: Engine, data: Dataset) -> Result:
    return Result(1, flat(engine.scan()))


def _read_missing(engine: Engine, data: Dataset) -> Result:
    keys = data.missing[:: engine.share]
    return Result(len(keys), engine.get_each(keys))


def _read_batches(engine: Engine, data: Dataset) -> Result:
    keys = data.reads[: len(data.reads) // engine.share]
    return Result(len(keys), engine.get_batches(keys, GET_BATCH))


def _scan(engine: Engine, data: Dataset) -> Result:
    collections.deque(engine.scan(), maxlen=0)
    return Result(len(data.entries), flat(engine.scan()))


def _scan_back(engine: Engine, data: Dataset) -> Result:
    collections.deque(engine.scan(reverse=True), maxlen=0)
    return Result(len(data.entries), flat(engine.scan(reverse=True)))


def _seek(engine: Engine, data: Dataset) -> Result:
    keys = data.reads[:: 10 * engine.share]
    return Result(len(keys), flat(engine.seek_each(keys, SEEK_ENTRIES)))


def _open(engine: Engine, data: Dataset) -> Result:
    engine.open()
    return Result(1)


def _close(engine: Engine, data: Dataset) -> None:
    engine.close()


def _fill_unmeasured(engine: Engine, data: Dataset) -> None:
    engine.put_batch(data.entries)


FILL = "one transaction, a call a put"
STORE = [
    Life("ordered", [Step("fillseq", f"put in key order: {FILL}", _fill_ordered)]),
    Life("random", [Step("fillrandom", f"put in random order: {FILL}", _fill_random)]),
    Life(
        "read",
        [
            Step("fillrandom-batch", "the same, all in one call", _fill_at_once),
            Step("open", "open after a clean close", _open, prepare=_close),
            Step("readfirst", "the first random gets after it, a tenth of the keys", _read_first),
            Step("(touch)", "everything once, so that what follows finds it in memory", _touch),
            Step("readrandom", "random get, a call a key", _read_each),
            Step("readmissing", "the same, keys that are not there", _read_missing),
            Step("readrandom-batch", f"random get, {GET_BATCH} keys a call", _read_batches),
            Step("readseq", "scan in key order", _scan),
            Step("readreverse", "scan against key order", _scan_back),
            Step("seekrandom", f"seek a random key, read {SEEK_ENTRIES} entries", _seek),
            Step("overwrite", f"overwrite in random order: {FILL}", _overwrite),
            Step("deleterandom", "delete half, random order: one transaction, a call a key", _delete),
        ],
    ),
    Life("batches", [Step("fillbatch", f"transactions of {PUT_BATCH} puts, each on disk", _fill_batches)]),
    Life("synced", [Step("fillsync", "single put, each on disk when it returns", _fill_each)]),
    Life("large", [Step("fill100K", f"put values of 100 KiB: {FILL}", _fill_large)]),
]


def put_threads(count: int, operations: int) -> Life:
    """``count`` threads put ``operations`` entries in all, one a commit, into a filled database."""

    def run(engine: Engine, data: Dataset) -> Result:
        entries = data.overwrites[:operations]
        in_threads(engine, [entries[n::count] for n in range(count)], lambda own, part: own.put_each(part))
        return Result(len(entries))

    what = f"{count} thread{'s' * (count > 1)}, single puts, each on disk when it returns"
    return Life(f"threads-{count}", [Step(f"put-{count}", what, run, prepare=_fill_unmeasured)])


def named(lives: Iterable[Life], names: Sequence[str]) -> list[Life]:
    """The lives with only those steps, and what fills the database before them."""
    chosen = []
    for life in lives:
        if not any(step.name in names for step in life.steps):
            continue
        fill, *rest = life.steps
        if fill.name not in names:
            fill = Step(f"({fill.name})", fill.what, fill.run)
        kept = [step for step in rest if step.name in names or step.name.startswith("(")]
        chosen.append(Life(life.name, [fill, *kept]))
    return chosen
