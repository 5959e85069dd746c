"""Larger workloads, over those of ``kvwasi.bench.workloads``: the table that redb prints, and YCSB A to F."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from kvwasi.bench.engines import Engine
from kvwasi.bench.workloads import (
    SEED,
    Dataset,
    Life,
    Result,
    Step,
    flat,
    in_threads,
)

# --- redb: 24-byte random keys, 150-byte values ---

RANGE_ENTRIES = 10


def random_keys(count: int, key_bytes: int = 24, value_bytes: int = 150) -> Dataset:
    """``count`` entries with random keys."""
    generator = random.Random(SEED)
    entries = [(generator.randbytes(key_bytes), generator.randbytes(value_bytes)) for _ in range(count)]
    return Dataset(f"{count:,} random keys of {key_bytes} B, values of {value_bytes} B", entries)


def redb(data: Dataset, scale: int) -> list[Life]:
    """redb's benchmark. ``scale`` 1 takes its own numbers of operations, more takes fewer."""
    extra = random_keys(101_000 // scale).entries
    single, batched = extra[: 1000 // scale], extra[1000 // scale :]
    reads, ranges = 1_000_000 // scale, 500_000 // scale

    def load(engine: Engine, data: Dataset) -> Result:
        engine.put_in_transaction(data.entries)
        return Result(len(data.entries))

    def put_single(engine: Engine, data: Dataset) -> Result:
        engine.put_each(single)
        return Result(len(single))

    def put_batched(engine: Engine, data: Dataset) -> Result:
        for first in range(0, len(batched), 1000):
            engine.put_in_transaction(batched[first : first + 1000])
        return Result(len(batched))

    def read(engine: Engine, data: Dataset) -> Result:
        keys = data.reads[:reads]
        return Result(len(keys), engine.get_each(keys))

    def read_ranges(engine: Engine, data: Dataset) -> Result:
        keys = data.reads[-ranges:]
        return Result(len(keys), flat(engine.seek_each(keys, RANGE_ENTRIES)))

    def remove(engine: Engine, data: Dataset) -> Result:
        keys = data.reads[: len(data.reads) // 2]
        engine.delete_in_transaction(keys)
        return Result(len(keys))

    def size(engine: Engine, data: Dataset) -> Result:
        return Result(1, figure=engine.disk_bytes() / (1 << 20))

    def compact(engine: Engine, data: Dataset) -> Result:
        engine.compact()
        return Result(1)

    return [
        Life(
            "redb",
            [
                Step("bulk-load", "one transaction, a call a put", load),
                Step("individual-writes", "single puts, each on disk", put_single),
                Step("batch-writes", "transactions of 1,000 puts, each on disk", put_batched),
                Step("random-reads", "random get, a call a key", read),
                Step("range-reads", f"seek a random key, read {RANGE_ENTRIES} entries", read_ranges),
                Step("random-reads-4", "random get from 4 threads", _read_in_threads(4, reads)),
                Step("random-reads-8", "random get from 8 threads", _read_in_threads(8, reads)),
                Step("removals", "delete half in one transaction, a call a key", remove),
                Step("size", "of the files before compaction", size, unit="MiB"),
                Step("compaction", "compact (LMDB: copy, as it has no other way)", compact),
                Step("size-compacted", "of the files after it", size, unit="MiB"),
            ],
        )
    ]


def _read_in_threads(count: int, reads: int) -> Callable[[Engine, Dataset], Result]:
    def run(engine: Engine, data: Dataset) -> Result:
        keys = data.reads[:reads]
        found: dict[int, list[bytes | None]] = {}
        parts = [[(b"", key) for key in keys[n::count]] for n in range(count)]

        def read(own: Engine, part: Sequence[tuple[bytes, bytes]]) -> None:
            found[id(part)] = own.get_each([key for _, key in part])

        in_threads(engine, parts, read)
        return Result(len(keys), itertools.chain.from_iterable(found[id(part)] for part in parts))

    return run


# --- YCSB (Cooper et al., SoCC 2010): core workloads, zipfian 0.99, records of 1 KB ---

THETA = 0.99
SCAN_ENTRIES_MAX = 100
READ, UPDATE, INSERT, SCAN, MODIFY = range(5)
Operation = tuple[int, bytes, bytes, int]

MIXES = {
    "ycsb-a": ("half reads, half updates", {READ: 50, UPDATE: 50}),
    "ycsb-b": ("95 % reads, 5 % updates", {READ: 95, UPDATE: 5}),
    "ycsb-c": ("reads only", {READ: 100}),
    "ycsb-f": ("half reads, half read-modify-write", {READ: 50, MODIFY: 50}),
    "ycsb-d": ("95 % reads of the latest, 5 % inserts", {READ: 95, INSERT: 5}),
    "ycsb-e": ("95 % scans of 1 to 100 entries, 5 % inserts", {SCAN: 95, INSERT: 5}),
}


def zipfian(generator: random.Random, count: int, theta: float = THETA) -> Iterator[int]:
    """Ranks below ``count``, 0 the most frequent (Gray et al., SIGMOD 1994, as in YCSB's generator)."""
    zeta = sum(1 / rank**theta for rank in range(1, count + 1))
    alpha = 1 / (1 - theta)
    eta = (1 - (2 / count) ** (1 - theta)) / (1 - (1 + 0.5**theta) / zeta)
    while True:
        u = generator.random()
        if u * zeta < 1:
            yield 0
        elif u * zeta < 1 + 0.5**theta:
            yield 1
        else:
            yield min(count - 1, int(count * (eta * u - eta + 1) ** alpha))


def records(count: int) -> Dataset:
    """YCSB's: keys ``user`` and a number, 1,000 bytes."""
    generator = random.Random(SEED)
    entries = [(b"user%019d" % generator.getrandbits(62), generator.randbytes(1000)) for _ in range(count)]
    return Dataset(f"{count:,} records of 1 KB, keys of 23 B, zipfian {THETA}", entries)


def operations(name: str, data: Dataset, count: int) -> list[Operation]:
    """``count`` operations of a mix. The entries' order is random, so hot records are scattered."""
    generator = random.Random(f"{name}-{SEED}")
    mix, entries = MIXES[name][1], list(data.entries)
    ranks = zipfian(generator, len(entries))
    kinds = generator.choices(list(mix), list(mix.values()), k=count)
    found: list[Operation] = []
    for kind in kinds:
        if kind == INSERT:
            entries.append((b"user%019d" % generator.getrandbits(62), generator.randbytes(1000)))
            found.append((kind, *entries[-1], 0))
            continue
        rank = next(ranks)
        key, value = entries[-1 - rank if name == "ycsb-d" else rank]
        if kind in (UPDATE, MODIFY):
            value = generator.randbytes(len(value))
        found.append((kind, key, value, generator.randint(1, SCAN_ENTRIES_MAX)))
    return found


def ycsb(data: Dataset, counts: dict[str, int]) -> list[Life]:
    """Load, then A, B, C, F, D; E on a database of its own. ``counts``: operations of each."""

    def step(name: str) -> Step:
        todo = operations(name, data, counts[name])
        return Step(name, MIXES[name][0], lambda engine, data: _mixed(engine, todo))

    def load(engine: Engine, data: Dataset) -> Result:
        engine.put_batch(data.entries)
        return Result(len(data.entries))

    loading = Step("ycsb-load", "one transaction, all in one call", load)
    again = Step("(load)", "", load)
    order = [name for name in MIXES if name in counts and name != "ycsb-e"]
    lives = [Life("ycsb", [loading, *map(step, order)])]
    return [*lives, Life("ycsb-e", [again, step("ycsb-e")])] if "ycsb-e" in counts else lives


def _mixed(engine: Engine, todo: Sequence[Operation]) -> Result:
    """Each change is a commit of its own, on disk before the next operation."""
    get, put, seek = engine.get, engine.put, engine.seek_each
    read: list[bytes | None] = []
    for kind, key, value, length in todo:
        if kind == READ:
            read.append(get(key))
        elif kind == SCAN:
            read += flat(seek((key,), length))
        else:
            if kind == MODIFY:
                read.append(get(key))
            put(key, value)
    return Result(len(todo), read)
