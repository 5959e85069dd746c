"""The flusher thread of a store, and those of threads that commit together, at the same moments each time.

A recording has to be the same for the same seed on every machine, however its threads are scheduled. So its
stores have no flusher of their own (:func:`kvwasi.engine._engine.make_repeatable`): :class:`Flusher` calls
what that would call, in a thread that waits at a :class:`Gate` with its flush begun, while commits go on.
"""

import threading
from collections.abc import Callable
from math import inf
from typing import Any

__all__ = ["Flusher", "Gate"]

HELD_STEPS = 7
"""So many steps of the workload a flush is under way, if nobody waits for it."""
POLL_S = 0.0005
PATIENCE_S = 60.0
"""After which a thread that neither comes nor ends is an error of the suite."""


class Gate:
    """Where flushes of other threads than the workload's own wait to be let pass; it is open at first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits = inf
        self._waiting = 0
        self.needed: Callable[[], bool] = lambda: False
        """Whether the workload itself waits for a flush: then they pass."""

    def enter(self) -> None:
        """Wait to be let pass."""
        with self._changed:
            self._waiting += 1
            while not (self._permits or self.needed()):
                self._changed.wait(POLL_S)
            self._waiting -= 1
            self._permits = max(self._permits - 1, 0)

    def open(self) -> None:
        """Let all pass from now on."""
        self._permit(inf)

    def shut(self) -> None:
        """Let none pass from now on."""
        self._permit(0)

    def let_one_pass(self) -> None:
        """Let one pass, now or when it comes."""
        self._permit(1)

    def _permit(self, permits: float) -> None:
        with self._changed:
            self._permits = permits
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> None:
        """For what other threads bring about. Raises TimeoutError."""
        for _ in range(int(PATIENCE_S / POLL_S)):
            if condition():
                return
            threading.Event().wait(POLL_S)
        raise TimeoutError("a thread of the workload stands still")


class Flusher:
    """What flushes a store whose commits do not.

    Args:
        gate: where its flushes wait.
        timed: it flushes whenever there is something to flush, not only when the engine wishes it.
        begins: is called when a flush begins; what it returns, ``ended`` gets once the flush has succeeded.
    """

    def __init__(
        self, gate: Gate, *, timed: bool, begins: Callable[[], Any], ended: Callable[[Any], None]
    ) -> None:
        self._gate, self._timed, self._begins, self._ended = gate, timed, begins, ended
        self._thread: threading.Thread | None = None
        self._covered: Any = None
        self._error: Exception | None = None
        self._steps = 0

    def look(self, store: Any) -> None:
        """After each step: begin a flush if one is due, end it if it has been under way for long.

        Raises the error of a flush that has failed.
        """
        session = store._session
        self._gate.needed = lambda: session.flush_waiters > 0
        if self._thread is not None:
            self._steps += 1
            if self._steps >= HELD_STEPS or self._gate.waiting == 0:  # or the workload has waited for it
                self.finish()
        if self._thread is None and (session.take_flush_wish() or (self._timed and _is_behind(store))):
            self._begin(session)

    def flush_all(self, store: Any) -> None:
        """Wait until it has flushed everything. Raises the error of a flush that has failed."""
        self.finish()
        while _is_behind(store):
            self._begin(store._session)
            self.finish()

    def finish(self) -> None:
        """Wait for the flush that is under way. Raises its error."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._gate.open()
        thread.join()
        self._gate.shut()
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._ended(self._covered)

    def _begin(self, session: Any) -> None:
        def work() -> None:
            try:
                session.sync()
            except Exception as error:
                self._error = error

        self._covered, self._steps = self._begins(), 0
        thread = self._thread = threading.Thread(target=work)
        thread.start()
        Gate.wait_until(lambda: self._gate.waiting > 0 or not thread.is_alive())


def _is_behind(store: Any) -> bool:
    stats = store.stats()
    return bool(stats.durable_position < stats.end_position)
