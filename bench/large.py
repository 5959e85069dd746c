"""A database larger than its cache, its whole life long: load, reopen cold, read, overwrite, halve, compact.

python bench/large.py                     ten million keys: kvwasi, kvwasi with a small cache, LMDB
python bench/large.py --keys 100000

Each engine runs in a process of its own, with its defaults. Every batch is a commit, on disk when it returns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scale import entry, memory, scattered, value_of

import kvwasi
from kvwasi.bench import peers
from kvwasi.bench.engines import Engine, Kvwasi

BATCH = 100_000
GETS = 200_000
HERE = Path(__file__).parent


class SmallCache(Kvwasi):
    """With memory for less than a quarter of the index of ten million keys."""

    name = "kvwasi, cache of 128 MiB"

    def open(self) -> None:
        self._use(kvwasi.open(self._path, cache_bytes=128 << 20))


ENGINES: dict[str, type[Engine]] = {**peers.ENGINES, "kvwasi-small-cache": SmallCache}


def drop_page_cache(directory: Path) -> None:
    """What is on disk has to be read from there again."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def batches(order: Iterator[int]) -> Iterator[list[int]]:
    batch = []
    for number in order:
        batch.append(number)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class Life:
    """One engine's run; each step notes seconds, memory and the size of the file."""

    def __init__(self, engine: type[Engine], directory: Path, keys: int) -> None:
        self.keys = keys
        self.directory = directory
        before = memory()[0]
        self.engine = engine(directory)
        self.base = before
        self.steps: list[dict[str, Any]] = []

    def step(self, name: str, operations: int, work: Callable[[], None]) -> None:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        row = {
            "step": name,
            "seconds": round(seconds, 3),
            "us_an_operation": round(seconds / operations * 1e6, 3),
            "anonymous_mib": round(memory()[0] - self.base, 1),
            "file_mib": round(self.engine.disk_bytes() / (1 << 20), 1),
        }
        self.steps.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)

    def put_all(self, shift: int) -> None:
        for batch in batches(scattered(self.keys)):
            self.engine.put_batch([(b"%016d" % number, value_of(number + shift)) for number in batch])

    def reopen(self, *, cold: bool) -> None:
        if cold:
            drop_page_cache(self.directory)
        start = time.perf_counter()
        self.engine.open()
        found = self.engine.get(entry(0)[0])
        self.opened = time.perf_counter() - start
        if found is None:
            raise SystemExit("a key is gone")

    def get_some(self, shift: int) -> None:
        numbers = random.Random(1).sample(range(self.keys), min(GETS, self.keys))
        for number, found in zip(
            numbers, self.engine.get_each(b"%016d" % number for number in numbers), strict=True
        ):
            if found != value_of(number + shift):
                raise SystemExit(f"key {number} reads back wrong")

    def halve(self) -> None:
        for batch in batches(iter(range(1, self.keys, 2))):
            self.engine.delete_in_transaction(b"%016d" % number for number in batch)

    def run(self) -> list[dict[str, Any]]:
        keys, gets = self.keys, min(GETS, self.keys)
        self.step("load, random order", keys, lambda: self.put_all(0))
        self.step("close", 1, self.engine.close)
        self.step("open and get a key, cold", 1, lambda: self.reopen(cold=True))
        self.step("random get, cold", gets, lambda: self.get_some(0))
        self.step("random get, again", gets, lambda: self.get_some(0))
        self.step("overwrite all, random order", keys, lambda: self.put_all(1))
        self.step("random get of the new", gets, lambda: self.get_some(1))
        self.step("delete every other key", keys // 2, self.halve)
        self.step("compact", keys // 2, self.engine.compact)
        self.step("close again", 1, self.engine.close)
        self.step("open and get a key, warm", 1, lambda: self.reopen(cold=False))
        self.engine.close()
        return self.steps


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    names = list(results)
    head = [f"{name}: s | us each | MiB anonymous | MiB file" for name in names]
    lines = [f"| step | {' | '.join(head)} |", "|---|" + "---:|" * (4 * len(names))]
    for rows in zip(*results.values(), strict=True):
        cells = [
            f"{row['seconds']:.3f} | {row['us_an_operation']:.2f} | "
            f"{row['anonymous_mib']:.0f} | {row['file_mib']:.0f}"
            for row in rows
        ]
        lines.append(f"| {rows[0]['step']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--engines", nargs="+", default=["kvwasi", "kvwasi-small-cache", "lmdb"])
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(Life(ENGINES[arguments.child], arguments.directory, arguments.keys).run()))
        return
    results = {}
    for name in arguments.engines:
        with tempfile.TemporaryDirectory(prefix="kvwasi-large-", dir=arguments.directory) as place:
            command = [
                sys.executable,
                __file__,
                "--child",
                name,
                "--directory",
                place,
                "--keys",
                str(arguments.keys),
            ]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[ENGINES[name].name] = json.loads(done.stdout)
    text = table(results)
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    stem = arguments.results / f"large-{arguments.keys}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
