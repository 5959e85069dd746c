"""The thread that writes: what many tasks want to change goes through one queue, as few commits as may be.

What waits in the queue when a commit begins becomes that commit, so that a hundred tasks share one flush. A
transaction that a task holds open over several awaits has the thread to itself until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvwasi.errors import ClosedError

if TYPE_CHECKING:
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

_JOBS_A_COMMIT = 1000
Change = Callable[["Transaction"], Any]


class Answer:
    """A future that another thread settles, once for all that wait in one loop at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """In the loop's thread. One that was cancelled meanwhile stays so."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


Outcome = tuple[Answer, Any, "BaseException | None"]


def settle(outcomes: list[Outcome]) -> None:
    """Tell the loops, each once. A loop that is closed has nobody who waits."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, some in by_loop.items():

        def tell(some: list[Outcome] = some) -> None:
            for answer, value, error in some:
                answer.settle(value, error)

        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)


@dataclass
class Job:
    """One change that is a commit, or a part of one."""

    answer: Answer | None
    change: Change | None
    """None: the store is to be closed."""


class Lease:
    """A transaction that stays open between awaits. Its jobs have their own queue; KEEP or DROP ends it."""

    KEEP, DROP = "keep", "drop"

    def __init__(self, **options: Any) -> None:
        self.answer = Answer()
        self.options = options
        self.jobs: queue.SimpleQueue[tuple[Answer | None, Change | str]] = queue.SimpleQueue()
        self._guard = threading.RLock()  # a finalizer may come in between
        self._ended = False

    def _put(self, answer: Answer | None, change: Change | str) -> bool:
        with self._guard:
            if self._ended:
                return False
            self._ended = isinstance(change, str)
            self.jobs.put((answer, change))
            return True

    def submit(self, change: Change | str) -> asyncio.Future[Any]:
        """What is to be done in it, or its end. Raises ClosedError: that has come already."""
        answer = Answer()
        if not self._put(answer, change):
            raise ClosedError("the transaction has ended")
        return answer.future

    def leave(self, change: Change | str) -> None:
        """The same for nobody who waits; nothing if it has ended."""
        self._put(None, change)


class Lane:
    """The writing thread of a store, from the first job to :meth:`close`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[Job | Lease] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="kvwasi-aio", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    def _put(self, job: Job | Lease) -> None:
        with self._guard:
            if self._closed:
                raise ClosedError("the store is closed")
            self._queue.put(job)

    def submit(self, change: Change) -> asyncio.Future[Any]:
        """A change that is done, with others, in a commit; settled when that has returned."""
        answer = Answer()
        self._put(Job(answer, change))
        return answer.future

    def lease(self, **options: Any) -> Lease:
        """A transaction of its own; the lease's answer is settled when it is open."""
        lease = Lease(**options)
        self._put(lease)
        return lease

    def close(self) -> asyncio.Future[Any] | None:
        """Take nothing more, do what waits, close the store. None: that was done before."""
        with self._guard:
            if self._closed:
                return None
            self._closed = True
            answer = Answer()
            self._queue.put(Job(answer, None))
        return answer.future

    def abandon(self) -> None:
        """The same for a store that was dropped."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._queue.put(Job(None, None))
        warnings.warn(f"unclosed kvwasi store {self._store.path!r}", ResourceWarning, stacklevel=2)

    # --- in the thread ---

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            batch: list[tuple[Answer, Change]] = []
            for job in self._waiting(first):
                if isinstance(job, Lease):
                    self._commit(batch)
                    batch = []
                    self._hold(job)
                elif job.change is None:
                    self._commit(batch)
                    self._end(job)
                    return
                elif job.answer is not None:
                    batch.append((job.answer, job.change))
            self._commit(batch)

    def _waiting(self, first: Job | Lease) -> Iterator[Job | Lease]:
        """The first job, and what has come meanwhile."""
        yield first
        with contextlib.suppress(queue.Empty):
            for _ in range(_JOBS_A_COMMIT - 1):
                yield self._queue.get_nowait()

    def _commit(self, batch: list[tuple[Answer, Change]]) -> None:
        """Do all of them in one transaction; one that fails leaves the others as they are."""
        batch = [job for job in batch if not job[0].future.cancelled()]
        if not batch:
            return
        outcomes: list[Outcome] = []
        try:
            with self._store.transaction() as transaction:
                outcomes = [_do(transaction, *job) for job in batch]
        except BaseException as error:
            outcomes = [(answer, None, error) for answer, _ in batch]
        settle(outcomes)

    def _hold(self, lease: Lease) -> None:
        """Do a lease's jobs until it ends."""
        try:
            transaction = self._store.transaction(**lease.options)
        except BaseException as error:
            settle([(lease.answer, None, error)])
            return
        settle([(lease.answer, None, None)])
        while True:
            answer, change = lease.jobs.get()
            value: Any = None
            failure: BaseException | None = None
            try:
                if change is Lease.KEEP:
                    transaction.commit()
                elif change is Lease.DROP:
                    if transaction.active:
                        transaction.rollback()
                elif answer is None or not answer.future.cancelled():
                    assert callable(change)
                    value = change(transaction)
            except BaseException as error:
                failure = error
            if answer is not None:
                settle([(answer, value, failure)])
            if isinstance(change, str):
                return

    def _end(self, job: Job) -> None:
        failure: BaseException | None = None
        try:
            self._store.close()
        except BaseException as error:
            failure = error
        if job.answer is not None:
            settle([(job.answer, None, failure)])


def _do(transaction: Transaction, answer: Answer, change: Change) -> Outcome:
    """One job of a commit. What it began and did not finish is undone."""
    point = transaction.savepoint()
    try:
        value = change(transaction)
    except Exception as error:
        if not transaction.active:
            raise
        point.rollback()
        return answer, None, error
    point.release()
    return answer, value, None


__all__ = ["Change", "Lane", "Lease"]
