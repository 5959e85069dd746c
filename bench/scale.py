"""How a store behaves as it grows: opening, memory, latencies, and the longest wait of a put.

Each figure is taken in a process of its own, which this file is run as: python bench/scale.py CHILD ...
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engines

from kvwasi.bench.engines import Engine, Entry
from kvwasi.bench.harness import Measurement
from kvwasi.bench.peers import ENGINES

SEED = 7973
FILL_BATCH = 100_000
GETS, PUTS = 100_000, 1000
TAIL_BATCHES = 100  # of 1,000 puts, before the crash
VALUE_BYTES = 100
UNSYNCED: dict[str, type[Engine]] = {"kvwasi": engines.Unsynced, "lmdb": engines.LmdbUnsynced}
_POOL = random.Random(SEED).randbytes(1 << 20)

WHAT = {
    "open": "open after a clean close",
    "open-crashed": f"open after a kill, {TAIL_BATCHES},000 puts since the last opening",
    "anonymous": "memory of the process's own, over that before opening, after the gets",
    "file-backed": "resident pages of files, the same way",
    "get-median": "random get in a transaction of its own, median",
    "get-p99": "the same, 99th percentile",
    "get-p99.9": "the same, 99.9th percentile",
    "put-median": "single put, on disk when it returns, median",
    "put-p99": "the same, 99th percentile",
    "put-p99.9": "the same, 99.9th percentile",
    "pause": "longest put without sync while space is collected",
    "pause-cpu": "the same, time on the processor only (the machine's other work left out)",
    "pause-p99.99": "the same puts, 99.99th percentile",
    "jitter": "longest gap of an empty loop that runs as long: the machine's part",
    "utilisation": "live bytes of the file's bytes while it is collected (kvwasi)",
}


def value_of(number: int) -> bytes:
    start = number * 2_654_435_761 % (len(_POOL) - VALUE_BYTES)
    return _POOL[start : start + VALUE_BYTES]


def entry(number: int) -> Entry:
    return b"%016d" % number, value_of(number)


def scattered(count: int) -> Iterator[int]:
    """0 to ``count`` - 1, each once, in an order that jumps about; without a list of them."""
    step = 7_368_787
    while count % step == 0:
        step += 2
    return (position * step % count for position in range(count))


# --- in the child ---


def memory() -> tuple[float, float]:
    """Resident MiB of this process: anonymous, and of files."""
    fields = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = line.split()
        fields[name] = int(amount) / 1024
    return fields["Anonymous:"], fields["Rss:"] - fields["Anonymous:"]


def _percentiles(name: str, nanoseconds: array[int]) -> dict[str, float]:
    """In microseconds."""
    ordered = sorted(nanoseconds)
    at = {"median": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {f"{name}-{part}": ordered[int(len(ordered) * share)] / 1000 for part, share in at.items()}


def child_fill(engine: type[Engine], place: Path, count: int) -> dict[str, float]:
    store, batch = engine(place), list[Entry]()
    for number in scattered(count):
        batch.append(entry(number))
        if len(batch) == FILL_BATCH:
            store.put_batch(batch)
            batch = []
    store.put_batch(batch)
    store.close()
    return {}


def child_use(engine: type[Engine], place: Path, count: int) -> dict[str, float]:
    """Open it, get, put: times and memory."""
    engine.version()  # imports what it needs
    generator = random.Random(SEED)
    numbers = [generator.randrange(count) for _ in range(GETS)]
    keys = [b"%016d" % number for number in numbers]
    times = array("q", bytes(8 * GETS))
    before = memory()
    start = time.perf_counter_ns()
    store = engine(place)
    opened = time.perf_counter_ns() - start
    clock, get = time.perf_counter_ns, store.get
    for position, key in enumerate(keys):
        began = clock()
        get(key)
        times[position] = clock() - began
    after = memory()
    for number in numbers[:1000]:
        if get(b"%016d" % number) != value_of(number):
            raise ValueError(f"{engine.name}: wrong value of {number}")
    waits = array("q")
    for number in numbers[:PUTS]:
        key, value = b"%016d" % number, value_of(number)
        began = clock()
        store.put(key, value)
        waits.append(clock() - began)
    store.close()
    found = {"open": opened / 1000, "anonymous": after[0] - before[0], "file-backed": after[1] - before[1]}
    return found | _percentiles("get", times) | _percentiles("put", waits)


def child_crash(engine: type[Engine], place: Path, count: int) -> dict[str, float]:
    """Write much, each batch on disk, and be gone without a close."""
    store, generator = engine(place), random.Random(SEED + 1)
    for _ in range(TAIL_BATCHES):
        store.put_batch([entry(generator.randrange(count)) for _ in range(1000)])
    os._exit(0)


def child_recover(engine: type[Engine], place: Path, count: int) -> dict[str, float]:
    engine.version()
    start = time.perf_counter_ns()
    store = engine(place)
    opened = time.perf_counter_ns() - start
    for number in random.Random(SEED + 1).choices(range(count), k=1000):
        if store.get(b"%016d" % number) != value_of(number):
            raise ValueError(f"{engine.name}: wrong value of {number}")
    store.close()
    return {"open-crashed": opened / 1000}


def child_pause(engine: type[Engine], place: Path, count: int) -> dict[str, float]:
    """Overwrite at random, three times over, without sync: dead space has to be won back all the time."""
    store = UNSYNCED[engine.name](place)
    generator, clock, cpu = random.Random(SEED + 2), time.perf_counter_ns, time.thread_time_ns
    put, shares = store.put, list[float]()
    waits, longest_cpu = array("q"), 0
    for _ in range(30):
        batch = [entry(generator.randrange(count)) for _ in range(count // 10)]
        gc.collect()
        for key, value in batch:
            cpu_before, began = cpu(), clock()
            put(key, value)
            waits.append(clock() - began)
            longest_cpu = max(longest_cpu, cpu() - cpu_before)
        if engine.name == "kvwasi":
            stats = store._store.stats()  # type: ignore[attr-defined]
            shares.append(stats.live_bytes / stats.file_bytes * 100)
    store.close()
    ordered = sorted(waits)
    found = {"pause": ordered[-1] / 1000, "pause-cpu": longest_cpu / 1000}
    found |= {"pause-p99.99": ordered[int(len(ordered) * 0.9999)] / 1000, "jitter": _jitter(sum(waits))}
    return found | ({"utilisation": statistics.median(shares)} if shares else {})


def _jitter(nanoseconds: int) -> float:
    """The longest gap between two looks at the clock, in microseconds."""
    clock, longest = time.perf_counter_ns, 0
    last = clock()
    end = last + nanoseconds
    while last < end:
        now = clock()
        longest = max(longest, now - last)
        last = now
    return longest / 1000


CHILDREN: dict[str, Callable[[type[Engine], Path, int], dict[str, float]]] = {
    "fill": child_fill,
    "use": child_use,
    "crash": child_crash,
    "recover": child_recover,
    "pause": child_pause,
}


# --- in the parent ---


def _child(what: str, engine: str, place: Path, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, what, engine, str(place), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} ended with {done.returncode}")
    return json.loads(done.stdout or "{}")  # type: ignore[no-any-return]


def _turn(engine: str, place: Path, count: int) -> dict[str, float]:
    found = _child("use", engine, place, count)
    _child("crash", engine, place, count)
    return found | _child("recover", engine, place, count)


def measure(
    names: list[str],
    sizes: list[int],
    turns: int,
    directory: Path,
    report: Callable[[str], None],
    *,
    pause_keys: int,
) -> list[Measurement]:
    """All figures at each size; the pauses with ``pause_keys`` keys."""
    found: dict[tuple[str, str], list[float]] = {}
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as root:
            places = {name: Path(root) / name for name in names}
            for name, place in places.items():
                place.mkdir()
                _child("fill", name, place, count)
            for turn in range(turns):
                for name in names if turn % 2 == 0 else reversed(names):
                    for metric, figure in _turn(name, places[name], count).items():
                        found.setdefault((f"{metric} {count:,}", name), []).append(figure)
                    report(f"{count:,} keys {name}")
    for name, figures in _pauses([n for n in names if n in UNSYNCED], turns, directory, pause_keys, report):
        for metric, figure in figures.items():
            found.setdefault((f"{metric} {pause_keys:,}", name), []).append(figure)
    return [
        Measurement(workload, WHAT[workload.split()[0]], name, 1, values, _unit(workload))
        for (workload, name), values in found.items()
    ]


def _unit(workload: str) -> str:
    metric = workload.split()[0]
    return {"anonymous": "MiB", "file-backed": "MiB", "utilisation": "%"}.get(metric, "us")


def _pauses(
    names: list[str], turns: int, directory: Path, count: int, report: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, float]]]:
    for _ in range(turns):
        for name in names:
            place = Path(tempfile.mkdtemp(prefix="kvwasi-bench-", dir=directory))
            try:
                _child("fill", name, place, count)
                yield name, _child("pause", name, place, count)
            finally:
                shutil.rmtree(place)
            report(f"pauses {name}")


def main() -> None:
    what, name, place, count = sys.argv[1:]
    found: Any = CHILDREN[what](ENGINES[name], Path(place), int(count))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
