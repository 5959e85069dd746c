"""Running a workload on an engine, and keeping its history beside its trace."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kvwasi.crashcheck.engines import Database, Engine, Mode
from kvwasi.crashcheck.flusher import Flusher, Gate
from kvwasi.crashcheck.history import Change, History, UnexpectedContentsError, is_table
from kvwasi.crashcheck.steps import Step, Workload
from kvwasi.crashcheck.workloads import steps_of

__all__ = ["Run"]

MARK = Callable[[str, int, int], None]


@dataclass
class Run:
    """A workload that is carried out. Its verbs are the methods without arguments but a :class:`Step`.

    Attributes:
        mark: puts a mark into the trace.
        tracing: is called when the preparation is over.
        gate: where other threads' flushes wait; None: there are none.
        heal: ends the faults; called after the first failure.
    """

    engine: Engine
    mode: Mode
    directory: str
    workload: Workload
    mark: MARK
    tracing: Callable[[], None] = lambda: None
    gate: Gate | None = None
    heal: Callable[[], None] = lambda: None
    history: History = field(init=False)
    errors: list[str] = field(default_factory=list)
    """What calls of the engine raised."""
    _database: Database | None = None
    _flusher: Flusher | None = None
    _last_backup: int | None = None
    """After which commit it was made."""
    _threads: list[threading.Thread] = field(default_factory=list)
    _returned: list[tuple[int, int]] = field(default_factory=list)
    """Lane and number of commits of threads that have returned, and are not promised yet."""

    def __post_init__(self) -> None:
        self.history = History(self.workload.lanes)
        if self.gate is not None and not self.mode.sync:
            timed = self.mode.name == "interval"
            self._flusher = Flusher(self.gate, timed=timed, begins=self._all_last, ended=self._promise_each)

    @property
    def database(self) -> Database:
        """The database; opened if it is not."""
        if self._database is None:
            self._database = self.engine.open(self.directory, self.mode)
        return self._database

    def all_steps(self, seed: int) -> None:
        """From the first step to the close; a failure is followed by closing and opening again."""
        steps = steps_of(self.workload, seed)
        if not any(step.verb == "trace" for step in steps):
            self.tracing()
        for step in [*steps, Step("close")]:
            try:
                self.carry_out(step)
            except self.engine.errors() as error:
                self.errors.append(f"{step.verb}: {type(error).__name__}: {error}")
                self.heal()
                self._open_again()

    def carry_out(self, step: Step) -> None:
        """A step, and what the flusher does after it."""
        getattr(self, step.verb)(step)
        if self._flusher is not None and self._database is not None:
            self._flusher.look(self._store)

    @property
    def _store(self) -> Any:
        """The engine's own object for the open database."""
        return getattr(self.database, "store")  # noqa: B009

    # verbs

    def trace(self, step: Step) -> None:
        """The preparation ends here; all of it is durable."""
        self.database.sync()
        self._promise(self.history.last())
        self.tracing()
        self.mark("durable", self.history.last(), 0)

    def commit(self, step: Step, durable: bool = False) -> None:
        """One transaction."""
        database = self.database
        changes = self._with_what_is_dropped(step)
        number = self.history.add(changes, step.lane)
        self.mark("begun", number, step.lane)
        if step.do is not None:
            database.act(step.do)
        else:
            database.commit(changes, durable=durable)
        if durable:
            self._promise(number, step.lane)
        elif self.mode.sync:
            self._promise(number - self.mode.lag, step.lane)

    def _with_what_is_dropped(self, step: Step) -> Sequence[Change]:
        """A table that is dropped takes all of its entries along.

        After a failure that has brought older contents back, it has others than the workload thinks.
        """
        dropped = tuple(key + b"/" for key, value in step.changes if value is None and is_table(key))
        if not dropped:
            return step.changes
        there = {key for key in self.history.latest(step.lane) if key.startswith(dropped)}
        others = sorted(there.difference(key for key, _ in step.changes))
        return [*step.changes, *((key, None) for key in others)]

    def act(self, step: Step) -> None:
        """Something that commits nothing."""
        assert step.do is not None
        self.database.act(step.do)

    def backup(self, step: Step) -> None:
        """Copy the open database into a file of its own."""
        self._back_up(None)

    def increment(self, step: Step) -> None:
        """Copy what has changed since the last copy that there is."""
        self._back_up(self._last_backup)

    def _back_up(self, since: int | None) -> None:
        last = self.history.last()
        if last == since:
            return
        if self.database.backup(self.directory, last, since):
            self._last_backup = last
            self.history.copies.append(last)

    def repair(self, step: Step) -> None:
        """Repair the closed database into a new file."""
        self.close(step)
        self.engine.repair(self.directory, self.history.last())
        self.history.copies.append(self.history.last())

    def durable_commit(self, step: Step) -> None:
        """One that is durable in every mode."""
        self.commit(step, durable=True)

    def roll_back(self, step: Step) -> None:
        """A transaction that is given up."""
        self.database.roll_back(step.changes)

    def sync(self, step: Step) -> None:
        """Make all durable: by the call, or (with a flusher) by waiting for it."""
        if self._flusher is not None and self.mode.name == "interval":
            self._flusher.flush_all(self._store)
        else:
            self.database.sync()
        self._promise_all()

    def compact(self, step: Step) -> None:
        """Compact it. What a compacted database holds was flushed before it replaced the other."""
        self.database.compact()

    def reopen(self, step: Step) -> None:
        """Close it and open it again."""
        self.close(step)
        assert self.database

    def close(self, step: Step) -> None:
        """Close it, which makes all durable."""
        database, self._database = self._database, None
        if database is None:
            return
        try:
            database.close()
        finally:
            self._end_flusher()
        if self.mode.promised:
            self._promise_all()

    def commit_in_thread(self, step: Step) -> None:
        """A commit that waits for its flush in a thread, while the next one is begun."""
        database = self.database
        number = self.history.add(step.changes, step.lane)
        self.mark("begun", number, step.lane)

        def work() -> None:
            database.commit(step.changes)
            self._returned.append((step.lane, number))

        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()
        Gate.wait_until(lambda: self._unfinished() <= self._waiting())

    def _unfinished(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def _waiting(self) -> int:
        """Threads that have written, and whose flush, or that of another, waits at the gate."""
        if not self.mode.sync:
            return 0
        assert self.gate is not None
        return self.gate.waiting + int(self._store._session.flush_waiters)

    def join_threads(self, step: Step) -> None:
        """Let the flushes go, one after the other, and wait for all threads."""
        gate = self.gate
        assert gate is not None
        while unfinished := self._unfinished():
            gate.let_one_pass()
            Gate.wait_until(
                lambda before=unfinished: (  # type: ignore[misc]
                    self._unfinished() < before and (gate.waiting > 0 or self._unfinished() == 0)
                )
            )
            self._promise_returned()
        self._promise_returned()
        self._threads.clear()

    def _promise_returned(self) -> None:
        """In the order of the lanes: one flush may have been for several, which return in any order."""
        returned, self._returned = sorted(self._returned), []
        for lane, number in returned:
            if self.mode.sync:
                self._promise(number, lane)

    # what is promised

    def _promise(self, number: int, lane: int = 0) -> None:
        if number > 0:
            self.mark("durable", number, lane)

    def _promise_all(self) -> None:
        self._promise_each(self._all_last())

    def _all_last(self) -> Sequence[int]:
        """The last commit of each lane."""
        return [self.history.last(lane) for lane in range(self.workload.lanes)]

    def _promise_each(self, numbers: Sequence[int]) -> None:
        for lane, number in enumerate(numbers):
            self._promise(number, lane)

    def _end_flusher(self) -> None:
        """The database is closed; a flush that was under way ends with it, well or not."""
        if self._flusher is not None:
            with suppress(*self.engine.errors()):
                self._flusher.finish()

    # after a failure

    def _open_again(self) -> None:
        """What an opening shows is a promise: from then on it must survive."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(*self.engine.errors()):
                database.close()
            self._end_flusher()
        contents = dict(self.database.scan())
        last = self.history.last()
        found = self.history.find(contents, ((max(0, last - 1), last),))
        if found is None:
            lowest = 0 if not self.mode.sync else max(0, last - 1 - self.mode.lag)
            found = self.history.find(contents, ((lowest, last),))
        if found is None:
            raise UnexpectedContentsError(self.history.wrong(contents, ((max(0, last - 1), last),)))
        if found[0] != last:
            last = self.history.add(self.history.difference(last, found[0]))
            self.mark("begun", last, 0)
        if self.mode.sync and not self.mode.lag:
            self._promise(last)
