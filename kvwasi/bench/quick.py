"""The benchmark of the command: about a minute on the user's own machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvwasi.bench import harness, peers, plot, tables
from kvwasi.bench.engines import Engine
from kvwasi.bench.harness import Measurement, Report
from kvwasi.bench.workloads import STORE, Life, numbered, put_threads

KEYS, TURNS = 100_000, 3
THREADS, THREAD_OPERATIONS = 8, 1000
USUAL = ("kvwasi", "lmdb", "sqlite3")


@dataclass(frozen=True)
class Plan:
    """What is going to be measured. ``missing`` are engines of the usual ones that are not installed."""

    engines: Sequence[type[Engine]]
    keys: int
    turns: int
    missing: Sequence[str]

    @property
    def lives(self) -> list[Life]:
        return [*STORE, put_threads(THREADS, THREAD_OPERATIONS)]

    @property
    def reports(self) -> int:
        """How often the run tells that a part is done."""
        return len(self.lives) * self.turns * len(self.engines)

    @property
    def reference(self) -> str | None:
        """The engine whose speed is 1."""
        names = [engine.name for engine in self.engines if engine.name != "kvwasi"]
        return "lmdb" if "lmdb" in names else names[0] if names else None


def plan(names: Sequence[str] = (), keys: int = KEYS, turns: int = TURNS) -> Plan:
    """Choose the engines; without ``names`` the usual ones that are installed.

    Raises:
        LookupError: one of ``names`` is unknown or not installed; the message says what to do.
    """
    installed = peers.installed()
    for name in names:
        if name not in peers.ENGINES:
            raise LookupError(f"{name} is none of {', '.join(peers.ENGINES)}")
        if name not in installed:
            raise LookupError(f"{name} is not installed: pip install {peers.package_of(name)}")
    chosen = list(dict.fromkeys(("kvwasi", *names))) if names else [n for n in USUAL if n in installed]
    missing = [name for name in USUAL if name not in installed and not names]
    return Plan([peers.ENGINES[name] for name in chosen], keys, turns, missing)


def run(plan: Plan, directory: Path, report: Report) -> dict[str, Any]:
    """Measure, below ``directory``, and give everything back as the JSON document that the command prints.

    Raises:
        harness.WrongResultError: an engine read back something else than was put.
    """
    data = numbered(plan.keys)
    found = harness.compare(data, plan.engines, plan.lives, plan.turns, directory, report)
    facts = harness.environment(directory, plan.engines)
    facts["method"] = harness.method(found)
    return harness.as_json(data.name, found, facts)


def table(plan: Plan, document: dict[str, Any]) -> str:
    """The table for a terminal, what is lost said below it."""
    found = harness.from_json(document)
    lines = [document["title"], tables.plain(tables.rows(found, plan.reference or ""))]
    if plan.reference:
        lost = _lost(found, plan.reference)
        lines.append(
            f"  above 1 kvwasi is faster; slower than {plan.reference}: {', '.join(lost) or 'nowhere'}"
        )
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in document["environment"].items()]
    return "\n".join(lines) + "\n"


def _lost(found: Sequence[Measurement], reference: str) -> list[str]:
    of = {(m.workload, m.engine): m for m in found}
    ratios = {
        m.workload: tables.ratio(m, of.get((m.workload, reference))) for m in found if m.engine == "kvwasi"
    }
    return [
        f"{name} ({tables.times(value)})" for name, value in ratios.items() if value is not None and value < 1
    ]


def chart(plan: Plan, document: dict[str, Any]) -> str:
    """The same as SVG."""
    found = harness.from_json(document)
    facts = document["environment"]
    note = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
    if plan.reference is None:
        groups = [(m.workload, {m.engine: m.median}) for m in found]
        return plot.bars(document["title"], groups, axis="us an operation", note=note)
    return plot.against(document["title"], found, note, plan.reference)
