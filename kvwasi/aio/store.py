"""Stores, transactions and snapshots for asyncio."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kvwasi import opening
from kvwasi.aio.lane import Lane, Lease
from kvwasi.aio.tables import ChangingParts, Parts
from kvwasi.errors import ClosedError

if TYPE_CHECKING:
    from kvwasi.backup import Backup
    from kvwasi.savepoint import Savepoint
    from kvwasi.snapshot import Snapshot
    from kvwasi.store import Stats, Store, StrPath, SyncMode
    from kvwasi.transaction import Transaction

T = TypeVar("T")
_READERS = 4  # threads


def open(path: StrPath, flag: opening.Flag = "c", **options: Any) -> _Opening:
    """Open a database: ``async with aio.open(path) as store``, or ``store = await aio.open(path)``.

    Arguments and errors are those of :func:`kvwasi.open`.
    """
    return _Opening(path, flag, options)


class _Opening:
    """An opening that is still to be awaited."""

    def __init__(self, path: StrPath, flag: opening.Flag, options: dict[str, Any]) -> None:
        self._arguments = path, flag
        self._options = options
        self._store: AsyncStore | None = None

    def __await__(self) -> Generator[Any, None, AsyncStore]:
        return self._open().__await__()

    async def _open(self) -> AsyncStore:
        loop = asyncio.get_running_loop()
        opened = loop.run_in_executor(None, lambda: opening.open(*self._arguments, **self._options))
        try:
            return AsyncStore(await asyncio.shield(opened))
        except asyncio.CancelledError:
            opened.add_done_callback(_close_opened)  # nobody else would
            raise

    async def __aenter__(self) -> AsyncStore:
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._store is not None
        await self._store.close()


def _close_opened(opened: asyncio.Future[Store]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


class AsyncSnapshot(Parts):
    """One moment of a store; made by :meth:`AsyncStore.snapshot`, for ``async with``."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._snapshot: Snapshot | None = None

    async def _read(self, do: Callable[[Any], T]) -> T:
        if self._snapshot is None:
            raise ClosedError("the snapshot is not open: use it with `async with`")
        return await self._store._read(lambda _: do(self._snapshot))

    async def __aenter__(self) -> Self:
        self._snapshot = await self._store._read(lambda store: store.snapshot())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._snapshot is not None:
            self._snapshot.close()  # waits for nothing


class AsyncTransaction(ChangingParts):
    """Several changes that happen together or not at all; made by :meth:`AsyncStore.transaction`.

    It is open within ``async with``, and commits at its end, or rolls back when the block raises or is
    cancelled. One is open at a time: others, and writes of the store itself, wait for it.
    """

    def __init__(self, store: AsyncStore, options: dict[str, Any]) -> None:
        self._store = store
        self._options = options
        self._lease: Lease | None = None

    def _open_lease(self) -> Lease:
        if self._lease is None:
            raise ClosedError("the transaction is not open: use it with `async with`")
        return self._lease

    async def _write(self, do: Callable[[Any], T]) -> T:
        found: T = await self._open_lease().submit(do)
        return found

    _read = _write

    def savepoint(self) -> AsyncSavepoint:
        """A transaction within this one, for ``async with``."""
        return AsyncSavepoint(self)

    async def __aenter__(self) -> Self:
        lease = self._store._lane.lease(**self._options)
        try:
            await asyncio.shield(lease.answer.future)
        except asyncio.CancelledError:
            lease.leave(Lease.DROP)  # when it comes to it
            raise
        self._lease = lease
        weakref.finalize(self, lease.leave, Lease.DROP).atexit = False  # of one that is never left
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        assert lease is not None
        await asyncio.shield(lease.submit(Lease.KEEP if kind is None else Lease.DROP))


class AsyncSavepoint:
    """A part of a transaction that can be undone; made by :meth:`AsyncTransaction.savepoint`.

    It begins and ends with ``async with``; what the block did is undone when it raises or is cancelled.
    Savepoints nest: of several tasks in one transaction, each has to end before those that began before it,
    else the end of its block raises ClosedError.
    """

    def __init__(self, transaction: AsyncTransaction) -> None:
        self._transaction = transaction
        self._lease: Lease | None = None
        self._point: Savepoint | None = None
        self._ended = False

    def _begin(self, transaction: Transaction) -> None:
        self._point = transaction.savepoint()

    def _end(self, keep: bool) -> None:
        """In the transaction's thread; it may have been cancelled before it began."""
        if self._point is None:
            return
        if keep:
            self._point.release()
        else:
            self._point.rollback()
        self._ended = True

    def _leave(self, keep: bool) -> None:
        """The same at the end of the block, before which it may have ended."""
        if not self._ended:
            self._end(keep)

    async def _wholly(self, do: Callable[[Transaction], object]) -> None:
        """Call ``do`` even if whoever waits for it is cancelled."""
        if self._lease is None:
            raise ClosedError("the savepoint is not open: use it with `async with`")
        await asyncio.shield(self._lease.submit(do))

    async def rollback(self) -> None:
        """Undo what was done since. The transaction goes on.

        Raises:
            ClosedError: it has ended already.
        """
        await self._wholly(lambda _: self._end(False))

    async def release(self) -> None:
        """Keep what was done since: it is the transaction's own, or the next outer savepoint's.

        Raises:
            ClosedError: it has ended already.
        """
        await self._wholly(lambda _: self._end(True))

    async def __aenter__(self) -> Self:
        self._lease = self._transaction._open_lease()
        try:
            await self._wholly(self._begin)
        except asyncio.CancelledError:
            self._lease.leave(lambda _: self._end(True))  # nothing was done in it
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._wholly(lambda _: self._leave(kind is None))
        except ClosedError:
            if self._transaction._lease is None and kind is not None:
                return  # all of it is undone or kept: the block's own error counts
            raise


class AsyncStore(ChangingParts):
    """An open database for tasks of any event loops; made by :func:`open`.

    Writes of many tasks become one commit as long as they wait for each other's flush: each returns when its
    own is on disk. Reads are made by a few threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lane = Lane(store)
        self._pool = ThreadPoolExecutor(_READERS, "kvwasi-aio-read")
        weakref.finalize(self, self._lane.abandon).atexit = False

    async def _read(self, do: Callable[[Any], T]) -> T:
        if self._lane.closed:
            raise ClosedError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, do, self._store)

    async def _beside(self, do: Callable[[Store], T]) -> T:
        """Call ``do``, which takes long or waits for writers, in a thread that no reader needs."""
        if self._lane.closed:
            raise ClosedError("the store is closed")
        return await asyncio.to_thread(do, self._store)

    async def _write(self, do: Callable[[Any], T]) -> T:
        found: T = await self._lane.submit(do)
        return found

    @property
    def store(self) -> Store:
        """The plain store. Its calls wait where they are made."""
        return self._store

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._lane.closed

    def __repr__(self) -> str:
        return f"<kvwasi.aio.AsyncStore of {self._store!r}>"

    def transaction(self, *, sync: SyncMode | None = None) -> AsyncTransaction:
        """A transaction, for ``async with``; see :meth:`kvwasi.Store.transaction`."""
        return AsyncTransaction(self, {"sync": sync})

    def snapshot(self) -> AsyncSnapshot:
        """The store at one moment, for ``async with``."""
        return AsyncSnapshot(self)

    async def reset_to_defaults(self) -> None:
        """Replace the store's own entries by the defaults, see :meth:`kvwasi.Store.reset_to_defaults`."""
        await self._write(self._store._reset_to_defaults)

    async def sync(self) -> None:
        """Make everything that has been committed durable."""
        await self._read(lambda store: store.sync())

    async def refresh(self) -> bool:
        """Of one that is open to be read: show what was committed since, see :meth:`kvwasi.Store.refresh`."""
        return await self._read(lambda store: store.refresh())

    async def stats(self) -> Stats:
        """Sizes and counts."""
        return await self._read(lambda store: store.stats())

    async def check(self) -> list[Any]:
        """Read everything and compare it with its checksums, see :meth:`kvwasi.Store.check`."""
        return await self._beside(lambda store: store.check())

    async def compact(self) -> None:
        """Give dead space back; reads go on."""
        await self._beside(lambda store: store.compact())

    async def backup(
        self, path: StrPath, *, since: StrPath | Backup | None = None, overwrite: bool = False
    ) -> Backup:
        """Copy the store into a new database while tasks go on."""
        return await self._beside(lambda store: store.backup(path, since=since, overwrite=overwrite))

    async def close(self) -> None:
        """Do what waits, sync and close. A second call does nothing."""
        closing = self._lane.close()
        if closing is not None:
            await asyncio.shield(closing)
            self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


__all__ = ["AsyncSavepoint", "AsyncSnapshot", "AsyncStore", "AsyncTransaction", "open"]
