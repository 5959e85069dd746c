"""How long single puts take while space is collected: every one of them, as a histogram.

python bench/pauses.py                    a million keys, overwritten twice over without sync
python bench/pauses.py --keys 5000

A database is filled and compacted, so that all of its log is live, and overwritten at random: its fill falls
to the point from which collection keeps up with what dies. Puts are counted by how full the log was then.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import engines
from scale import SEED, child_fill, entry

from kvwasi.bench import plot

HERE = Path(__file__).parent
BATCH = 10_000
ENGINES = {"kvwasi": engines.Unsynced, "lmdb": engines.LmdbUnsynced}
PHASES = ("above 80 %", "80 to 70 %", "below 70 %")
"""Of the log's bytes those that are live. LMDB has no log, and one phase."""


def fill_of(store: Any) -> float:
    """The live share of the log."""
    stats = store.stats()
    index = stats.index_nodes * 4096
    taken = (stats.sectors - stats.sectors_free) * stats.sector_bytes - index
    return float(stats.live_bytes / max(taken, 1))


def child(name: str, place: Path, keys: int) -> dict[str, Any]:
    """Puts by phase and by microseconds, rounded up to a power of two; the longest of each phase."""
    child_fill(ENGINES[name], place, keys)
    store = ENGINES[name](place)
    if name == "kvwasi":
        store.compact()
    generator, clock, cpu = random.Random(SEED), time.perf_counter_ns, time.thread_time_ns
    counts: dict[str, Counter[int]] = {phase: Counter() for phase in PHASES}
    longest = dict.fromkeys(PHASES, (0, 0))
    erased = 0
    for _ in range(max(2 * keys // BATCH, 20)):
        batch = [entry(generator.randrange(keys)) for _ in range(min(BATCH, keys // 10))]
        share = fill_of(store._store) if name == "kvwasi" else 0.0  # type: ignore[attr-defined]
        phase = PHASES[0 if share > 0.8 else 1 if share > 0.7 else 2]
        gc.collect()
        most, most_cpu = 0, 0
        for key, value in batch:
            before, began = cpu(), clock()
            store.put(key, value)
            took, used = clock() - began, cpu() - before
            counts[phase][(took // 1000).bit_length()] += 1
            most, most_cpu = max(most, took), max(most_cpu, used)
        longest[phase] = max(longest[phase][0], most), max(longest[phase][1], most_cpu)
    if name == "kvwasi":
        erased = store._store.stats().erases  # type: ignore[attr-defined]
    store.close()
    return {
        "counts": {phase: dict(counter) for phase, counter in counts.items()},
        "longest_ms": {phase: [ns / 1e6 for ns in pair] for phase, pair in longest.items()},
        "sectors_used_again": erased,
    }


class Column(NamedTuple):
    """The puts of an engine in a phase."""

    name: str
    label: str
    counts: dict[int, int]
    longest_ms: tuple[float, float]


def columns_of(results: dict[str, Any]) -> list[Column]:
    """Where there were puts."""
    return [
        Column(
            name,
            f"{name}, {phase}" if name == "kvwasi" else name,
            {int(power): count for power, count in found["counts"][phase].items()},  # JSON has no other keys
            tuple(found["longest_ms"][phase]),
        )
        for name, found in results.items()
        for phase in PHASES
        if found["counts"][phase]
    ]


def table(results: dict[str, Any], keys: int) -> str:
    """As Markdown."""
    columns = columns_of(results)
    lines = [
        f"# Single puts without sync, {keys:,} keys overwritten at random",
        "",
        f"| a put took | {' | '.join(column.label for column in columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    for power in range(max(max(column.counts) for column in columns) + 1):
        cells = [f"{column.counts.get(power, 0):,}" for column in columns]
        lines.append(f"| < {1 << power:,} us | {' | '.join(cells)} |")
    longest = [column.longest_ms for column in columns]
    lines.append("| the longest, ms | " + " | ".join(f"{wall:.2f}" for wall, _ in longest) + " |")
    lines.append("| on the processor, ms | " + " | ".join(f"{used:.2f}" for _, used in longest) + " |")
    worst = max(column.longest_ms[0] for column in columns if column.name == "kvwasi")
    lines += [
        "",
        f"- The longest put: {worst:.2f} ms, bar 10 ms: {'met' if worst <= 10 else '**missed**'}",
        "- kvwasi by how much of its log was live. Collection begins when less than two thirds are: "
        "above 80 % there is none yet.",
        f"- {results['kvwasi']['sectors_used_again']} sectors were used again.",
    ]
    return "\n".join(lines) + "\n"


def chart(results: dict[str, Any]) -> str:
    """Shares of puts that took longer, as SVG; both axes logarithmic."""
    series: dict[str, list[tuple[float, float]]] = {}
    for column in columns_of(results):
        total, longer = sum(column.counts.values()), 0
        points = []
        for power in sorted(column.counts, reverse=True):
            longer += column.counts[power]
            points.append((float(max(1 << power, 2) / 2), longer / total))
        series[column.label] = points[::-1]
    return plot.lines("Share of puts that took at least so long", series, x_axis="us", y_axis="share")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.directory, arguments.keys)))
        return
    results = {}
    for name in ENGINES:
        with tempfile.TemporaryDirectory(prefix="kvwasi-pauses-", dir=arguments.directory) as place:
            options = ["--child", name, "--directory", place, "--keys", str(arguments.keys)]
            command = [sys.executable, __file__, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(done.stdout)
    text = table(results, arguments.keys)
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "pauses.md").write_text(text)
    (arguments.results / "pauses.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.results / "pauses.svg").write_text(chart(results))


if __name__ == "__main__":
    main()
