"""kvwasi against other stores: prints tables, writes JSON, Markdown and SVG to bench/results/.

python bench/run.py                        store, threads, scale, cold: some ten minutes
python bench/run.py --size full            these with more turns and keys, redb's table and YCSB
python bench/run.py store --keys 10000 --turns 1 --engines kvwasi lmdb
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cold
import engines
import report
import scale
import workloads

from kvwasi.bench import harness, peers, tables
from kvwasi.bench.engines import Engine
from kvwasi.bench.harness import Measurement
from kvwasi.bench.workloads import STORE, named, numbered, put_threads

HERE = Path(__file__).resolve().parent
THREADS = (1, 2, 8, 32)
THREAD_KEYS = 100_000


@dataclass(frozen=True)
class Size:
    """How much of everything. The engines ``once`` take one turn of the main table, to save time."""

    suites: list[str]
    turns: int
    keys: int
    thread_operations: int
    scales: list[int]
    pause_keys: int
    redb_keys: int = 0
    redb_part: int = 1
    ycsb_records: int = 0
    ycsb_part: int = 1
    once: tuple[str, ...] = ()


ALL = ["store", "threads", "scale", "redb", "ycsb", "cold"]
SIZES = {
    "tiny": Size(
        ALL,
        turns=1,
        keys=2000,
        thread_operations=64,
        scales=[1000, 2000],
        pause_keys=5000,
        redb_keys=2000,
        redb_part=50,
        ycsb_records=500,
        ycsb_part=500,
    ),
    "usual": Size(
        ["store", "threads", "scale", "cold"],
        turns=3,
        keys=1_000_000,
        thread_operations=8000,
        scales=[10_000, 100_000, 1_000_000],
        pause_keys=200_000,
        once=("sqlite3", "rocksdb", "leveldb", "diskcache", "guest-stock"),
    ),
    "full": Size(
        ALL,
        turns=5,
        keys=1_000_000,
        thread_operations=8000,
        scales=[10_000, 100_000, 1_000_000, 10_000_000],
        pause_keys=1_000_000,
        redb_keys=5_000_000,
        ycsb_records=1_000_000,
    ),
}
# Operations of each mix at part 1; those that wait for the disk are fewer.
YCSB_OPERATIONS = {
    "ycsb-a": 20_000,
    "ycsb-b": 100_000,
    "ycsb-c": 500_000,
    "ycsb-f": 20_000,
    "ycsb-d": 100_000,
    "ycsb-e": 50_000,
}
Suite = tuple[str, list[Measurement], list[str]]  # title, figures, names of the engines


@dataclass(frozen=True)
class Run:
    """One invocation: the options, and how to say what is done."""

    size: Size
    names: list[str]
    directory: Path
    report: Callable[[str], None]
    workloads: list[str] | None

    def engines(self, *, left_out: tuple[str, ...] = ()) -> list[type[Engine]]:
        return [engines.ENGINES[name] for name in self.names if name not in left_out]

    def store(self) -> Suite:
        data, chosen = numbered(self.size.keys), self.engines()
        lives = named(STORE, self.workloads) if self.workloads else STORE
        found = harness.compare(
            data, chosen, lives, self.size.turns, self.directory, self.report, once=self.size.once
        )
        return data.name, found, [engine.name for engine in chosen]

    def threads(self) -> Suite:
        data = numbered(min(self.size.keys, THREAD_KEYS))
        chosen = self.engines(left_out=("guest-stock", "guest-native"))
        chosen += [engines.Bare, engines.BareGroup]
        lives = [put_threads(count, self.size.thread_operations) for count in THREADS]
        turns = max(self.size.turns, 5) if self.size.turns > 1 else 1
        found = harness.compare(data, chosen, lives, turns, self.directory, self.report)
        title = f"Synced single puts from threads, into {data.name}"
        return title, found, [engine.name for engine in chosen]

    def scale(self) -> Suite:
        names = [name for name in self.names if name in ("kvwasi", "lmdb")]
        found = scale.measure(
            names,
            self.size.scales,
            self.size.turns,
            self.directory,
            self.report,
            pause_keys=self.size.pause_keys,
        )
        return "By the number of keys: opening, memory, latencies, pauses", found, names

    def redb(self) -> Suite:
        data = workloads.random_keys(self.size.redb_keys)
        chosen = self.engines(left_out=("guest-stock", "diskcache"))
        lives = workloads.redb(data, self.size.redb_part)
        found = harness.compare(data, chosen, lives, self.size.turns, self.directory, self.report)
        return f"redb's table: {data.name}", found, [engine.name for engine in chosen]

    def ycsb(self) -> Suite:
        data = workloads.records(self.size.ycsb_records)
        chosen = self.engines(left_out=("guest-stock", "diskcache"))
        counts = {name: count // self.size.ycsb_part for name, count in YCSB_OPERATIONS.items()}
        found = harness.compare(
            data, chosen, workloads.ycsb(data, counts), self.size.turns, self.directory, self.report
        )
        return f"YCSB: {data.name}", found, [engine.name for engine in chosen]

    def cold(self) -> Suite:
        turns = 2 if self.size.turns == 1 else 20
        return "From a cold shell", cold.measure(turns, self.directory), ["kvwasi", "lmdb"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="store, threads, scale, redb, ycsb, cold")
    parser.add_argument("--size", choices=SIZES, default="usual")
    parser.add_argument("--keys", type=int, help="of the suite store")
    parser.add_argument("--turns", type=int, help="of each workload on each engine")
    parser.add_argument("--engines", nargs="+", choices=engines.ENGINES, default=engines.DEFAULT)
    parser.add_argument("--workloads", nargs="+", help="only these, of the suite store")
    parser.add_argument(
        "--directory", type=Path, default=HERE.parent / "build", help="on the disk to measure"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    wrong = set(options.suites) - set(ALL)
    if wrong:
        parser.error(f"no such suite: {', '.join(sorted(wrong))}")
    return options


def main() -> int:
    options = parse()
    size = SIZES[options.size]
    changes = {name: value for name in ("keys", "turns") if (value := getattr(options, name)) is not None}
    size = Size(**{**vars(size), **changes})
    options.directory.mkdir(parents=True, exist_ok=True)
    run = Run(size, options.engines, options.directory, _say, options.workloads)
    for suite in options.suites or size.suites:
        start = time.monotonic()
        title, measured, names = getattr(run, suite)()
        _say("")
        known = {**engines.ENGINES, "bare-put": engines.Bare, "bare-group": engines.BareGroup}
        facts = harness.environment(options.directory, [known[name] for name in names])
        facts["method"] = harness.method(measured)
        print(f"{title}\n{tables.plain(tables.rows(measured))}", flush=True)
        written = report.write(suite, title, measured, facts, options.results)
        print(f"  {time.monotonic() - start:.0f} s; {', '.join(path.name for path in written)}\n", flush=True)
    missing = set(peers.ENGINES) - set(peers.installed())
    if missing:
        print(f"not installed, so left out: {', '.join(map(peers.package_of, sorted(missing)))}")
    report.write_summary(options.results)
    print(report.write_bars(options.results))
    return 0


def _say(done: str) -> None:
    """One line on a terminal that says what is done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
