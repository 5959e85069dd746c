"""Traces of engines that are no guests of our host: a library before their C library writes down the calls.

The library is compiled from ``preload.c`` when it is needed; the workload runs in a process of its own, which
is this module as a program.
"""

import ctypes
import functools
import importlib.resources
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.examine import Finding
from kvwasi.crashcheck.faults import FaultRun
from kvwasi.crashcheck.history import History
from kvwasi.crashcheck.record import Recording, RecordingError, mode_of
from kvwasi.crashcheck.recorder import Fault
from kvwasi.crashcheck.run import Run
from kvwasi.crashcheck.trace import Trace
from kvwasi.crashcheck.workloads import WORKLOADS

__all__ = ["NoCompilerError", "library", "record", "run_fault"]

OPERATIONS = {"none": 0, "any": 1, "flush": 2, "write": 3, "truncate": 4, "open": 5, "read": 6}
TIMEOUT_S = 120


class NoCompilerError(RuntimeError):
    """There is no C compiler, or it does not compile the library."""


@functools.cache
def library() -> str:
    """The path of the compiled library; it is there as long as this process.

    Raises NoCompilerError.
    """
    place = _place()
    source = Path(place.name) / "preload.c"
    source.write_bytes((importlib.resources.files("kvwasi.crashcheck") / "preload.c").read_bytes())
    target = str(source.with_suffix(".so"))
    failure = "no C compiler is installed (pip install ziglang brings one)"
    for compiler in _compilers():
        command = [*compiler, "-shared", "-fPIC", "-O1", "-o", target, str(source), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return target
        failure = done.stderr.strip()
    raise NoCompilerError(failure)


@functools.cache
def _place() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="kvwasi-preload-")


def _compilers() -> list[list[str]]:
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    found = [name.split() for name in names if name and shutil.which(name.split()[0])]
    return [*found, [sys.executable, "-m", "ziglang", "cc"]]


def record(
    engine: str, mode: str, workload: str, seed: int, directory: str, fault: Fault | None = None
) -> Recording:
    """As :func:`kvwasi.crashcheck.record.record`."""
    with tempfile.TemporaryDirectory() as place:
        trace, result = Path(place) / "trace", Path(place) / "result"
        arguments = [engine, mode, workload, str(seed), directory, str(trace), str(result)]
        done = _run("record", arguments + (_words(fault) if fault else []))
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [""]
            raise RecordingError(f"exit code {done.returncode}: {lines[-1]}")
        history, errors = pickle.loads(result.read_bytes())
        recording = Recording(Trace.decode(trace.read_bytes()), history, errors)
    recording.trace.verify(directory, ENGINES[engine].others)
    return recording


def run_fault(
    engine: str, mode: str, workload: str, seed: int, directory: str, fault: Fault
) -> tuple[History, list[str], Finding | None, dict[str, int]]:
    """Run a workload with a fault: its history, the errors that calls answered with, what is wrong.

    And, for a fault that never comes, how many calls of each operation there were.
    """
    with tempfile.TemporaryDirectory() as place:
        result = Path(place) / "result"
        arguments = [engine, mode, workload, str(seed), directory, os.path.join(place, "trace"), str(result)]
        done = _run("fault", [*arguments, *_words(fault)])
        if done.returncode:
            why = signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr.strip()[-200:]
            return History(), [], Finding("signal", f"ended by {why}"), {}
        found: tuple[History, list[str], Finding | None, dict[str, int]] = pickle.loads(result.read_bytes())
        return found


def _words(fault: Fault) -> list[str]:
    return [fault.operation, str(fault.at), str(fault.error), str(int(fault.sticky))]


def _run(verb: str, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """This module as a program, under the preloaded library."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "kvwasi.crashcheck.preload", verb, *arguments],
        env={**os.environ, "LD_PRELOAD": library()},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


class Capture:
    """The preloaded library, from the process that it is in."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def begin(self, directory: str, trace: str) -> None:
        """From now on what happens to the files of ``directory`` is written to ``trace``."""
        error = self._library.kvwasi_trace_begin(os.fsencode(directory), os.fsencode(trace))
        if error:
            raise OSError(error, os.strerror(error), trace)

    def mark(self, kind: str, number: int, lane: int) -> None:
        """A mark of the workload."""
        self._library.kvwasi_trace_mark(kind == "durable", lane, number)

    def fail(self, fault: Fault) -> None:
        """Have calls fail."""
        operation = OPERATIONS[fault.operation]
        self._library.kvwasi_trace_fault(operation, fault.at, fault.error, fault.sticky)

    def heal(self) -> None:
        """Have them succeed again."""
        self._library.kvwasi_trace_fault(0, 0, 0, 0)

    def calls(self) -> dict[str, int]:
        """How many calls the fault concerned, or (operation ``none``) each operation."""
        return {name: int(self._library.kvwasi_trace_calls(number)) for name, number in OPERATIONS.items()}

    def end(self) -> None:
        """Close the trace."""
        self._library.kvwasi_trace_end()


def _main(verb: str, arguments: list[str]) -> None:
    engine, mode, workload, seed, directory, trace, result, *fault = arguments
    capture = Capture()
    capture.begin(directory, trace)
    if fault:
        operation, at, error, sticky = fault
        capture.fail(Fault(operation, int(at), int(error), sticky=sticky == "1"))
    kind = FaultRun if verb == "fault" else Run
    plan = WORKLOADS[workload]
    run = kind(ENGINES[engine], mode_of(engine, mode), directory, plan, capture.mark, heal=capture.heal)
    answer: tuple[object, ...]
    if isinstance(run, FaultRun):
        finding = run.finding(int(seed))
        answer = run.history, run.errors, finding, capture.calls()
    else:
        run.all_steps(int(seed))
        answer = run.history, run.errors
    capture.end()
    with open(result, "wb") as stream:
        pickle.dump(answer, stream)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
