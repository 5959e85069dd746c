"""The gate against slowness: fails when a core operation has become clearly slower.

    python bench/gate.py            compare with gate.json
    python bench/gate.py --update   write it

First by instructions an operation, where valgrind is there and compiler, Python and wasmtime are those of
gate.json: these hardly vary. Then by kvwasi's speed as a multiple of LMDB's (of a bare pwrite and fdatasync
for the put that is flushed) in this very run, the fastest of many short turns that alternate; that sees what
instructions do not tell, but varies, so that only a large loss counts, after a second, longer look. No time
is compared with an older one.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import counted
import engines

from kvwasi.bench import tables
from kvwasi.bench.engines import Engine, Kvwasi, Lmdb
from kvwasi.bench.workloads import GET_BATCH, SEEK_ENTRIES, Dataset, numbered

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "gate.json"
KEYS, TURNS = 100_000, 9
SLOWER = 0.6
"""Fails below this part of the ratio that was; on a machine with other work, ratios vary by a quarter."""
MORE = 1.05
"""Fails above so many times the instructions that were; they vary by less than a hundredth."""
PART = 20_000
SYNCED = 100


Baseline = dict[str, Any]


@dataclass(frozen=True)
class Core:
    """An operation; ``yardstick`` is what it is measured against."""

    run: Callable[[Engine, Dataset], object]
    yardstick: type[Engine] = Lmdb


CORE = {
    "get": Core(lambda engine, data: engine.get_each(data.reads[:PART])),
    "get_many": Core(lambda engine, data: engine.get_batches(data.reads[:PART], GET_BATCH)),
    "scan": Core(lambda engine, data: collections.deque(engine.scan(), maxlen=0)),
    "scan back": Core(lambda engine, data: collections.deque(engine.scan(reverse=True), maxlen=0)),
    "seek": Core(lambda engine, data: engine.seek_each(data.reads[: PART // 10], SEEK_ENTRIES)),
    # Before those that overwrite much: dead space makes each commit after it pay for collection.
    "synced put": Core(lambda engine, data: engine.put_each(data.overwrites[:SYNCED]), engines.Bare),
    "put": Core(lambda engine, data: engine.put_in_transaction(data.overwrites[:PART])),
    "put_many": Core(lambda engine, data: engine.put_batch(data.overwrites[:PART])),
}


def compare(data: Dataset, place: Path, names: Iterable[str], turns: int) -> dict[str, float]:
    """kvwasi's speed as a multiple of the yardstick's, for each operation of ``names``."""
    opened: dict[type[Engine], Engine] = {}
    try:
        for engine in (Kvwasi, Lmdb, engines.Bare):
            (place / engine.name).mkdir()
            opened[engine] = engine(place / engine.name)
            opened[engine].put_batch(data.entries)
        return {name: _ratio(CORE[name], opened, data, turns) for name in names}
    finally:
        for store in opened.values():
            store.close()


def _ratio(core: Core, opened: dict[type[Engine], Engine], data: Dataset, turns: int) -> float:
    pair = [opened[Kvwasi], opened[core.yardstick]]
    times: dict[str, list[float]] = {engine.name: [] for engine in pair}
    gc.collect()
    for turn in range(turns + 1):
        for engine in pair if turn % 2 else pair[::-1]:
            start = time.perf_counter()
            core.run(engine, data)
            if turn:  # the first one warms up
                times[engine.name].append(time.perf_counter() - start)
    own, other = (min(times[engine.name]) for engine in pair)
    return other / own


def slower(found: dict[str, float], before: dict[str, float], tolerated: float) -> list[str]:
    """The operations that have lost more than is tolerated."""
    return [name for name, ratio in found.items() if name in before and ratio < before[name] * tolerated]


def measure(
    keys: int, turns: int, directory: Path, before: dict[str, float], tolerated: float
) -> dict[str, float]:
    """All ratios; those that seem too low are taken again, three times as long, and the better one counts."""
    data = numbered(keys)
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        found = compare(data, Path(place), CORE, turns)
    again = slower(found, before, tolerated)
    if again:
        print(f"once more, longer: {', '.join(again)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
            for name, ratio in compare(data, Path(place), again, turns * 3).items():
                found[name] = max(found[name], ratio)
    return found


def check_counts(before: Baseline, directory: Path) -> tuple[dict[str, float], list[str]]:
    """Instructions of each operation, and which of them take clearly more than they did."""
    if not counted.available():
        print("valgrind is not there: instructions are not counted")
        return {}, []
    found = counted.count(directory)
    known = before.get("instructions", {}) if before.get("counted_with") == counted.key() else {}
    if before and not known:
        print("compiler, Python or wasmtime are others than those of gate.json: counts are not compared")
    _print("instructions", found, known)
    return found, [name for name, count in found.items() if name in known and count > known[name] * MORE]


def _print(what: str, found: dict[str, float], known: dict[str, float]) -> None:
    lines = [["operation", what, "was", "now / then"]]
    for name, figure in found.items():
        then = known.get(name)
        shown = (
            (f"{figure:.4g}", f"{then:.4g}", f"{figure / then:.3f}") if then else (f"{figure:.4g}", "-", "-")
        )
        lines.append([name, *shown])
    print(tables.plain(lines), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=KEYS, help="of the comparison with LMDB")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument(
        "--tolerated", type=float, default=SLOWER, help="part of the former ratio that is enough"
    )
    parser.add_argument("--update", action="store_true", help="make these figures the ones to hold")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--directory", type=Path, default=HERE.parent / "build")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    before: Baseline = {}
    if options.baseline.exists() and not options.update:
        before = json.loads(options.baseline.read_text())
    counts, more = check_counts(before, options.directory)
    known = before.get("ratios", {})
    ratios = measure(options.keys, options.turns, options.directory, known, options.tolerated)
    _print("times the yardstick's speed", ratios, known)
    if options.update:
        document = {
            "counted_with": counted.key() if counts else None,
            "instructions": {name: round(count) for name, count in counts.items()},
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        }
        options.baseline.write_text(json.dumps(document, indent=1) + "\n")
        return 0
    lost = [*more, *slower(ratios, known, options.tolerated)]
    if lost:
        print(f"clearly slower than it was: {', '.join(dict.fromkeys(lost))}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
