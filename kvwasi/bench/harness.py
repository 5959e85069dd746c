"""Measure: engines take turns within one run, and what they read is compared by hash."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import platform
import shutil
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvwasi.bench.engines import Engine, Model
from kvwasi.bench.workloads import Dataset, Life, Step, flat

Report = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """One workload on one engine: a figure for each turn, such as microseconds an operation."""

    workload: str
    what: str
    engine: str
    operations: int
    turns: list[float]
    unit: str = "us"

    @property
    def median(self) -> float:
        return statistics.median(self.turns)

    @property
    def spread(self) -> float:
        """Half of the range of the turns, as a part of the median."""
        return (max(self.turns) - min(self.turns)) / 2 / self.median if self.median else 0.0


class WrongResultError(Exception):
    """An engine read back something else than what was put."""


def digest(parts: Iterable[bytes | None]) -> str:
    """One hash of byte strings in their order; None is told from the empty one."""
    running, rest = hashlib.blake2b(digest_size=16), iter(parts)
    while batch := list(itertools.islice(rest, 20_000)):
        running.update(array("q", [-1 if part is None else len(part) for part in batch]).tobytes())
        running.update(b"".join([part or b"" for part in batch]))
    return running.hexdigest()


class Expected:
    """What each step must read: a dictionary's answers, by the share of the operations that is done."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._digests: dict[tuple[str, int], list[str]] = {}

    def of(self, life: Life, share: int) -> list[str]:
        """Digests of the steps of ``life``, and of the content at its end."""
        if (life.name, share) not in self._digests:
            model = type("Model", (Model,), {"share": share})()
            self._digests[life.name, share] = [seen for _, _, seen in live(model, life, self._data)]
        return self._digests[life.name, share]


def live(engine: Engine, life: Life, data: Dataset) -> Iterator[tuple[float, int, str]]:
    """Figure, operations and digest of each step; last the digest of the whole content, with no figure."""
    for step in life.steps:
        yield _run(engine, step, data)
    yield 0.0, 0, digest(flat(engine.scan()))


def _run(engine: Engine, step: Step, data: Dataset) -> tuple[float, int, str]:
    """No operations: the engine has no such thing."""
    if step.prepare is not None:
        step.prepare(engine, data)
    if not isinstance(engine, Model):
        gc.collect()
        os.sync()  # what another engine wrote is not to be flushed within this one's time
    start = time.perf_counter()
    try:
        result = step.run(engine, data)
    except NotImplementedError:
        return 0.0, 0, ""
    seconds = time.perf_counter() - start
    figure = seconds / result.operations * 1e6 if result.figure is None else result.figure
    return figure, result.operations, digest(result.read)


def compare(
    data: Dataset,
    engines: Sequence[type[Engine]],
    lives: Sequence[Life],
    turns: int,
    directory: Path,
    report: Report = lambda done: None,
    once: Collection[str] = (),
) -> list[Measurement]:
    """Let each engine live each life ``turns`` times, in turn, somewhere below ``directory``.

    Steps whose name is in brackets prepare others and are not reported. ``report`` is told what ended. The
    engines named in ``once`` take the first turn only.

    Raises:
        WrongResultError: an engine answered otherwise than a dictionary.
    """
    expected = Expected(data)
    measured: list[Measurement] = []
    for life in lives:
        times: dict[tuple[str, str], list[float]] = {}
        operations: dict[tuple[str, str], int] = {}
        for turn in range(turns):
            for engine in engines if turn % 2 == 0 else reversed(engines):
                if turn and engine.name in once:
                    continue
                for step, figure, count in _turn(engine, life, data, expected, directory):
                    times.setdefault((step.name, engine.name), []).append(figure)
                    operations[step.name, engine.name] = count
                report(f"{life.name} {engine.name}")
        measured += [
            Measurement(step.name, step.what, engine.name, operations[at], times[at], step.unit)
            for step in life.steps
            for engine in engines
            if not step.name.startswith("(") and (at := (step.name, engine.name)) in times
        ]
    return measured


def _turn(
    engine: type[Engine], life: Life, data: Dataset, expected: Expected, directory: Path
) -> Iterator[tuple[Step, float, int]]:
    wanted = expected.of(life, engine.share)
    place = Path(tempfile.mkdtemp(prefix="kvwasi-bench-", dir=directory))
    try:
        opened = engine(place)
        try:
            for (figure, count, seen), right, step in itertools.zip_longest(
                live(opened, life, data), wanted, life.steps
            ):
                if step is not None and count == 0:
                    continue  # the engine has no such thing
                if seen != right and engine.checked:
                    name = step.name if step else "the content at the end"
                    raise WrongResultError(f"{engine.name}, {life.name}, {name}: read {seen}, not {right}")
                if step is not None:
                    yield step, figure, count
        finally:
            opened.close()
    finally:
        shutil.rmtree(place)


# --- what a result depends on ---


def environment(directory: Path, engines: Sequence[type[Engine]]) -> dict[str, str]:
    """Versions, machine and file system."""
    return {
        "engines": "; ".join(engine.version() for engine in engines),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
        "file_system": _file_system(directory),
        "load": f"{os.getloadavg()[1]:.1f} at the end (the run itself is 1; more is other work, and noise)",
    }


def _processor() -> str:
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
                break
    except OSError:
        pass
    return f"{os.cpu_count()} x {model}"


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


def method(measured: Sequence[Measurement]) -> str:
    """How figures were taken."""
    turns = max(len(m.turns) for m in measured)
    if turns == 1:
        return "one turn of each engine: no more than a glance"
    fewer = dict.fromkeys(m.engine for m in measured if len(m.turns) == 1)
    alone = f"; of {', '.join(fewer)} one turn" if fewer else ""
    return f"median of {turns} turns, engines in turn, half the range behind ±{alone}"


def as_json(title: str, measured: Sequence[Measurement], facts: Mapping[str, str]) -> dict[str, Any]:
    """Everything of a run."""
    return {
        "title": title,
        "environment": dict(facts),
        "measurements": [asdict(measurement) for measurement in measured],
    }


def from_json(document: Mapping[str, Any]) -> list[Measurement]:
    """The measurements of :func:`as_json`."""
    return [Measurement(**fields) for fields in document["measurements"]]
