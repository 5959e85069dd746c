"""Recording: a workload runs in a process of its own, and its trace and its history come back."""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvwasi.crashcheck.engines import ENGINES, Mode
from kvwasi.crashcheck.flusher import Gate
from kvwasi.crashcheck.history import History
from kvwasi.crashcheck.newfiles import watch_new_files
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.recorder import Fault, Recorder
from kvwasi.crashcheck.run import Run
from kvwasi.crashcheck.trace import Trace
from kvwasi.crashcheck.workloads import WORKLOADS
from kvwasi.engine import _engine
from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict, watch_new_hosts

__all__ = ["Recording", "RecordingError", "mode_of", "record", "record_here", "repeatable"]


class RecordingError(Exception):
    """The workload itself failed, without any power cut: a finding of its own."""


@dataclass
class Recording:
    """What was made: the trace, the history that its marks count, and the errors that calls raised."""

    trace: Trace
    history: History
    errors: list[str]


def mode_of(engine: str, name: str) -> Mode:
    """A mode by its name. Raises KeyError."""
    return {mode.name: mode for mode in ENGINES[engine].modes}[name]


def record(
    engine: str, mode: str, workload: str, seed: int, directory: str, fault: Fault | None = None
) -> Recording:
    """Run a workload in the empty ``directory`` and record it; the trace is the real files, byte for byte.

    Raises RecordingError.
    """
    if engine != "kvwasi":
        from kvwasi.crashcheck import preload

        return preload.record(engine, mode, workload, seed, directory, fault)

    def work(task: int, report: Callable[[Any], None], place: Callable[[int], None]) -> None:
        try:
            done = record_here(mode, workload, seed, directory, fault)
            report(pickle.dumps((done.trace.encode(), done.history, done.errors)))
        except Exception as error:
            report(f"{type(error).__name__}: {error}")

    for _, result in run_tasks(1, work):
        if isinstance(result, bytes):
            encoded, history, errors = pickle.loads(result)
            return Recording(Trace.decode(encoded), history, errors)
        raise RecordingError(f"ended by {result.why}" if isinstance(result, Lost) else result)
    raise RecordingError("nothing was reported")


class _Later:
    """A watcher that lets all pass until its recorder is there."""

    recorder: Recorder | None = None

    def before(self, call: StorageCall) -> Verdict:
        return self.recorder.before(call) if self.recorder else GO_ON

    def after(self, result: Result) -> None:
        if self.recorder:
            self.recorder.after(result)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within, stores are the same, byte for byte, if the same is done: their salts come from ``seed``."""
    _engine.make_repeatable((seed << 20) + 1)
    try:
        yield
    finally:
        _engine.make_repeatable(0)


def record_here(mode: str, workload: str, seed: int, directory: str, fault: Fault | None = None) -> Recording:
    """:func:`record` for this package's store, in this process."""
    engine, later = ENGINES["kvwasi"], _Later()
    gate = Gate()
    gate.shut()

    def tracing() -> None:
        later.recorder = Recorder(directory, fault, gate)

    def mark(kind: str, number: int, lane: int) -> None:
        if later.recorder:
            later.recorder.mark(kind, number, lane)

    def heal() -> None:
        if later.recorder:
            later.recorder.heal()

    plan, how = WORKLOADS[workload], mode_of("kvwasi", mode)
    run = Run(engine, how, directory, plan, mark, tracing, gate, heal)
    with repeatable(seed), watch_new_hosts(later), watch_new_files(later):
        run.all_steps(seed)
    assert later.recorder is not None
    later.recorder.close()
    later.recorder.trace.verify(directory, [name for name in os.listdir(directory) if name.endswith("-lock")])
    return Recording(later.recorder.trace, run.history, run.errors)


def scratch_directory() -> str | None:
    """Where states are written: memory, if there is a file system of that kind. For :mod:`tempfile`."""
    return "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None
