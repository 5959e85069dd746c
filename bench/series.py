"""Time series beside SQLite: the same samples appended and read, in turn, and compared.

    python bench/series.py [--samples N] [--turns N] [--directory DIR] [--results DIR]

SQLite: WAL, a table (time INTEGER PRIMARY KEY, value REAL), which is its index on time; ``executemany`` in a
transaction a batch. All unsynced (sync="none", synchronous=OFF) but for the lines that say synced: there
each commit is on disk (sync="commit", synchronous=FULL).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy

import kvwasi
from kvwasi.bench import tables
from kvwasi.bench.harness import Measurement

RESULTS = Path(__file__).parent / "results"
BATCH = 100_000
GROUP = 64
STEP = 1_000_000  # ns between samples
# What each line is to reach: the ratio to SQLite, and samples a second.
BARS = {"append_many": (10, 2e6), "scan": (10, 50e6), "range": (10, None)}

Arrays = tuple["numpy.ndarray[Any, Any]", "numpy.ndarray[Any, Any]"]


class Ours:
    """kvwasi's series of floats."""

    name = "kvwasi"

    def __init__(self, directory: str, *, sync: bool) -> None:
        self.path = f"{directory}/samples.kv"
        self.store = kvwasi.open(self.path, sync="commit" if sync else "none")
        self.series = self.store.series("samples")
        self.table = self.store.table("plain")

    def append_many(self, times: Any, values: Any) -> None:
        self.series.append_many(values, times)

    def append(self, at: int, value: float) -> None:
        self.series.append(value, at)

    def put(self, at: int, value: bytes) -> None:
        self.table.put(at.to_bytes(8, "big"), value)

    def arrays(self, start: int, stop: int) -> Arrays:
        return self.series.to_numpy(start, stop)

    def count(self, start: int, stop: int) -> int:
        return self.series.count(start, stop)

    def size(self) -> int:
        self.store.compact()
        return os.stat(self.path).st_size

    def close(self) -> None:
        self.store.close()


class Sqlite:
    """A table with the time as its key."""

    name = "sqlite3"

    def __init__(self, directory: str, *, sync: bool) -> None:
        self.path = f"{directory}/samples.db"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'OFF'}")
        self.connection.execute("CREATE TABLE samples (time INTEGER PRIMARY KEY, value REAL)")
        self.connection.execute("CREATE TABLE plain (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def append_many(self, times: Any, values: Any) -> None:
        rows = zip(times.tolist(), values.tolist(), strict=True)
        self.connection.execute("BEGIN")
        self.connection.executemany("INSERT INTO samples VALUES (?, ?)", rows)
        self.connection.execute("COMMIT")

    def append(self, at: int, value: float) -> None:
        self.connection.execute("INSERT INTO samples VALUES (?, ?)", (at, value))

    def put(self, at: int, value: bytes) -> None:
        self.connection.execute("INSERT OR REPLACE INTO plain VALUES (?, ?)", (at.to_bytes(8, "big"), value))

    def arrays(self, start: int, stop: int) -> Arrays:
        rows = self.connection.execute(
            "SELECT time, value FROM samples WHERE time >= ? AND time < ? ORDER BY time", (start, stop)
        ).fetchall()
        if not rows:
            return numpy.empty(0, numpy.int64), numpy.empty(0)
        times, values = zip(*rows, strict=True)
        return numpy.array(times, numpy.int64), numpy.array(values)

    def count(self, start: int, stop: int) -> int:
        query = "SELECT count(*) FROM samples WHERE time >= ? AND time < ?"
        return int(self.connection.execute(query, (start, stop)).fetchone()[0])

    def size(self) -> int:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return os.stat(self.path).st_size

    def close(self) -> None:
        self.connection.close()


ENGINES: list[Callable[..., Any]] = [Ours, Sqlite]


class WrongResultError(Exception):
    """The engines read different samples."""


def measure(samples: int, turns: int, directory: Path) -> list[Measurement]:
    """All lines, each engine in turn; microseconds a sample unless the unit says else."""
    times = 1_700_000_000 * 10**9 + numpy.arange(samples, dtype=numpy.int64) * STEP
    values = numpy.sin(numpy.arange(samples) / 1000)
    seen: dict[str, Any] = {}
    found: dict[tuple[str, str], list[float]] = {}

    def note(line: str, engine: str, figure: float, result: Any = None) -> None:
        found.setdefault((line, engine), []).append(figure)
        if seen.setdefault(line, result) != result:
            raise WrongResultError(f"{line}: {engine} has {result}, the other {seen[line]}")

    few = max(samples // 100, 10)
    synced = max(samples // 10_000, 10)
    for _ in range(turns):
        for make in ENGINES:
            with _opened(make, directory, sync=False) as engine:
                seconds = _time(lambda: _append_all(engine, times, values))
                note("append_many", engine.name, seconds / samples * 1e9)
                size = engine.size()
                note("bytes", engine.name, size / samples)
                start, stop = int(times[0]), int(times[-1]) + 1
                seconds, arrays = _timed(lambda: engine.arrays(start, stop))  # noqa: B023
                sums = int(arrays[0].sum()), float(arrays[1].sum())
                note("scan", engine.name, seconds / samples * 1e9, sums)
                del arrays
                part = int(times[samples // 3]), int(times[samples // 3 + samples // 100])
                seconds, arrays = _timed(lambda: engine.arrays(*part))  # noqa: B023
                note("range", engine.name, seconds / (samples // 100) * 1e9, arrays[1].tobytes())
                most = int(times[samples // 10]), int(times[-(samples // 10)])
                seconds, counted = _timed(lambda: engine.count(*most))  # noqa: B023
                note("count", engine.name, seconds * 1e3, counted)
            with _opened(make, directory, sync=False) as engine:
                calls = {"append": (engine.append, 1.5), "put": (engine.put, b"12345678")}
                for line, (mean, typical) in _calls(calls, few).items():
                    note(line, engine.name, mean * 1e6)
                    note(f"{line}, median", engine.name, typical * 1e6)
            with _opened(make, directory, sync=True) as engine:
                seconds = _time(lambda: [engine.append(at, 1.5) for at in range(synced)])
                note("append synced", engine.name, seconds / synced * 1e6)
                seconds = _time(lambda: [engine.put(at, b"12345678") for at in range(synced)])
                note("put synced", engine.name, seconds / synced * 1e6)
    what = {
        "append_many": (f"{BATCH:,} samples a call", samples, "ns"),
        "scan": ("all samples into NumPy arrays", samples, "ns"),
        "range": ("a hundredth of them, from the middle", samples // 100, "ns"),
        "count": ("four fifths of them", 1, "ms"),
        "append": ("one sample a call", few, "us"),
        "put": ("a key and 8 bytes a call, for comparison", few, "us"),
        "append, median": (f"the same, half of all groups of {GROUP} calls", few, "us"),
        "put, median": (f"the same, half of all groups of {GROUP} calls", few, "us"),
        "append synced": ("one sample a call, each on disk", synced, "us"),
        "put synced": ("a key and 8 bytes a call, each on disk", synced, "us"),
        "bytes": ("of the file, a sample of 16 bytes", samples, "B"),
    }
    return [
        Measurement(line, *what[line][:1], engine, what[line][1], figures, what[line][2])
        for line in what
        for engine in (one.name for one in (Ours, Sqlite))
        for figures in [found[line, engine]]
    ]


def _append_all(engine: Any, times: Any, values: Any) -> None:
    for begin in range(0, len(times), BATCH):
        engine.append_many(times[begin : begin + BATCH], values[begin : begin + BATCH])


def _calls(
    calls: dict[str, tuple[Callable[[int, Any], object], Any]], count: int
) -> dict[str, tuple[float, float]]:
    """Seconds a call: the mean, and the median of groups of calls, most of which have no block to make.

    The groups take turns, so that both meet the same state of file and memory.
    """
    groups: dict[str, list[float]] = {line: [] for line in calls}
    for begin in range(0, count, GROUP):
        for line, (call, value) in calls.items():
            part = range(begin, begin + GROUP)
            groups[line].append(_time(lambda: [call(at, value) for at in part]) / GROUP)  # noqa: B023
    return {line: (statistics.mean(taken), statistics.median(taken)) for line, taken in groups.items()}


@contextmanager
def _opened(make: Callable[..., Any], directory: Path, *, sync: bool) -> Iterator[Any]:
    os.sync()
    with tempfile.TemporaryDirectory(prefix="kvwasi-series-", dir=directory) as place:
        engine = make(place, sync=sync)
        try:
            yield engine
        finally:
            engine.close()


def _time(do: Callable[[], object]) -> float:
    return _timed(do)[0]


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def verdicts(measured: list[Measurement]) -> list[str]:
    """What the bars say."""
    of = {(one.workload, one.engine): one for one in measured}
    lines = []
    for line, (times, rate) in BARS.items():
        ratio = of[line, "sqlite3"].median / of[line, "kvwasi"].median
        met = "met" if ratio >= times else "**missed**"
        lines.append(f"{line}: {ratio:.1f} times SQLite, bar {times}: {met}")
        if rate is not None:
            here = 1e9 / of[line, "kvwasi"].median
            lines.append(
                f"{line}: {here / 1e6:.1f}M samples a second, bar {rate / 1e6:.0f}M: "
                f"{'met' if here >= rate else '**missed**'}"
            )
    count = of["count", "kvwasi"].median
    lines.append(f"count: {count:.2f} ms, bar 1 ms: {'met' if count <= 1 else '**missed**'}")
    over = of["bytes", "kvwasi"].median - 8
    lines.append(f"overhead: {over:.2f} bytes a sample of 8, bar 4: {'met' if over <= 4 else '**missed**'}")
    for kind in ("", ", median", " synced"):
        ratio = of[f"append{kind}", "kvwasi"].median / of[f"put{kind}", "kvwasi"].median
        lines.append(f"append{kind}: {ratio:.2f} of a put's time")
    return lines


def table(measured: list[Measurement]) -> str:
    """The lines as Markdown."""
    rows = tables.rows(measured, "sqlite3", bold=True)
    out = ["| " + " | ".join(rows[0]) + " |", "|---|" + "---:|" * (len(rows[0]) - 1)]
    return "\n".join(out + ["| " + " | ".join(row) + " |" for row in rows[1:]]) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="time series beside SQLite")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = measure(arguments.samples, arguments.turns, arguments.directory)
    facts = [
        f"{arguments.samples:,} samples, {arguments.turns} turns, medians; above 1: faster, or smaller",
        f"SQLite {sqlite3.sqlite_version}, NumPy {numpy.__version__}, Python {platform.python_version()}, "
        f"Linux {platform.release()}, {os.cpu_count()} cores",
        *verdicts(measured),
    ]
    text = "\n".join(["# Time series", "", table(measured), *(f"- {fact}" for fact in facts), ""])
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "series.md").write_text(text)
    document = {"facts": facts, "measured": [asdict(one) for one in measured]}
    (arguments.results / "series.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
