"""Faults of the storage: each call of a workload fails in turn, once or from then on, or moves too few bytes.

Whatever happens, an engine answers with what is right or with an error of its own; it comes back when the
fault is over, with everything that was acknowledged and nothing that was refused.
"""

import errno
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.examine import Finding, examine
from kvwasi.crashcheck.flusher import Gate
from kvwasi.crashcheck.history import History, UnexpectedContentsError
from kvwasi.crashcheck.names import Named
from kvwasi.crashcheck.newfiles import watch_new_files
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.record import mode_of, repeatable, scratch_directory
from kvwasi.crashcheck.recorder import Fault, Recorder
from kvwasi.crashcheck.run import Run
from kvwasi.crashcheck.steps import Step
from kvwasi.crashcheck.workloads import WORKLOADS, steps_of
from kvwasi.wasi.trace import StorageCall, watch_new_hosts

__all__ = ["FaultPlan", "FaultReport", "FaultRun", "reproduce_fault", "run_faults"]

WORKLOAD = "faults"
STUCK_STEPS = 3
"""So many steps fail of a fault that stays, before it ends."""

_FULL = ("write", "truncate", "allocate", "create", "link", "rename")
_OPERATIONS = ("open", "read", "write", "truncate", "allocate", "flush", "link", "rename", "unlink", "close")
_KINDS: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("EIO once", {"error": errno.EIO}, _OPERATIONS),
    ("EIO from then on", {"error": errno.EIO, "sticky": True}, _OPERATIONS),
    ("ENOSPC once", {"error": errno.ENOSPC}, _FULL),
    ("ENOSPC from then on", {"error": errno.ENOSPC, "sticky": True}, _FULL),
    ("EINTR once", {"error": errno.EINTR}, ("open", "read", "write", "flush", "truncate")),
    ("nothing moved", {"length": 0}, ("write", "read")),
    ("1 byte moved", {"length": 1}, ("write", "read")),
    ("100 bytes moved", {"length": 100}, ("write", "read")),
    ("100 bytes at a time", {"length": 100, "sticky": True}, ("write", "read")),
)


@dataclass(frozen=True)
class FaultPlan(Named):
    """One run with one fault. ``kind``: its name in tables."""

    engine: str
    mode: str
    seed: int
    kind: str
    fault: Fault

    def __str__(self) -> str:
        kind = self.kind.replace(" ", "-")
        return f"fault/{self.engine}/{self.mode}/{self.seed}/{kind}/{self.fault.operation}{self.fault.at}"

    @classmethod
    def parse(cls, text: str) -> "FaultPlan":
        """The inverse of ``str``. Raises ValueError and KeyError."""
        _, engine, mode, seed, kind, call = text.split("/")
        operation = call.rstrip("0123456789")
        how = {name: how for name, how, _ in _KINDS}[kind.replace("-", " ")]
        fault = Fault(operation, int(call[len(operation) :]), **how)
        return cls(engine, mode, int(seed), kind.replace("-", " "), fault)


@dataclass
class FaultReport:
    """What the runs came to, by kind of fault."""

    runs: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Calls that answered with an error of the engine's own."""
    findings: list[tuple[FaultPlan, Finding]] = field(default_factory=list)


class _RefusedError(Exception):
    """The engine did what it must not do in answer to a fault."""


class FaultRun(Run):
    """A run that goes on while calls fail."""

    stuck = 0

    def finding(self, seed: int) -> Finding | None:
        """Run all steps; what was wrong with an answer."""
        try:
            self.all_steps(seed)
        except UnexpectedContentsError as error:
            return Finding("contents", str(error))
        except _RefusedError as error:
            return Finding("engine", str(error))
        except Exception as error:
            return Finding("error", f"{type(error).__name__}: {error}")
        return None

    def all_steps(self, seed: int) -> None:
        self.tracing()
        for step in [*steps_of(self.workload, seed), Step("close")]:
            self.one_step(step)
        self.close(Step("close"))

    def one_step(self, step: Step) -> None:
        """A step that may fail. A full disk changes nothing, and needs no opening again."""
        before = self.history.last()
        try:
            self.carry_out(step)
            return
        except self.engine.errors() as error:
            name = type(error).__name__
            self.errors.append(f"{step.verb}: {name}: {error}")
            if name == "EngineError":
                raise _RefusedError(f"{step.verb}: {error}") from error
        self.stuck += 1
        if self.stuck >= STUCK_STEPS:
            self.heal()
        if name == "DiskFullError" and self._database is not None:
            self._nothing_changed(before)
            return
        try:
            self._open_again()
        except self.engine.errors():
            self.heal()
            self._open_again()

    def _nothing_changed(self, before: int) -> None:
        last = self.history.last()
        if last != before:
            self.history.add(self.history.difference(last, before))
        contents = dict(self.database.scan())
        wrong = self.history.wrong(contents, ((self.history.last(), self.history.last()),))
        if wrong:
            raise UnexpectedContentsError(f"after a full disk: {wrong}")


def plans(engine: str, mode: str, seed: int, counts: Counter[str]) -> list[FaultPlan]:
    """Each call of each operation, with each fault that it can have. ``counts``: how many calls there are."""
    return [
        FaultPlan(engine, mode, seed, kind, Fault(operation, at, **how))
        for kind, how, operations in _KINDS
        if engine == "kvwasi" or "error" in how  # the preloaded library makes no short transfers
        for operation in operations
        for at in range(counts[operation])
    ]


def _also(call: StorageCall) -> list[str]:
    """Under which other names of operations a call counts."""
    names = ("flush", "create")
    return [name for name in names if Fault(name, 0).concerns(call)]


def run_one(plan: FaultPlan, directory: str) -> tuple[list[str], Finding | None, Counter[str]]:
    """The errors that calls answered with, what is wrong, and how many calls of each kind there were."""
    if plan.engine != "kvwasi":
        return _run_native(plan, directory)
    engine, mode = ENGINES[plan.engine], mode_of(plan.engine, plan.mode)
    counts: Counter[str] = Counter()
    gate = Gate()
    recorder = Recorder(directory, plan.fault, gate)
    recorder.on_call = lambda call: counts.update([call.operation, *_also(call)])
    run = FaultRun(engine, mode, directory, WORKLOADS[WORKLOAD], recorder.mark, gate=gate, heal=recorder.heal)
    with repeatable(plan.seed), watch_new_hosts(recorder), watch_new_files(recorder):
        finding = run.finding(plan.seed)
    recorder.close()
    return run.errors, finding or _afterwards(plan, run.history, directory), counts


def _afterwards(plan: FaultPlan, history: History, directory: str) -> Finding | None:
    """The fault is over, the database closed: everything must be as after the last commit."""
    last = history.last()
    engine, mode = ENGINES[plan.engine], mode_of(plan.engine, plan.mode)
    return examine(engine, mode, directory, history, ((last, last),))


def _run_native(plan: FaultPlan, directory: str) -> tuple[list[str], Finding | None, Counter[str]]:
    """:func:`run_one` for an engine whose calls the preloaded library fails."""
    from kvwasi.crashcheck import preload

    history, errors, finding, calls = preload.run_fault(
        plan.engine, plan.mode, WORKLOAD, plan.seed, directory, plan.fault
    )
    return errors, finding or _afterwards(plan, history, directory), Counter(calls)


def run_faults(engine: str, mode: str, seed: int, share: float = 1.0) -> FaultReport:
    """Run a workload once for each call and fault; ``share``: only such a part of them, evenly spread."""
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        never = FaultPlan(engine, mode, seed, "none", Fault("none", -1))
        todo: list[FaultPlan] = []

        def count(task: int, report: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
            report(run_one(never, place))

        for _, result in run_tasks(1, count):
            if isinstance(result, Lost) or result[1] is not None:
                raise RuntimeError(f"the workload fails without a fault: {result}")
            todo = plans(engine, mode, seed, result[2])
    todo = [plan for number, plan in enumerate(todo) if int(number * share) != int((number + 1) * share)]
    return _run_each(todo)


def reproduce_fault(text: str) -> Finding | None:
    """Run one fault again, by its name. Raises ValueError and KeyError for what is no such name."""
    findings = _run_each([FaultPlan.parse(text)]).findings
    return findings[0][1] if findings else None


def _run_each(todo: list[FaultPlan]) -> FaultReport:
    outcome = FaultReport()

    def work(task: int, report: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
        with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
            errors, finding, _ = run_one(todo[task], place)
        report((len(errors), finding))

    for task, result in run_tasks(len(todo), work):
        plan = todo[task]
        outcome.runs[plan.kind] += 1
        if isinstance(result, Lost):
            outcome.findings.append((plan, Finding("signal", f"ended by {result.why}")))
            continue
        count, finding = result
        outcome.errors[plan.kind] += count
        if finding is not None:
            outcome.findings.append((plan, finding))
    return outcome
