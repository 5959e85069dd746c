"""The bars of the project: what has to hold, which measurement says so, and whether it does."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kvwasi
from kvwasi.bench.harness import Measurement, from_json

PEERS = ("lmdb", "sqlite3", "leveldb", "rocksdb")
# fd_* calls for which wasmtime-py does not leave its thread: there it has only to be no slower than it.
SCALE_KEYS = 10_000_000
ON_THREAD = ("fd_seek", "fd_tell")


class Results:
    """What lies in the directory of results."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def document(self, name: str) -> dict[str, Any]:
        """Raises KeyError when it has not been measured."""
        path = self._directory / f"{name}.json"
        if not path.exists():
            raise KeyError(name)
        return json.loads(path.read_text())  # type: ignore[no-any-return]

    def all(self, suite: str) -> list[Measurement]:
        return from_json(self.document(suite))

    def median(self, suite: str, workload: str, engine: str) -> float:
        """Raises KeyError when it has not been measured."""
        for measurement in self.all(suite):
            if (measurement.workload, measurement.engine) == (workload, engine):
                return measurement.median
        raise KeyError(workload, engine)

    def ratio(self, suite: str, workload: str, other: str = "lmdb") -> float:
        """How much faster kvwasi is than ``other``."""
        return self.median(suite, workload, other) / self.median(suite, workload, "kvwasi")

    def largest(self, metric: str) -> str:
        """The workload of the scale suite with the most keys, such as ``open 10,000,000``."""
        sizes = [m.workload for m in self.all("scale") if m.workload.split()[0] == metric]
        if not sizes:
            raise KeyError(metric)
        return max(sizes, key=lambda name: int(name.split()[1].replace(",", "")))


@dataclass(frozen=True)
class Found:
    """A measured figure; ``value`` is held against what is needed. ``where`` says what it stands for."""

    value: float
    where: str = ""
    smaller: bool = False
    """Taken at a smaller size than the bar is meant for: it may be missed there, but not met."""


@dataclass(frozen=True)
class Bar:
    """``needed`` is the least that is enough, or with ``at_most`` the most that is."""

    what: str
    needed: float
    measure: Callable[[Results], Found]
    unit: str = ""
    at_most: bool = False


@dataclass(frozen=True)
class Verdict:
    """``margin`` is 1 where the bar is met exactly, more where it is more than met; None: not measured."""

    bar: Bar
    found: Found | None

    @property
    def margin(self) -> float | None:
        if self.found is None or not self.found.value:
            return None
        value, needed = self.found.value, self.bar.needed
        return needed / value if self.bar.at_most else value / needed

    @property
    def state(self) -> str:
        """met, missed, not measured, or not at size."""
        if self.found is None or self.margin is None:
            return "not measured"
        if self.margin < 1:
            return "missed"
        return "not at size" if self.found.smaller else "met"


def _store(workload: str, needed: float, what: str) -> Bar:
    return Bar(f"{what}: times LMDB's speed", needed, lambda r: Found(r.ratio("store", workload)))


def _put_threads(count: int, other: str) -> Callable[[Results], Found]:
    return lambda r: Found(r.ratio("threads", f"put-{count}", other))


def _ahead_of_peers(results: Results) -> Found:
    found = {}
    for peer in PEERS:
        try:
            found[peer] = results.ratio("threads", "put-1", peer)
        except KeyError:
            continue
    closest = min(found, key=found.__getitem__)
    return Found(found[closest], f"the closest of {', '.join(found)} is {closest}")


def _scale(metric: str, factor: float) -> Callable[[Results], Found]:
    def measure(results: Results) -> Found:
        workload = results.largest(metric)
        other = ""
        with contextlib.suppress(KeyError):
            other = f"; LMDB {results.median('scale', workload, 'lmdb') * factor:.3g}"
        keys = workload.split()[1]
        smaller = int(keys.replace(",", "")) < SCALE_KEYS
        return Found(results.median("scale", workload, "kvwasi") * factor, f"{keys} keys{other}", smaller)

    return measure


def _pause(results: Results) -> Found:
    """The whole wait counts; beside it what of it was work, and how long an empty loop had to wait."""
    keys = results.largest("pause").split()[1]
    of = {
        m: results.median("scale", f"{m} {keys}", "kvwasi") / 1000 for m in ("pause", "pause-cpu", "jitter")
    }
    where = f"{keys} keys; on the processor {of['pause-cpu']:.3g}, an empty loop {of['jitter']:.3g}"
    return Found(of["pause"], where)


def _guest(results: Results) -> Found:
    """The lowest of the ratios decides, where neither the disk nor starting wasmtime does."""
    ratios = {}
    for m in results.all("store"):
        if m.engine == "guest-native" and m.workload not in ("open", "fillsync"):
            ratios[m.workload] = results.ratio("store", m.workload, "guest-native")
    lowest = min(ratios, key=ratios.__getitem__)
    return Found(
        ratios[lowest], f"{lowest}; the median of {len(ratios)} is {statistics.median(ratios.values()):.2f}"
    )


def _case(host: str) -> Callable[[Results], Found]:
    def measure(results: Results) -> Found:
        for line in results.document("wasi-7973")["lines"]:
            if line["host"] == host and line["flushed"]:
                return Found(line["ratio_to_native"])
        raise KeyError(host)

    return measure


def _median(cell: dict[str, Any] | None) -> float | None:
    """Of a call's samples on one host, in ns; None where it was not measured."""
    return statistics.median(cell["samples"]) if cell else None


def _calls(kind: str, held_against: Callable[[dict[str, Any]], float | None]) -> Callable[[Results], Found]:
    """The call with the lowest ratio decides."""

    def measure(results: Results) -> Found:
        ratios = {}
        for call in results.document("wasi-calls")["calls"]:
            other = held_against(call)
            ours = _median(call["shared"])
            if re.match(kind, call["name"]) and other and ours:
                ratios[call["name"]] = other / ours
        lowest = min(ratios, key=ratios.__getitem__)
        below = sum(ratio < 1 for ratio in ratios.values())
        return Found(ratios[lowest], f"{lowest}, the lowest of {len(ratios)} ({below} below 1)")

    return measure


def _elsewhere(call: dict[str, Any]) -> float | None:
    return None if call["name"].startswith(ON_THREAD) else _median(call["wasmtime_py"])


def cache_mebibytes() -> float:
    """The default bound of the engine's cache; 0 where it has none."""
    parameter = inspect.signature(kvwasi.open).parameters.get("cache_bytes")
    return (parameter.default or 0) / (1 << 20) if parameter else 0.0


BARS = [
    _store("readrandom", 1.7, "random get, a call a key"),
    _store("readrandom-batch", 3, "random get, 1,000 keys a call (getmulti)"),
    _store("readseq", 1.5, "scan in key order"),
    _store("readreverse", 1.5, "scan against key order"),
    _store("fillrandom", 3, "put in random order, one transaction, a call a put"),
    _store("fillbatch", 3, "transactions of 1,000 puts, each on disk"),
    _store("overwrite", 3, "overwrite in random order, one transaction"),
    _store("deleterandom", 3, "delete in random order, one transaction"),
    Bar("synced puts, 1 thread: of a bare pwrite and fdatasync", 0.9, _put_threads(1, "bare-put")),
    Bar("synced puts, 1 thread: times LMDB's speed", 2, _put_threads(1, "lmdb")),
    Bar("synced puts, 1 thread: ahead of every peer", 1, _ahead_of_peers),
    Bar("synced puts, 8 threads: of a bare group commit in C", 0.85, _put_threads(8, "bare-group")),
    Bar("time to open after a clean close", 10, _scale("open", 1e-3), "ms", at_most=True),
    Bar("time to open after a crash", 500, _scale("open-crashed", 1e-3), "ms", at_most=True),
    Bar(
        f"anonymous memory: the cache's bound ({cache_mebibytes():.0f} MiB) and 64 MiB",
        cache_mebibytes() + 64,
        _scale("anonymous", 1),
        "MiB",
        at_most=True,
    ),
    Bar("longest put without sync while space is collected", 10, _pause, "ms", at_most=True),
    Bar("the guest on our host: of the same C as native code, each workload", 0.75, _guest),
    Bar("7973 case, exclusive: times native speed", 4, _case("exclusive")),
    Bar("7973 case, shared: of native speed", 0.95, _case("shared")),
    Bar(
        "every fd_* call, shared: of the native call",
        0.8,
        _calls("fd_", lambda call: _median(call["native"])),
    ),
    Bar(
        "every path_* call, shared: of native C with the same confinement",
        0.8,
        _calls("path_", lambda call: _median(call["confined"]) or _median(call["native"])),
    ),
    Bar(
        "every call that wasmtime-py hands to another thread: times its speed",
        10,
        _calls("fd_|path_", _elsewhere),
    ),
    Bar(
        "every call: not slower than wasmtime-py",
        1,
        _calls("fd_|path_", lambda call: _median(call["wasmtime_py"])),
    ),
    Bar(
        "kvwasi get from a cold shell",
        150,
        lambda r: Found(r.median("cold", "cold-get", "kvwasi")),
        "ms",
        True,
    ),
]


def verdicts(results: Results) -> Iterator[Verdict]:
    """Each bar with what was measured."""
    for bar in BARS:
        try:
            yield Verdict(bar, bar.measure(results))
        except (KeyError, ValueError):  # ValueError: nothing to take the least of
            yield Verdict(bar, None)


def rows(found: list[Verdict]) -> list[list[str]]:
    """A table; the figure in bold, what is missed said as plainly as what is met."""
    lines = [["bar", "needed", "measured", "", "of"]]
    for verdict in found:
        bar, sign = verdict.bar, "<=" if verdict.bar.at_most else ">="
        needed = f"{sign} {bar.needed:g}{' ' * bool(bar.unit)}{bar.unit}"
        if verdict.found is None:
            lines.append([bar.what, needed, "-", "not measured", ""])
            continue
        state = f"**{verdict.state}**" if verdict.state == "missed" else verdict.state
        value = verdict.found.value
        figure = f"**{f'{value:,.0f}' if value >= 100 else f'{value:.3g}'}**{' ' * bool(bar.unit)}{bar.unit}"
        lines.append([bar.what, needed, figure, state, verdict.found.where])
    return lines
