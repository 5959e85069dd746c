"""The whole suite: every workload in every mode of an engine, until enough states were looked at."""

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

from kvwasi.crashcheck.campaign import Outcome, Plan, run_plan
from kvwasi.crashcheck.damage import DamageReport, run_damage
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.faults import FaultReport, run_faults
from kvwasi.crashcheck.situations import run_situations
from kvwasi.crashcheck.workloads import WORKLOADS

__all__ = ["Others", "run_others", "run_suite"]

FAILED_FLUSH_SHARE = 0.2
FAILED_FLUSH_WORKLOADS = ("single", "mixed", "large", "groups", "compaction", "reopening", "tables", "copies")
FAILED_FLUSH_STATES = 200
"""Of one recording in which a flush fails."""
PASSES_MAX = 12
HEAVY = {"bulk": 0.15, "checkpoints": 0.5, "copies": 0.15, "views": 0.5}
"""Workloads whose states take long get fewer."""


@dataclass
class Others:
    """What is not power cuts."""

    share: float
    faults: dict[tuple[str, str], FaultReport] = field(default_factory=dict)
    """By engine and mode."""
    damage: dict[str, DamageReport] = field(default_factory=dict)
    """By engine."""
    situations: list[tuple[str, str]] = field(default_factory=list)
    """Name, and what was wrong."""

    def failures(self, engine: str) -> list[tuple[str, str]]:
        """The name by which it is reproduced, and what was wrong."""
        found = [
            (str(plan), f"{finding.kind}: {finding.what}")
            for (name, _), report in self.faults.items()
            if name == engine
            for plan, finding in report.findings
        ]
        if engine in self.damage:
            found += [(str(damage), what) for damage, what in self.damage[engine].findings]
        if engine == "kvwasi":
            found += [(f"situation/{name}", what) for name, what in self.situations if what]
        return found


def run_others(
    engines: Sequence[str], parts: Iterable[str], seed: int, share: float, jobs: int = 1
) -> Others:
    """Faults, damage and situations; ``share``: of the places for them such a part."""
    parts, others = set(parts), Others(share)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as executor:
        faults, damage = {}, {}
        for engine in engines:
            for mode in ENGINES[engine].modes if "faults" in parts else ():
                faults[engine, mode.name] = executor.submit(run_faults, engine, mode.name, seed, share)
            if "damage" in parts:
                damage[engine] = [
                    executor.submit(run_damage, engine, seed, share, piece, jobs) for piece in range(jobs)
                ]
        others.faults = {key: future.result() for key, future in faults.items()}
        for engine, futures in damage.items():
            others.damage[engine] = DamageReport(engine)
            for future in futures:
                others.damage[engine].add(future.result())
    if "situations" in parts and "kvwasi" in engines:
        others.situations = run_situations()
    return others


Progress = Callable[[int, int], None]


def run_suite(
    engines: Sequence[str],
    states: int,
    seed: int,
    *,
    jobs: int = 1,
    progress: Progress = lambda done, of: None,
) -> list[Outcome]:
    """At least ``states`` unique states for each engine, if its workloads have as many.

    The same for the same arguments, but for ``jobs`` and the times. ``progress``: states done, of how many.
    """
    if "lmdb" in engines:
        from kvwasi.crashcheck import preload

        preload.library()
    outcomes: list[Outcome] = []

    def ran(plans: Iterable[Plan]) -> Iterator[Outcome]:
        for outcome in _run_all(list(plans), jobs):
            outcomes.append(outcome)
            progress(sum(done.counted_states for done in outcomes), states * len(engines))
            yield outcome

    for engine in engines:
        missing = states
        for turn in range(PASSES_MAX):
            plain = list(ran(_plain(engine, missing * (1 - FAILED_FLUSH_SHARE), seed + turn)))
            failing = list(ran(_failing(plain, missing * FAILED_FLUSH_SHARE, seed + turn)))
            missing -= sum(outcome.counted_states for outcome in (*plain, *failing))
            if missing <= 0 or not any(outcome.counted_states for outcome in plain):
                break
    return outcomes


def _plain(engine: str, states: float, seed: int) -> list[Plan]:
    """Every workload in every mode."""
    workloads = [workload for workload in WORKLOADS.values() if workload.cut and engine in workload.engines]
    pairs = [(mode.name, workload.name) for mode in ENGINES[engine].modes for workload in workloads]
    weight = sum(HEAVY.get(workload, 1.0) for _, workload in pairs)
    return [
        Plan(engine, mode, workload, seed, states=1 + int(states * HEAVY.get(workload, 1.0) / weight))
        for mode, workload in pairs
    ]


def _failing(done: Sequence[Outcome], states: float, seed: int) -> list[Plan]:
    """The same recordings with one flush that fails, spread over all flushes there are."""
    bases = [one for one in done if one.plan.workload in FAILED_FLUSH_WORKLOADS and one.flushes]
    each = max(1, round(states / FAILED_FLUSH_STATES / max(1, len(bases))))
    plans = []
    for outcome in bases:
        chance = random.Random(f"{outcome.plan}/flushes")
        flushes = chance.sample(range(outcome.flushes), min(each, outcome.flushes))
        size = min(FAILED_FLUSH_STATES, 1 + int(states / len(bases) / len(flushes)))
        for flush in sorted(flushes):
            reverted = outcome.plan.engine == "kvwasi" and chance.random() < 1 / 3
            plans.append(replace(outcome.plan, flush=flush, reverted=reverted, states=size))
    return plans


def _run_all(plans: Sequence[Plan], jobs: int) -> Iterator[Outcome]:
    """In order, ``jobs`` at a time."""
    if jobs == 1:
        yield from map(run_plan, plans)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as executor:
        yield from executor.map(run_plan, plans)
