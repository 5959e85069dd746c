"""One recording's power cuts: which states, in which order, what became of each."""

import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kvwasi.crashcheck import controls
from kvwasi.crashcheck.disk import Choice, Disk
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.examine import Finding, examine, write_state
from kvwasi.crashcheck.names import Named
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.record import (
    Recording,
    RecordingError,
    mode_of,
    record,
    repeatable,
    scratch_directory,
)
from kvwasi.crashcheck.recorder import Fault, Recorder
from kvwasi.crashcheck.states import choices
from kvwasi.crashcheck.trace import Trace, Window, windows
from kvwasi.crashcheck.workloads import WORKLOADS
from kvwasi.engine._engine import hash64
from kvwasi.wasi.trace import watch_new_hosts

__all__ = ["Outcome", "Plan", "Violation", "reproduce", "run_plan"]

ROUNDS_MAX = 200
SECOND_CUT_SHARE = 1 / 16
SECOND_CUTS_MAX = 12
THIRD_OPENING_SHARE = 1 / 4
"""Of the states; see :func:`.examine.examine`."""


@dataclass(frozen=True)
class Plan:
    """What is recorded, and how many states of it are looked at.

    Attributes:
        flush: the flush that fails in the recording, or -1; ``reverted``: see :class:`.recorder.Fault`.
        control: a planted bug of :mod:`.controls`.
        states: how many unique states are wanted.
        second: the part of them after whose opening the power goes out again.
    """

    engine: str
    mode: str
    workload: str
    seed: int
    flush: int = -1
    reverted: bool = False
    control: str = ""
    states: int = 1000
    second: float = SECOND_CUT_SHARE

    def __str__(self) -> str:
        flush = f"/{'reverted' if self.reverted else 'flush'}{self.flush}" if self.flush >= 0 else ""
        control = f"/{self.control}" if self.control else ""
        return f"{self.engine}/{self.mode}/{self.workload}/{self.seed}{flush}{control}"

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """The inverse of ``str``, but for ``states``. Raises ValueError."""
        engine, mode, workload, seed, *rest = text.split("/")
        if engine not in ENGINES or workload not in WORKLOADS:
            raise ValueError(f"no engine {engine} or no workload {workload}")
        flush, reverted, control = -1, False, ""
        for part in rest:
            kind = part.rstrip("0123456789")
            if kind in ("flush", "reverted"):
                flush, reverted = int(part[len(kind) :]), kind == "reverted"
            else:
                control = part
        return cls(engine, mode, workload, int(seed), flush, reverted, control)

    @property
    def fault(self) -> Fault | None:
        """What goes wrong in the recording."""
        return Fault("flush", self.flush, error=5, reverted=self.reverted) if self.flush >= 0 else None


@dataclass(frozen=True)
class Violation(Named):
    """A state that is not what was promised. ``choice``: of the power cut, or of two, joined by ``+``."""

    plan: str
    choice: str
    level: str
    kind: str
    what: str
    created: bool
    """Whether the first flush of the whole history had returned by then."""

    @property
    def counted(self) -> bool:
        """Whether it breaks a promise; level L6 is only for information."""
        return not any(cut.startswith("L6") for cut in (self.level, *self.choice.split("+")))

    def __str__(self) -> str:
        return f"{self.plan}:{self.choice}"


@dataclass
class Outcome:
    """What a plan came to. ``states``: unique ones by level; ``second``: of them, second cuts."""

    plan: Plan
    states: Counter[str] = field(default_factory=Counter)
    second: int = 0
    events: int = 0
    flushes: int = 0
    """Of files, in the recording."""
    violations: list[Violation] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def counted_states(self) -> int:
        """Unique states of the levels that count."""
        return self.states.total() - self.states["L6"]


Task = tuple[Choice, Window]


def run_plan(plan: Plan) -> Outcome:
    """Record, choose, examine."""
    outcome = Outcome(plan)
    began, cpu = time.perf_counter(), _cpu_s()
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        try:
            recording = _recorded(plan, place)
        except RecordingError as error:
            outcome.violations.append(Violation(str(plan), "", "run", "run", str(error), True))
            return outcome
    outcome.errors = recording.errors
    outcome.events = len(recording.trace.events)
    outcome.flushes = sum(event.kind == "sync" for event in recording.trace.events)
    tasks = _chosen(recording, plan)
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        _examine_all(plan, recording, tasks, place, outcome)
    outcome.wall_s, outcome.cpu_s = time.perf_counter() - began, _cpu_s() - cpu
    return outcome


def _cpu_s() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _recorded(plan: Plan, place: str) -> Recording:
    recording = record(plan.engine, plan.mode, plan.workload, plan.seed, place, plan.fault)
    if plan.control:
        recording.trace = controls.TRACE_CONTROLS[plan.control](recording.trace, plan.seed)
    return recording


def _level(plan: Plan) -> str:
    return "L7" if plan.flush >= 0 else ""


def _points(trace: Trace, plan: Plan) -> Callable[[int], bool]:
    """Whether a power cut after this event tells something new."""
    failed = next((n for n, event in enumerate(trace.events) if event.error), len(trace.events))
    start = failed if plan.flush >= 0 else 0
    return lambda at: at > start and trace.events[at - 1].kind not in ("base", "begun")


def _enumerated(recording: Recording, plan: Plan, rounds: int) -> list[Task]:
    """All choices; some lead to the same state."""
    trace = recording.trace
    allowed = windows(trace, recording.history.lanes)
    wanted = _points(trace, plan)
    disk, tasks = Disk(trace), list[Task]()
    while disk.step():
        if wanted(disk.at):
            its_choices = choices(disk, f"{plan.seed}/{plan.workload}", rounds, _level(plan))
            tasks += [(choice, allowed[disk.at - 1]) for choice in its_choices]
    return tasks


def _unique(trace: Trace, tasks: Iterable[Task], known: dict[Choice, object]) -> list[Task]:
    """Those whose state and window no earlier one has. ``tasks``: in the order of the events.

    ``known``: identities that were worked out before; more are added.
    """
    disk, seen, unique = Disk(trace), set[object](), list[Task]()
    for choice, window in tasks:
        if choice not in known:
            while disk.at < choice.event:
                disk.step()
            known[choice] = disk.build(choice).identity()
        identity = known[choice], window
        if identity not in seen:
            seen.add(identity)
            unique.append((choice, window))
    return unique


def _chosen(recording: Recording, plan: Plan) -> list[Task]:
    """As many unique states as the plan wants, if there are."""
    rounds, before = 1, -1
    known: dict[Choice, object] = {}
    while True:
        tasks = _enumerated(recording, plan, rounds)
        chance = random.Random(f"{plan.seed}/pick")
        order = chance.sample(range(len(tasks)), len(tasks))
        take = plan.states + plan.states // 4
        while True:
            unique = _unique(recording.trace, [tasks[number] for number in sorted(order[:take])], known)
            if len(unique) >= plan.states or take >= len(order):
                break
            take *= 2
        if len(unique) >= plan.states or rounds >= ROUNDS_MAX or len(unique) == before:
            break
        before = len(unique)
        rounds = min(ROUNDS_MAX, 1 + rounds * max(2, plan.states // max(1, len(unique))))
    if len(unique) > plan.states:
        unique = [unique[number] for number in sorted(chance.sample(range(len(unique)), plan.states))]
    return unique


def _examine_all(plan: Plan, recording: Recording, tasks: list[Task], place: str, outcome: Outcome) -> None:
    engine, mode = ENGINES[plan.engine], mode_of(plan.engine, plan.mode)
    first_flush = _first_durable(recording.trace)
    disk = Disk(recording.trace)

    def violation(choice: Choice, second: str, level: str, finding: Finding) -> Violation:
        text = f"{choice}+{second}" if second else str(choice)
        return Violation(str(plan), text, level, finding.kind, finding.what, choice.event > first_flush)

    def work(task: int, report: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
        choice, window = tasks[task]
        while disk.at < choice.event:
            disk.step()
        state = disk.build(choice)
        write_state(state, place)
        third = _share(plan, choice, "third") < THIRD_OPENING_SHARE
        finding = examine(engine, mode, place, recording.history, window, third=third)
        if finding is not None:
            report(violation(choice, "", choice.level, finding))
        elif plan.engine == "kvwasi" and _share(plan, choice, "second") < plan.second:
            write_state(state, place)
            trace, cuts = _second_cuts(plan, recording, window, place, f"{plan.seed}/{choice}")
            second_disk = Disk(trace)
            for number, (second, its_window) in enumerate(cuts):
                place_of(number + 1)
                while second_disk.at < second.event:
                    second_disk.step()
                write_state(second_disk.build(second), place)
                third = _share(plan, second, "third") < THIRD_OPENING_SHARE
                finding = examine(engine, mode, place, recording.history, its_window, third=third)
                report(("second", second.level))
                if finding is not None:
                    report(violation(choice, str(second), second.level, finding))

    def prepare() -> None:
        if plan.engine == "kvwasi":
            from kvwasi.engine import module

            module.ensure_loaded()
        else:  # what its assertions print before they abort the process is told by the signal
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    for task, result in run_tasks(len(tasks), work, prepare=prepare):
        choice = tasks[task][0]
        if isinstance(result, Lost):
            finding = Finding("signal", f"the process that opened it was ended by {result.why}")
            second = f"#{result.detail}" if result.detail else ""
            outcome.violations.append(violation(choice, second, choice.level, finding))
        elif isinstance(result, Violation):
            outcome.violations.append(result)
        else:
            outcome.second += 1
            outcome.states[result[1]] += 1
    outcome.states.update(choice.level for choice, _ in tasks)


def _share(plan: Plan, choice: Choice, what: str) -> float:
    """A number from 0 to 1 that is the same for the same choice."""
    return hash64(f"{plan.seed}/{choice}/{what}".encode()) / 2**64


def _first_durable(trace: Trace) -> int:
    """The event that first promised something: before it, LMDB's file may be none yet."""
    if any(event.kind == "base" for event in trace.events):
        return 0
    for kind in ("sync", "durable"):
        for number, event in enumerate(trace.events):
            if event.kind == kind and not event.error:
                return number
    return len(trace.events)


def _second_cuts(
    plan: Plan, recording: Recording, window: Window, place: str, seed: str
) -> tuple[Trace, list[Task]]:
    """Power cuts while the database in ``place`` is being opened after the first one, and just after.

    They are in the order of their events.
    """
    engine, mode = ENGINES[plan.engine], mode_of(plan.engine, plan.mode)
    recorder = Recorder(place)
    with repeatable(plan.seed), watch_new_hosts(recorder):
        database = engine.open(place, mode)
        answered = len(recorder.trace.events)
        found = recording.history.find(dict(database.scan()), window)
        database.close()
    recorder.close()
    if found is None:
        return recorder.trace, []
    shown = tuple(
        (number if mode.sync else low, number) for number, (low, _) in zip(found, window, strict=True)
    )
    trace, tasks, seen = recorder.trace, list[Task](), set[object]()
    disk = Disk(trace)
    while disk.step():
        if trace.events[disk.at - 1].kind == "base":
            continue
        its_window = shown if disk.at > answered else window
        for choice in choices(disk, seed, 1):
            identity = disk.build(choice).identity(), its_window
            if identity not in seen:
                seen.add(identity)
                tasks.append((choice, its_window))
    if len(tasks) > SECOND_CUTS_MAX:
        numbers = random.Random(seed).sample(range(len(tasks)), SECOND_CUTS_MAX)
        tasks = [tasks[number] for number in sorted(numbers)]
    return trace, tasks


def _state_of(trace: Trace, choice: Choice) -> Any:
    disk = Disk(trace)
    while disk.at < choice.event:
        disk.step()
    return disk.build(choice)


def reproduce(text: str, keep: str | None = None) -> list[Violation]:
    """Build one state again, by the name that a :class:`Violation` gives it, and examine it.

    ``keep``: a directory to leave it in. Raises ValueError for what is no such name.
    """
    name, _, cuts = text.partition(":")
    plan = Plan.parse(name)
    outcome = Outcome(plan)
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        try:
            recording = _recorded(plan, place)
        except RecordingError as error:
            return [Violation(name, "", "run", "run", str(error), True)]
    if not cuts:
        return []
    first, _, second = cuts.partition("+")
    choice = Choice.parse(first)
    window = windows(recording.trace, recording.history.lanes)[choice.event - 1]
    if keep is not None:
        write_state(_state_of(recording.trace, choice), keep)
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
        if not second:
            _examine_all(plan, recording, [(choice, window)], place, outcome)
            return [found for found in outcome.violations if "+" not in found.choice]
        return _reproduce_second(plan, recording, (choice, window), second, place)


def _reproduce_second(
    plan: Plan, recording: Recording, first: Task, second: str, place: str
) -> list[Violation]:
    choice, window = first
    write_state(_state_of(recording.trace, choice), place)
    trace, cuts = _second_cuts(plan, recording, window, place, f"{plan.seed}/{choice}")
    engine, mode = ENGINES[plan.engine], mode_of(plan.engine, plan.mode)
    for cut, its_window in cuts:
        if str(cut) == second or second.startswith("#"):
            write_state(_state_of(trace, cut), place)
            finding = examine(engine, mode, place, recording.history, its_window)
            if finding is not None:
                what = f"{choice}+{cut}"
                return [Violation(str(plan), what, cut.level, finding.kind, finding.what, True)]
    return []
