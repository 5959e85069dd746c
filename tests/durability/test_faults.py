"""Each call fails in turn (a sample here, all of them in ``make crashtest``), and files are damaged."""

import pytest

from kvwasi.crashcheck import damage
from kvwasi.crashcheck.damage import KINDS, Damage, reproduce_damage, run_damage
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.faults import FaultPlan, reproduce_fault, run_faults
from kvwasi.crashcheck.situations import SITUATIONS, reproduce_situation

SEED = 1


@pytest.mark.parametrize("mode", [mode.name for mode in ENGINES["kvwasi"].modes])
def test_calls_that_fail(mode: str) -> None:
    report = run_faults("kvwasi", mode, SEED, share=0.05)
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
    report = run_damage("kvwasi", SEED, share=0.003)
    assert set(report.outcomes) > {kind for kind in KINDS if kind.endswith(("flipped", "short", "crafted"))}
    assert report.wrong == 0, [(one.command, what) for one, what in report.findings]
    assert sum(counter["error"] for counter in report.outcomes.values()) > 150


def test_damage_would_be_noticed() -> None:
    pytest.importorskip("lmdb")
    report = run_damage("lmdb", SEED, share=0.003)
    assert report.wrong > 0  # it has no checksums
    found, what = report.findings[0]
    again = reproduce_damage(str(found))
    assert Damage.parse(str(found)) == found
    assert again.split(":")[0] == what.split(":")[0]


def test_memory_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "MEMORY_MAX", 3 << 20)  # less than any database takes
    report = run_damage("kvwasi", SEED, share=0.0005)
    assert sum(counter["memory"] for counter in report.outcomes.values()) > 0
    assert report.wrong > 0


@pytest.mark.parametrize("where", [146, 147, 148])
def test_a_key_count_that_lies(where: int) -> None:
    """With right checksums it was believed, and ``len`` and ``list`` raised MemoryError and SystemError."""
    assert reproduce_damage(f"damage/kvwasi/tiny/1/superblock-crafted/{where}") == ""


def test_names_of_no_damage() -> None:
    for name in (
        "damage/kvwasi/tiny/1/nothing/3",
        "damage/kvwasi/none/1/bit-flipped/3",
        "damage/kvwasi/tiny",
    ):
        with pytest.raises((ValueError, KeyError)):
            reproduce_damage(name)
    with pytest.raises(ValueError, match="no such place"):
        Damage("kvwasi", "tiny", 1, "bit flipped", 10**9).make(b"")


@pytest.mark.parametrize("name", sorted(SITUATIONS))
def test_situations(name: str) -> None:
    assert reproduce_situation(f"situation/{name}") == ""


@pytest.mark.parametrize("byte", [540674, 540738])
def test_damage_that_changes_what_a_second_look_at_the_headers_shows(byte: int) -> None:
    """As if a writer had just recovered the file; but none has."""
    assert reproduce_damage(f"damage/kvwasi/small/1/byte-changed/{byte}") == ""
