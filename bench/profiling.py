"""Where the time of a get, a put, a synced put and a scan goes: ns a step, from Python to the page cache.

    python bench/profiling.py [--keys N] [--turns N] [--directory DIR]

By differences: each step is the difference of two loops that differ in it, run in turn; of each loop the
fastest turn counts, for what else the machine does only adds. Where Linux's perf is there, samples of the
same loops say in whose code the time passes, which is another way to the same.
"""

from __future__ import annotations

import argparse
import collections
import json
import operator
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import compiled
import counted
import report

import kvwasi
from kvwasi.bench import harness, plot, tables
from kvwasi.bench.engines import Kvwasi
from kvwasi.bench.workloads import Dataset, numbered

SYNCED = 1000
COUNTED = ("kvwasi", "guest-native", "lmdb")
RECORD_BYTES = 160  # a key of 16 and a value of 100 with their header, padded
Loop = Callable[[], int]  # runs, and says how many operations that was
Part = tuple[str, float]


def _fastest(loops: dict[str, Loop], turns: int) -> dict[str, float]:
    """Nanoseconds an operation of each loop; the loops take turns."""
    best = dict.fromkeys(loops, float("inf"))
    for _ in range(turns):
        for name, loop in loops.items():
            start = time.perf_counter_ns()
            count = loop()
            best[name] = min(best[name], (time.perf_counter_ns() - start) / count)
    return best


def _calls(function: Callable[..., object], arguments: Sequence[object]) -> Loop:
    """A call with one argument, for each of ``arguments``."""

    def loop() -> int:
        for argument in arguments:
            function(argument)
        return len(arguments)

    return loop


def _calls_2(function: Callable[..., object], pairs: Sequence[tuple[bytes, bytes]]) -> Loop:
    def loop() -> int:
        for key, value in pairs:
            function(key, value)
        return len(pairs)

    return loop


def _contains(where: Container[bytes], keys: Sequence[bytes]) -> Loop:
    def loop() -> int:
        for key in keys:
            key in where  # noqa: B015
        return len(keys)

    return loop


def _length(of: object, count: int) -> Loop:
    numbers = range(count)

    def loop() -> int:
        for _ in numbers:
            len(of)  # type: ignore[arg-type]
        return count

    return loop


def _parts(total: float, named: Sequence[Part]) -> list[Part]:
    """The parts, none below zero (a difference within the noise), and what is left of ``total``."""
    parts = [(name, max(0.0, value)) for name, value in named]
    left = total - sum(value for _, value in parts)
    return [*parts, ("not told apart", left)] if left > total / 100 else parts


def get_steps(store: kvwasi.Store, data: Dataset, turns: int) -> list[Part]:
    """A random get of a value of 100 bytes from a warm store."""
    count = min(len(data.reads), 200_000)
    keys, hot = data.reads[:count], [data.reads[0]] * count
    t = _fastest(
        {
            "call": _calls(callable, keys),
            "len": _length(b"", count),
            "count": _length(store, count),
            "not in": _contains((), hot),
            "in": _contains(store, hot),
            "hot": _calls(store.get, hot),
            "random": _calls(store.get, keys),
        },
        turns,
    )
    crossing = t["count"] - t["len"]
    found = t["in"] - t["not in"] - crossing
    return _parts(
        t["random"],
        [
            ("Python: the loop, calling a method of C", t["call"]),
            ("the store's lock, into WebAssembly and back", crossing),
            ("finding the key, all in the processor's caches", found),
            ("the value: bytes object, copy, checksum", t["hot"] - t["call"] - crossing - found),
            ("waiting for memory: index, record, value at random", t["random"] - t["hot"]),
        ],
    )


def put_steps(store: kvwasi.Store, data: Dataset, turns: int) -> list[Part]:
    """A put in random order within one transaction, and its part of the commit."""
    count = min(len(data.overwrites), 200_000)
    pairs, hot = data.overwrites[:count], [data.overwrites[0]] * count
    commits: list[float] = []

    def puts(entries: Sequence[tuple[bytes, bytes]], *, commit: bool) -> Loop:
        def loop() -> int:
            start = time.perf_counter_ns()
            _calls_2(transaction.put, entries)()
            spent.append((time.perf_counter_ns() - start) / count)
            start = time.perf_counter_ns()
            if commit:
                transaction.commit()
                commits.append((time.perf_counter_ns() - start) / count)
            else:
                transaction.rollback()
            return count

        transaction, spent = store.transaction(), times["random" if commit else "hot"]
        return loop

    times: dict[str, list[float]] = {"hot": [], "random": []}
    t = _fastest(
        {
            "call": _calls_2(operator.is_, pairs),
            "len": _length(b"", count),
            "count": _length(store, count),
        },
        turns,
    )
    for _ in range(turns):
        puts(hot, commit=False)()
        puts(pairs, commit=True)()
    hot_ns, random_ns, commit_ns = min(times["hot"]), min(times["random"]), min(commits)
    crossing = t["count"] - t["len"]
    return _parts(
        random_ns + commit_ns,
        [
            ("Python: the loop, calling a method of C", t["call"]),
            ("the store's lock, into WebAssembly and back", crossing),
            ("copy, checksum, record, index, all in the processor's caches", hot_ns - t["call"] - crossing),
            ("waiting for memory, splitting nodes: keys at random", random_ns - hot_ns),
            ("its part of the commit: merge, write, flush", commit_ns),
        ],
    )


def synced_steps(store: kvwasi.Store, place: Path, data: Dataset, turns: int) -> list[Part]:
    """A put that is on disk when it returns. Medians, as no two flushes are alike."""
    entries = data.overwrites[:SYNCED]
    record, library = bytes(RECORD_BYTES), compiled.reference()
    file = library.reference_open(os.fsencode(place / "bare"), 16 << 20)

    def median(call: Callable[[bytes, bytes], object]) -> float:
        clock, waits = time.perf_counter_ns, []
        for key, value in entries:
            start = clock()
            call(key, value)
            waits.append(clock() - start)
        return statistics.median(waits)

    write, flush = library.reference_write, library.reference_flush
    with kvwasi.open(place / "unsynced.kv", sync="none") as unsynced:
        unsynced.put_many(data.entries[:100_000])
        calls: dict[str, Callable[[bytes, bytes], object]] = {
            "clock": operator.is_,
            "library": lambda key, value: library.reference_nothing(file, record, RECORD_BYTES),
            "write": lambda key, value: write(file, record, RECORD_BYTES),
            "both": lambda key, value: (write(file, record, RECORD_BYTES), flush(file)),
            "unsynced": unsynced.put,
            "synced": store.put,
        }
        medians: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(turns):
            for name, call in calls.items():
                medians[name].append(median(call))
    library.reference_close(file)
    t = {name: min(values) for name, values in medians.items()}
    written = t["write"] - t["library"]
    return _parts(
        t["synced"],
        [
            ("Python: the call (and the clock)", t["clock"]),
            ("lock, WebAssembly, record, index", t["unsynced"] - t["clock"] - written),
            ("write of 160 bytes into the page cache, bare", written),
            ("fdatasync, bare", t["both"] - t["write"]),
            (
                "the rest: group commit, its threads' wake-ups",
                t["synced"] - t["unsynced"] - (t["both"] - t["write"]),
            ),
        ],
    )


def scan_steps(store: kvwasi.Store, data: Dataset, turns: int) -> list[Part]:
    """An entry of a scan in key order."""
    ready, count = list(data.ordered), len(data.ordered)

    def drain(make: Callable[[], Iterator[object]]) -> Loop:
        def loop() -> int:
            collections.deque(make(), maxlen=0)
            return count

        return loop

    t = _fastest(
        {
            "loop": drain(lambda: iter(ready)),
            "keys": drain(lambda: iter(store.keys())),
            "items": drain(lambda: iter(store.items())),
        },
        turns,
    )
    return _parts(
        t["items"],
        [
            ("Python: taking it from the iterator", t["loop"]),
            ("walking the tree, a batch a crossing; the key: bytes object, copy", t["keys"] - t["loop"]),
            ("the value: bytes object, copy, checksum; the pair", t["items"] - t["keys"]),
        ],
    )


# --- by samples ---

# Whose code it is, by the file that it is in; first match counts.
OWNERS = [
    ("Python", ("python", "libpython")),
    ("kvwasi's Cython and C", ("_engine", "_host")),
    ("the kernel", ("[kernel", "[guest.kernel", "[k]")),
    ("the C library", ("libc.", "libc-", "ld-linux", "[vdso]")),
    ("wasmtime's crossing", ("libwasmtime", "_libwasmtime")),
]
COMPILED = "the engine's code, compiled from WebAssembly"


def _owner(file: str) -> str:
    name = os.path.basename(file)
    return next((owner for owner, marks in OWNERS if name.startswith(marks)), COMPILED)


def sampled(loop: Loop, place: Path, seconds: float = 2.0) -> list[Part] | None:
    """Nanoseconds of the processor an operation, by whose code runs; None where there is no perf."""
    if shutil.which("perf") is None:
        return None
    output, operations = place / "perf.data", 0
    command = [
        "perf",
        "record",
        "-q",
        "-e",
        "cpu-clock",
        "-F",
        "2999",
        "-p",
        str(os.getpid()),
        "-o",
        str(output),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
        time.sleep(0.3)  # until it is attached
        end, before = time.monotonic() + seconds, time.process_time_ns()
        while time.monotonic() < end:
            operations += loop()
        spent = (time.process_time_ns() - before) / operations
        perf.send_signal(signal.SIGINT)
        perf.wait()
    listed = subprocess.run(
        ["perf", "report", "-i", str(output), "--stdio", "--sort", "dso", "-F", "overhead,dso", "-t", "\t"],
        capture_output=True,
        text=True,
    )
    shares: dict[str, float] = {}
    for line in listed.stdout.splitlines():
        words = line.split("\t")
        if len(words) == 2 and words[0].strip().endswith("%"):
            owner = _owner(words[1].strip())
            shares[owner] = shares.get(owner, 0) + float(words[0].strip().rstrip("%"))
    whole = sum(shares.values())
    parts = [(owner, spent * share / whole) for owner, share in shares.items()]
    return sorted(parts, key=lambda part: -part[1]) or None


def by_samples(store: kvwasi.Store, data: Dataset, place: Path) -> dict[str, list[Part]]:
    """The four loops under perf."""
    keys, pairs = data.reads[:200_000], data.overwrites[:200_000]

    def put() -> int:
        with store.transaction() as transaction:
            return _calls_2(transaction.put, pairs)()

    def scan() -> int:
        collections.deque(store.items(), maxlen=0)
        return len(data.entries)

    loops: dict[str, Loop] = {
        "get": _calls(store.get, keys),
        "scan": scan,
        "synced put": _calls_2(store.put, pairs[:SYNCED]),
        "put": put,
    }
    return {name: found for name, loop in loops.items() if (found := sampled(loop, place)) is not None}


# --- all of it ---


def measure(keys: int, turns: int, directory: Path) -> tuple[dict[str, list[Part]], dict[str, list[Part]]]:
    """By differences and by samples: the parts of each operation, in ns."""
    data = numbered(keys)
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as name:
        place = Path(name)
        with kvwasi.open(place / "profile.kv") as store:
            store.put_many(data.entries)
            # Whatever overwrites much comes last: dead space makes each commit after it pay for collection.
            steps = {
                "get": get_steps(store, data, turns),
                "scan": scan_steps(store, data, turns),
                "synced put": synced_steps(store, place, data, turns),
            }
            samples = by_samples(store, data, place)
            return {**steps, "put": put_steps(store, data, turns)}, samples


def instructions(directory: Path) -> dict[str, dict[str, float]]:
    """Of each operation on each engine, as callgrind counts them, in user mode; empty without valgrind."""
    if not counted.available():
        return {}
    return {engine: counted.count(directory, engine) for engine in COUNTED}


def instructions_table(counts: dict[str, dict[str, float]]) -> str:
    if not counts:
        return ""
    lines = [["instructions an operation (without the kernel's)", *counts]]
    for name in counts[COUNTED[0]]:
        lines.append([name, *(f"{found[name]:,.0f}" for found in counts.values())])
    return tables.markdown(lines)


def markdown(title: str, steps: dict[str, list[Part]], samples: dict[str, list[Part]]) -> str:
    lines = [f"# {title}", ""]
    for name, parts in steps.items():
        total = sum(value for _, value in parts)
        lines += [f"| {name}: step | ns | share |", "|---|---:|---:|"]
        lines += [f"| {part} | {value:,.0f} | {value / total:.0%} |" for part, value in parts]
        lines += [f"| **all** | **{total:,.0f}** | |", ""]
        if name in samples:
            spent = sum(value for _, value in samples[name])
            shares = ", ".join(f"{owner} {value:,.0f}" for owner, value in samples[name])
            lines += [f"By samples, {spent:,.0f} ns of the processor: {shares}.", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=report.RESULTS.parents[1] / "build")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    parser.add_argument("--without-counts", action="store_true", help="of instructions, which need valgrind")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    steps, samples = measure(options.keys, options.turns, options.directory)
    title = f"Where the time goes, {options.keys:,} keys of 16 B, values of 100 B"
    facts = harness.environment(options.directory, [Kvwasi])
    facts_line = report.facts_text(facts)
    note = "By differences of loops, the fastest of several turns each. " + facts_line
    counts = {} if options.without_counts else instructions(options.directory)
    text = markdown(title, steps, samples) + "\n" + instructions_table(counts)
    (options.results / "profile.md").write_text(text + f"\n- {note}\n")
    document = {
        "title": title,
        "environment": facts,
        "steps_ns": steps,
        "samples_ns": samples,
        "instructions": counts,
    }
    (options.results / "profile.json").write_text(json.dumps(document, indent=1) + "\n")
    groups = list(steps.items())
    (options.results / "profile.svg").write_text(plot.stacks(title, groups, unit="ns", note=note))
    if samples:
        title, note = "The same by samples: in whose code the processor is", "perf's cpu-clock; " + facts_line
        svg = plot.stacks(title, list(samples.items()), unit="ns", note=note)
        (options.results / "profile-samples.svg").write_text(svg)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
