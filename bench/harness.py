"""Measure: engines take turns within one run, and what they read is compared by hash."""

import hashlib
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines import Engine, Entry
from workloads import Dataset, Workload, expected_after, open_filled


@dataclass(frozen=True)
class Measurement:
    """One workload on one engine: microseconds an operation, one for each turn."""

    workload: str
    what: str
    engine: str
    operations: int
    turns_us: list[float]

    @property
    def median_us(self) -> float:
        return statistics.median(self.turns_us)


class WrongResultError(Exception):
    """An engine read back something else than what was put."""


def digest(entries: Iterable[Entry]) -> str:
    """One hash of entries, whatever their order: for what was read in a random one."""
    total = 0
    for key, value in entries:
        whole = hashlib.blake2b(len(key).to_bytes(4) + key + value, digest_size=16).digest()
        total = (total + int.from_bytes(whole)) % (1 << 128)
    return f"{total:032x}"


def compare(
    data: Dataset, engines: Sequence[type[Engine]], workloads: Sequence[Workload], turns: int, directory: Path
) -> list[Measurement]:
    """Run each workload ``turns`` times on each engine in turn, somewhere below ``directory``."""
    expected = digest(data.entries)
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        filled = {engine.name: _make_filled(engine, Path(place), data) for engine in engines}
        try:
            for workload in workloads:
                times: dict[str, list[float]] = {engine.name: [] for engine in engines}
                for turn in range(turns):
                    order = engines if turn % 2 == 0 else list(reversed(engines))
                    for engine in order:
                        seconds, operations = _turn(
                            engine, workload, data, filled[engine.name], Path(place), expected
                        )
                        times[engine.name].append(seconds / operations * 1e6)
                measured += [
                    Measurement(workload.name, workload.what, name, operations, turns_us)
                    for name, turns_us in times.items()
                ]
        finally:
            for opened in filled.values():
                opened.close()
    return measured


def _make_filled(engine: type[Engine], place: Path, data: Dataset) -> Engine:
    directory = place / f"filled-{engine.name}"
    directory.mkdir()
    return open_filled(engine, directory, data)


def _turn(
    engine: type[Engine], workload: Workload, data: Dataset, filled: Engine, place: Path, expected: str
) -> tuple[float, int]:
    """Seconds and operations of one run; raises WrongResultError."""
    if workload.filled:
        seconds, result = _timed(workload, filled, data)
        read = digest(result.entries or filled.scan())
    else:
        directory = Path(tempfile.mkdtemp(dir=place))
        target = engine(directory)
        try:
            seconds, result = _timed(workload, target, data)
            read = digest(target.scan())
            expected = digest(expected_after(workload, data))
        finally:
            target.close()
            shutil.rmtree(directory)
    if read != expected:
        raise WrongResultError(f"{engine.name}, {workload.name}: read {read}, expected {expected}")
    return seconds, result.operations


def _timed(workload: Workload, engine: Engine, data: Dataset) -> tuple[float, Any]:
    if workload.closed:
        engine.close()
    start = time.perf_counter()
    result = workload.run(engine, data)
    return time.perf_counter() - start, result


def environment(directory: Path, engines: Sequence[type[Engine]]) -> dict[str, str]:
    """What a result depends on."""
    return {
        "engines": "; ".join(engine.version() for engine in engines),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "file_system": _file_system(directory),
    }


def _file_system(directory: Path) -> str:
    """The type of the file system that holds ``directory``, by the longest mount point above it."""
    found = ("", "unknown")
    try:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, point, kind, *_ = line.split()
            if directory.resolve().is_relative_to(point) and len(point) > len(found[0]):
                found = (point, kind)
    except OSError:
        pass
    return found[1]


def as_json(data: Dataset, measured: Sequence[Measurement], facts: dict[str, str]) -> dict[str, Any]:
    """Everything of a run."""
    return {"dataset": data.name, "environment": facts, "measurements": [asdict(m) for m in measured]}


def _duration(microseconds: float) -> str:
    return f"{microseconds:.2f} us" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


def table(measured: Sequence[Measurement], reference: str = "lmdb", *, markdown: bool = False) -> str:
    """Medians of the time of an operation, and the first engine's speed as a multiple of ``reference``'s."""
    names = list(dict.fromkeys(m.engine for m in measured))
    rows = [["", *names, f"{names[0]} speed, {reference} = 1"]]
    for workload in dict.fromkeys(m.workload for m in measured):
        of = {m.engine: m for m in measured if m.workload == workload}
        medians = [_duration(of[name].median_us) for name in names]
        ratio = f"{of[reference].median_us / of[names[0]].median_us:.3g}" if reference in of else "-"
        rows.append([f"{workload}: {of[names[0]].what}", *medians, ratio])
    if markdown:
        rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  " + "   ".join(cells))
    return "\n".join(lines)
