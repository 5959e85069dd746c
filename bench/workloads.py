"""What is measured: named pieces of work over a dataset, the same for every engine.

The names are those of LevelDB's db_bench where it has them. A workload returns what it read, so that the
harness can compare it across engines by hash, outside the measured time.
"""

import collections
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engines import Engine, Entry

SEED = 7973
GET_BATCH = 1000


@dataclass
class Dataset:
    """Entries in random order, and the keys to read, in another random order."""

    name: str
    entries: Sequence[Entry]
    reads: Sequence[bytes] = field(init=False)
    synced: Sequence[Entry] = field(init=False)
    """What is put one by one, each flushed: the same entries, up to a hundredth of them but at least 100."""

    def __post_init__(self) -> None:
        generator = random.Random(SEED)
        entries = list(self.entries)
        generator.shuffle(entries)
        self.entries = entries
        self.synced = entries[: max(len(entries) // 100, min(100, len(entries)))]
        reads = [key for key, _ in entries]
        generator.shuffle(reads)
        self.reads = reads


def numbered(count: int, value_bytes: int = 100) -> Dataset:
    """``count`` keys of 16 bytes, in db_bench's manner: ``%016d``, values half compressible."""
    generator = random.Random(SEED)
    half = value_bytes // 2
    entries = [(b"%016d" % number, generator.randbytes(half) * 2) for number in range(count)]
    return Dataset(f"{count} keys of 16 B, values of {value_bytes} B", entries)


@dataclass(frozen=True)
class Result:
    """What a workload did: how many operations, and the entries that it read or that must now be there."""

    operations: int
    entries: Iterable[Entry]


def _fill_random(engine: Engine, data: Dataset) -> Result:
    engine.put_in_transaction(data.entries)
    return Result(len(data.entries), ())


def _fill_random_batch(engine: Engine, data: Dataset) -> Result:
    engine.put_batch(data.entries)
    return Result(len(data.entries), ())


def _fill_sync(engine: Engine, data: Dataset) -> Result:
    engine.put_each(data.synced)
    return Result(len(data.synced), ())


def _read_random(engine: Engine, data: Dataset) -> Result:
    values = engine.get_each(data.reads)
    return Result(len(data.reads), zip(data.reads, values, strict=True))  # type: ignore[arg-type]


def _read_random_batch(engine: Engine, data: Dataset) -> Result:
    values = engine.get_batches(data.reads, GET_BATCH)
    return Result(len(data.reads), zip(data.reads, values, strict=True))  # type: ignore[arg-type]


def _read_sequential(engine: Engine, data: Dataset) -> Result:
    collections.deque(engine.scan(), maxlen=0)
    return Result(len(data.entries), ())


def _open(engine: Engine, data: Dataset) -> Result:
    engine.open()
    return Result(1, ())


@dataclass(frozen=True)
class Workload:
    """``run`` is measured; ``filled`` says whether the database holds the whole dataset before."""

    name: str
    what: str
    run: Callable[[Engine, Dataset], Result]
    filled: bool
    closed: bool = False
    """``run`` begins with the database closed."""


WORKLOADS = [
    Workload("fillrandom", "bulk put: one transaction, random order, a call a put", _fill_random, False),
    Workload("fillrandom-batch", "the same, all in one call", _fill_random_batch, False),
    Workload("fillsync", "single put, each on disk when it returns", _fill_sync, False),
    Workload("readrandom", "random get, a call a key", _read_random, True),
    Workload("readrandom-batch", f"random get, {GET_BATCH} keys a call", _read_random_batch, True),
    Workload("readseq", "scan in key order", _read_sequential, True),
    Workload("open", "open after a clean close", _open, True, closed=True),
]


def expected_after(workload: Workload, data: Dataset) -> Sequence[Entry]:
    """What the database must hold after ``workload``."""
    return data.synced if workload.name == "fillsync" else data.entries


def open_filled(engine: type[Engine], directory: Path, data: Dataset) -> Engine:
    """A database that holds ``data``, closed and opened again."""
    filled = engine(directory)
    filled.put_batch(data.entries)
    filled.close()
    return engine(directory)
