"""Power cuts at every moment of every workload, in a small size; ``make crashtest`` is the large one.

The seed is fixed: the same states on every machine, every time.
"""

import dataclasses
import tempfile
from collections import Counter

import pytest

from kvwasi.crashcheck.campaign import Outcome, Plan, reproduce, run_plan
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.moments import MOMENTS, moments
from kvwasi.crashcheck.record import record, scratch_directory
from kvwasi.crashcheck.recorder import Fault
from kvwasi.crashcheck.states import LEVELS
from kvwasi.crashcheck.suite import HEAVY
from kvwasi.crashcheck.workloads import WORKLOADS

SEED = 11
STATES = 36
MODES = [mode.name for mode in ENGINES["kvwasi"].modes]
OURS = [name for name, workload in WORKLOADS.items() if workload.cut and "kvwasi" in workload.engines]
PLANS = [
    Plan("kvwasi", mode, name, SEED, states=max(8, int(STATES * HEAVY.get(name, 1.0) ** 2)), second=0)
    for number, name in enumerate(OURS)
    for mode in (MODES if name not in HEAVY else [MODES[number % len(MODES)]])
]


def shown(outcome: Outcome) -> str:
    return "\n".join(f"{v.command}\n  {v.kind}: {v.what}" for v in outcome.violations if v.counted)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_disk_opens_with_what_was_promised(plan: Plan) -> None:
    outcome = run_plan(plan)
    assert not shown(outcome), shown(outcome)
    assert outcome.counted_states > plan.states / 2
    assert outcome.errors == []


def test_the_workloads_cross_every_dangerous_moment() -> None:
    found: Counter[str] = Counter()
    for name in ("large", "collect", "sweep", "checkpoints", "reopening", "copies", "compaction"):
        with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
            found += moments(record("kvwasi", "commit", name, SEED, place).trace)
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        found += moments(record("kvwasi", "commit", "mixed", SEED, place, Fault("flush", 3, error=5)).trace)
    assert set(found) == set(MOMENTS)


@pytest.mark.parametrize("flush", [0, 2, 5])
@pytest.mark.parametrize("workload", ["mixed", "large", "compaction"])
def test_a_flush_that_fails(workload: str, flush: int) -> None:
    plan = Plan("kvwasi", MODES[flush % 3], workload, SEED, flush, flush == 5, states=60, second=0)
    outcome = run_plan(plan)
    assert not shown(outcome), shown(outcome)
    assert set(outcome.states) == {"L7"}
    assert len(outcome.errors) == 1


def test_a_table_that_is_dropped_after_a_failure_brought_entries_back() -> None:
    """They go with it, whether the workload knows of them or not."""
    assert reproduce("kvwasi/interval/tables/1/reverted4:L7.e76.m3") == []


def test_a_second_power_cut_before_the_first_commit() -> None:
    assert reproduce("kvwasi/commit/mixed/1:L3.e54.m0.0r55969+L2.e6.m2") == []


def test_power_cuts_while_recovering() -> None:
    outcome = run_plan(Plan("kvwasi", "commit", "mixed", SEED, states=30, second=0.5))
    assert outcome.second > 30
    assert not shown(outcome), shown(outcome)


def test_a_name_that_was_not_flushed() -> None:
    plan = Plan("kvwasi", "commit", "large", SEED, flush=1, states=60, second=0)
    outcome = run_plan(plan)
    assert not shown(outcome), shown(outcome)


def test_the_same_seed_is_the_same_result() -> None:
    plan = Plan("kvwasi", "interval", "mixed", SEED, states=50)
    outcomes = [run_plan(plan) for _ in range(2)]
    assert (outcomes[0].states, outcomes[0].second) == (outcomes[1].states, outcomes[1].second)
    assert outcomes[0].events == outcomes[1].events
    other = run_plan(dataclasses.replace(plan, seed=SEED + 1))
    assert other.events != outcomes[0].events or other.states != outcomes[0].states


def recorded(mode: str, workload: str, fault: Fault | None = None) -> bytes:
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        made = record("kvwasi", mode, workload, SEED, place, fault)
    if workload == "copies":  # a backup has a random name, and the path of the one that it continues
        return repr([(one.kind, one.file, one.offset, len(one.data)) for one in made.trace.events]).encode()
    return made.trace.encode() + bytes(len(made.errors))


@pytest.mark.parametrize("mode", MODES)
def test_recordings_are_the_same_byte_for_byte(mode: str) -> None:
    different = [name for name in OURS if recorded(mode, name) != recorded(mode, name)]
    assert not different


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workload", ["mixed", "tables", "compaction"])
def test_a_run_with_a_failing_flush_is_the_same_each_time(mode: str, workload: str) -> None:
    fault = Fault("flush", 3, error=5)
    first = recorded(mode, workload, fault)
    assert first == recorded(mode, workload, fault) != recorded(mode, workload)


def test_all_levels_are_reached() -> None:
    outcome = run_plan(Plan("kvwasi", "none", "compaction", SEED, states=400, second=0))
    assert set(outcome.states) == set(LEVELS) - {"L7"}
    assert not shown(outcome), shown(outcome)


def test_a_violation_is_reproduced_by_its_name() -> None:
    outcome = run_plan(Plan("kvwasi", "commit", "mixed", SEED, control="no-flush", states=60, second=0))
    violation = next(found for found in outcome.violations if found.counted)
    again = reproduce(f"{violation.plan}:{violation.choice}")
    assert [(found.kind, found.level) for found in again] == [(violation.kind, violation.level)]
