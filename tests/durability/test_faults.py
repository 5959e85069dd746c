"""Each call fails in turn (a sample here, all of them in ``make crashtest``), and files are damaged."""

import pytest

from kvwasi.crashcheck.damage import run_damage
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.faults import FaultPlan, reproduce_fault, run_faults

SEED = 1


@pytest.mark.parametrize("mode", [mode.name for mode in ENGINES["kvwasi"].modes])
def test_calls_that_fail(mode: str) -> None:
    report = run_faults("kvwasi", mode, SEED, share=0.08)
    assert report.runs.total() > 30
    assert report.errors.total() > 10
    found = [(plan.command, what) for plan, what in report.findings]
    assert not found, found


def test_a_full_directory_while_compacting() -> None:
    assert reproduce_fault("fault/kvwasi/commit/1/ENOSPC-once/rename0") is None


def test_faults_have_names() -> None:
    name = "fault/kvwasi/commit/1/EIO-from-then-on/write3"
    assert str(FaultPlan.parse(name)) == name
    assert FaultPlan.parse(name).fault.sticky


def test_lmdb_with_calls_that_fail() -> None:
    pytest.importorskip("lmdb")
    report = run_faults("lmdb", "default", SEED, share=0.03)
    assert report.runs.total() > 3
    assert report.errors.total() > 0


def test_damaged_files() -> None:
    report = run_damage("kvwasi", SEED, share=0.005)
    assert len(report.outcomes) > 8
    assert report.wrong == 0, report.failures
    assert sum(counter["error"] for counter in report.outcomes.values()) > 150


def test_damage_would_be_noticed() -> None:
    pytest.importorskip("lmdb")
    report = run_damage("lmdb", SEED, share=0.005)
    assert report.wrong > 0  # it has no checksums
    assert len(report.failures) == report.wrong
