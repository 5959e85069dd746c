"""The recording of LMDB, and what is known of it: the other side of the comparison."""

import tempfile
from pathlib import Path

import pytest

from kvwasi.crashcheck.campaign import Plan, run_plan
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.record import record

pytest.importorskip("lmdb")
SEED = 5
MODES = [mode.name for mode in ENGINES["lmdb"].modes]


@pytest.mark.parametrize("mode", MODES)
def test_the_recording_is_what_happened(mode: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        trace = record("lmdb", mode, "large", SEED, place).trace  # compares it with the file
    kinds = {event.kind for event in trace.events}
    assert {"create", "write", "begun", "durable", "sync"} <= kinds
    synchronous = sum(event.kind == "sync_write" for event in trace.events)
    assert (synchronous > 0) == mode.startswith("default")
    if mode == "writemap":  # its meta pages are flushed by their own
        assert any(event.data for event in trace.events if event.kind == "sync")


def test_a_source_tree_in_the_current_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kvwasi").mkdir()
    (tmp_path / "kvwasi" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "db").mkdir()
    monkeypatch.chdir(tmp_path)
    assert record("lmdb", "default", "single", SEED, str(tmp_path / "db")).trace.events


def test_recordings_are_the_same() -> None:
    traces = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as place:
            events = record("lmdb", "default", "mixed", SEED, place).trace.events
        traces.append([(event.kind, event.offset, len(event.data)) for event in events])
    assert traces[0] == traces[1]


@pytest.mark.parametrize("mode", MODES)
def test_what_lmdb_promises_it_keeps_once_it_is_created(mode: str) -> None:
    """Of level L5 it keeps nothing: it never flushes the directory. Without sync it promises nothing."""
    outcome = run_plan(Plan("lmdb", mode, "single", SEED, states=400))
    wrong = [found for found in outcome.violations if found.created and found.level not in ("L5", "L6")]
    if mode == "nosync":
        assert len(wrong) > outcome.counted_states / 10
    else:
        assert not wrong, wrong[0].command
    assert any(not found.created for found in outcome.violations)
