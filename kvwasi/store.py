"""The store, and what ends with it."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

from kvwasi import defaults as _defaults
from kvwasi.duplicates import DuplicatesTable
from kvwasi.engine import _engine
from kvwasi.errors import KvError, ReadOnlyError
from kvwasi.expiring import ExpiringTable
from kvwasi.names import check_kinds, names_of_kind, public_name, table_names
from kvwasi.ranges import Data, OrderedEntries
from kvwasi.snapshot import Snapshot
from kvwasi.table import Table
from kvwasi.transaction import Transaction

if TYPE_CHECKING:
    from kvwasi.backup import Backup
    from kvwasi.series import Retention, Series
    from kvwasi.wasi.filelock import FileLock

StrPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
SyncMode: TypeAlias = Literal["commit", "interval", "none"]

SYNC_MODES = ("commit", "interval", "none")


@dataclass(frozen=True, slots=True)
class Stats:
    """What :meth:`Store.stats` tells. Sizes are in bytes."""

    keys: int
    file_bytes: int
    live_bytes: int
    """Of records that the store's present state refers to."""
    sectors: int
    sector_bytes: int
    commits: int
    """Number of the last commit since the database was made."""
    durable_position: int
    """The end of what a flush has covered, in the log."""
    end_position: int
    index_nodes: int
    """Of 4096 bytes."""
    index_height: int
    memory_bytes: int
    """Of the engine, beside its code."""
    recovered_commits: int
    """Taken over by this opening after an unclean stop."""
    discarded_bytes: int
    """Of an unfinished write that this opening found at the end of the log."""
    cursors: int
    """Unfinished iterators."""
    erase_max: int
    """The most that any sector has been reused."""
    format_version: int
    snapshots: int
    """Open ones."""
    cached_nodes: int
    """Of the index, in memory."""
    changed_nodes: int
    """Of those, the ones that the file does not have yet."""
    node_loads: int
    """Nodes read from the file since opening."""
    tail_bytes: int
    """Of the log behind the newest checkpoint: what opening would have to replay after a crash."""
    tail_records: int
    checkpoint: int
    """Number of the newest checkpoint."""
    cache_bytes: int
    """The limit of the memory for the index."""
    erases: int
    """How often a sector was used again, over all of them."""
    sectors_free: int
    pinned_bytes: int
    """Of sectors without live data that an old snapshot, checkpoint or reader still needs."""
    database_id: int
    """Random; drawn when the file was made, by :func:`kvwasi.open` or by a compaction."""
    generation: int
    """What is stored from now on lies in sectors of this generation or a later one."""
    snapshot_age_seconds: float
    """Of the oldest open snapshot; 0 if there is none."""
    kept_checkpoints: int
    """Older checkpoints on which readers in other processes stand: what they show is not used again."""
    reader_age_seconds: float
    """How long the oldest of those has been kept; 0 if there is none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that :meth:`Store.check` found to be damaged."""

    offset: int
    """In the file, in bytes."""
    kind: str
    """``superblock``, ``sector``, ``record``, ``value``, ``truncated`` or ``index``."""
    key: bytes
    """The beginning of the key it concerns, at most 48 bytes; empty if none."""


class Handle:
    """The session and the lock of a store, and their end. Known to the process until then."""

    open: dict[int, Handle] = {}  # noqa: RUF012  (of the process, on purpose)

    def __init__(self) -> None:
        self.lock: FileLock | None = None
        self.session: _engine.Session | None = None
        self.store: weakref.ref[Store] | None = None
        self.closing = threading.Lock()
        self.identity: tuple[int, int] | None = None  # of the file, as its path named it before it was opened
        self.open[id(self)] = self

    def reopen(self) -> None:
        """In a child process, when a store is used there that the parent had opened to read."""
        from kvwasi import opening

        with self.closing:
            session = self.session
            if session is None or not session.inherited:
                return
            lock = opening.acquire(session.path, "r")
            try:
                self.identity = lock.identity
                opening.beside_writer(lock, session.revive)
            except BaseException:
                lock.release()
                raise
            self.lock = lock

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Whatever the parent's readers hold is to end with the parent, not with us."""
        for handle in list(cls.open.values()):
            handle.closing = threading.Lock()
            if handle.session is not None and handle.session.on_fork is not None:
                handle.session.abandon()

    def close(self, *, with_views: bool = False) -> None:
        session = self.session
        if session is not None and session.inherited:
            return
        with self.closing:
            try:
                if session is not None and id(self) in self.open:
                    session.close(with_views=with_views)
            finally:
                # An interrupt may have come before anything was closed: then it can be done again.
                if session is None or session.closed:
                    if self.lock is not None:
                        self.lock.release()
                    self.open.pop(id(self), None)
                    if session is not None:
                        session.on_fork = None

    @classmethod
    def close_dropped(cls) -> None:
        """Close those whose store is gone, which no finalizer does: it may run at any moment of any thread.

        And finish what an interrupt left half closed.
        """
        for handle in list(cls.open.values()):
            gone = handle.store is not None and handle.store() is None
            if gone or (handle.session is not None and handle.session.closed):
                with contextlib.suppress(KvError):
                    handle.close()


def _warn_of_drop(session: _engine.Session) -> None:
    if not session.closed and not session.inherited:
        warnings.warn(f"unclosed kvwasi store {session.path!r}", ResourceWarning, stacklevel=2)


os.register_at_fork(after_in_child=Handle.after_fork_in_child)


@atexit.register
def _close_all() -> None:
    failure: KvError | None = None
    for handle in list(Handle.open.values()):
        try:
            handle.close(with_views=True)
        except KvError as error:
            failure = failure or error
    if failure is not None:
        raise failure


class Store(_engine.StoreVerbs, OrderedEntries):
    """An open database: a mapping from bytes to bytes, in the order of the keys. Made by :func:`kvwasi.open`.

    Keys have 1 to 1024 bytes, values up to 1 GiB; str is stored as UTF-8. Every write is a commit of its
    own, on disk when it returns (unless opened with another ``sync``); :meth:`transaction` and
    :meth:`put_many` make one commit of many changes. Any number of threads may use a store.

    >>> import kvwasi, tempfile, os
    >>> place = tempfile.TemporaryDirectory()
    >>> store = kvwasi.open(os.path.join(place.name, "my.kv"))
    >>> store["b"] = "2"
    >>> store.put_many({"a": "1", "c": "3"})
    >>> list(store)
    [b'a', b'b', b'c']
    >>> store.get("d") is None
    True
    >>> list(store.items(start="b", reverse=True))
    [(b'c', b'3'), (b'b', b'2')]
    >>> store.close()
    >>> place.cleanup()
    """

    def __init__(self, session: _engine.Session, handle: Handle, sync: SyncMode) -> None:
        self._handle = handle
        self._defaults: tuple[dict[bytes, bytes], int] | None = None
        self._sync: SyncMode = sync
        handle.store = weakref.ref(self)
        weakref.finalize(self, _warn_of_drop, session).atexit = False

    # --- state ---

    @property
    def path(self) -> str:
        """The real path of the database."""
        return self._session.path

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._session.closed

    @property
    def read_only(self) -> bool:
        """Whether it was opened with ``flag="r"``."""
        return self._session.read_only

    @property
    def sync_mode(self) -> SyncMode:
        """The ``sync`` it was opened with."""
        return self._sync

    def __repr__(self) -> str:
        if self._session.inherited:
            state = "inherited"
        elif self.closed:
            state = "closed"
        else:
            state = "read-only" if self.read_only else f"sync={self._sync!r}"
        return f"<kvwasi.Store {self.path!r}, {state}>"

    # --- writing ---

    @overload
    def transaction(self, *, write: Literal[True] = True, sync: SyncMode | None = None) -> Transaction: ...
    @overload
    def transaction(self, *, write: Literal[False], sync: SyncMode | None = None) -> Snapshot: ...

    def transaction(self, *, write: bool = True, sync: SyncMode | None = None) -> Transaction | Snapshot:
        """Begin a transaction: changes that happen together or not at all. Use it with ``with``.

        Waits for another thread's transaction to end; with ``write=False``, which makes a :meth:`snapshot`,
        for nothing.

        Args:
            write: whether it is to change anything.
            sync: for this one, instead of the store's: ``"commit"`` to have it on disk when it is
                committed, else ``"interval"`` or ``"none"``.

        Raises:
            TransactionError: this thread has one open already.
            TransactionTimeoutError: another thread's did not end within the store's ``timeout``.
            ReadOnlyError, ClosedError
        """
        if sync is not None and sync not in SYNC_MODES:
            raise ValueError(f"sync is one of {', '.join(SYNC_MODES)}, not {sync!r}")
        if not write:
            return self.snapshot()
        return Transaction(self._session, (sync or self._sync) == "commit", self)

    def snapshot(self) -> Snapshot:
        """The store as it is now, to be read while it changes. Use it with ``with``.

        Every read of a snapshot sees the same moment, across all tables. It waits for no transaction, nor
        does any write wait for it; but it holds space until it is closed.

        Raises:
            TooManyIteratorsError: 1024 are open.
            ClosedError
        """
        return Snapshot(self._session, self)

    def _moment(self) -> tuple[Snapshot, Snapshot]:
        snapshot = self.snapshot()
        return snapshot, snapshot

    def put_many(self, pairs: Mapping[Any, Any] | Iterable[tuple[Data, Data]], /) -> None:
        """Store (key, value) pairs, or the items of a mapping, in one transaction: all or none."""
        with self.transaction() as transaction:
            transaction.put_many(pairs)

    def _atomically(self) -> Transaction:
        return self.transaction()

    def reset_to_defaults(self) -> None:
        """Replace the store's own entries by the ``defaults`` that it was opened with, in one transaction.

        Tables stay as they are.

        Raises:
            ValueError: it was opened without.
        """
        with self.transaction() as transaction:
            self._reset_to_defaults(transaction)

    def _reset_to_defaults(self, transaction: Transaction) -> None:
        if self._defaults is None:
            raise ValueError("the store was opened without defaults")
        _defaults.reset(transaction, *self._defaults)

    # --- tables ---

    @overload
    def table(self, name: str | bytes, *, create: bool = True, dupsort: Literal[False] = False) -> Table: ...
    @overload
    def table(self, name: str | bytes, *, create: bool = True, dupsort: Literal[True]) -> DuplicatesTable: ...
    @overload
    def table(self, name: str | bytes, *, create: bool = True, expires: Literal[True]) -> ExpiringTable: ...

    def table(
        self, name: str | bytes, *, create: bool = True, dupsort: bool = False, expires: bool = False
    ) -> Table | DuplicatesTable | ExpiringTable:
        """A named table: a mapping of its own in the same file.

        Args:
            name: 1 to 1023 bytes as UTF-8; the first is not NUL. With ``dupsort`` 1 to 1014.
            create: whether its first write makes it if it is not there; until then it reads as empty.
            dupsort: a table in which a key has any number of values, see
                :class:`kvwasi.DuplicatesTable`. Names of these are apart from those of others.
            expires: a table whose entries may expire, see :class:`kvwasi.ExpiringTable`; likewise.

        Raises:
            NoSuchTableError: it is not there, and ``create`` is false. A table that has been dropped raises
                it from every method.
            KeyEmptyError, KeyTooLargeError, ReservedNameError: the name is none for a table.
        """
        check_kinds(dupsort, expires)
        if dupsort:
            return DuplicatesTable(self, name, create=create)
        if expires:
            return ExpiringTable(self, name, create=create)
        return Table(self, public_name(name), create=create)

    def tables(self, *, dupsort: bool = False, expires: bool = False) -> list[str]:
        """The names of the tables, in order; with ``dupsort`` or ``expires`` of those of that kind.

        The store itself, the default table, has none.
        """
        return table_names(self._table_names(), dupsort, expires)

    def drop_table(self, name: str | bytes, *, dupsort: bool = False, expires: bool = False) -> None:
        """Remove a table and all that is in it, in one transaction.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        with self.transaction() as transaction:
            transaction.drop_table(name, dupsort=dupsort, expires=expires)

    # --- time series ---

    def series(self, name: str | bytes, *, retention: Retention | None = None) -> Series:
        """A time series in the same file; see :class:`kvwasi.Series`. It is made by its first entry.

        Args:
            name: 1 to 1015 bytes as UTF-8; apart from the names of tables.
            retention: what it is to keep from now on; None: what was said before, or everything.
        """
        from kvwasi.series import Series

        return Series(self, name, retention=retention)

    def series_names(self) -> list[str]:
        """The names of the time series, in order."""
        return names_of_kind("series", self._table_names())

    def drop_series(self, name: str | bytes) -> None:
        """Remove a time series and all that is in it, in one transaction.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        with self.transaction() as transaction:
            transaction.drop_series(name)

    # --- the whole ---

    def sync(self) -> None:
        """Make everything that has been committed durable.

        Raises:
            StorageError: the flush failed; the store must be closed and opened again.
        """
        self._session.sync()

    def refresh(self) -> bool:
        """Of a store that is open to be read: show what has been committed since.

        Everything that was acknowledged before the call is seen afterwards, and all of some number of commits
        in any case. It costs microseconds when nothing was committed, else as much as the new commits; when
        the writer has made a checkpoint, or compacted the file, the index is read anew as at opening.
        Iterators and snapshots go on with what they show.

        Returns:
            Whether there was anything new.

        Raises:
            ReadOnlyError: the store is not open to be read only; it always shows the newest commit.
            CorruptionError, StorageError, ClosedError: as at opening; the store shows what it did.
        """
        from kvwasi import opening
        from kvwasi.wasi.filelock import identity_of

        self._session.check_open()
        if not self.read_only or self._handle.lock is None:
            raise ReadOnlyError(f"{self.path}: only a store opened with flag 'r' can be refreshed")
        there = identity_of(self.path)  # it may have been compacted, or replaced
        replaced = there is not None and there != self._handle.identity
        moved = opening.beside_writer(self._handle.lock, lambda: self._session.refresh(replaced))
        if there is not None:
            self._handle.identity = there
        self._look_again()
        return moved

    def __reduce__(self) -> tuple[Any, ...]:
        from kvwasi import opening

        self._session.check_open()
        if not self.read_only:
            raise TypeError("a store that is open for writing cannot be pickled")
        return opening.reopen, (self.path, self._session.cache_bytes)

    def stats(self) -> Stats:
        """Sizes and counts of the database and its engine."""
        return Stats(**self._session.stats())

    def check(self) -> list[Problem]:
        """Read everything and compare it with its checksums and the index. An empty list: all is well."""
        return [Problem(*found) for found in self._session.check()]

    def compact(self) -> None:
        """Rewrite the database without its dead space, and give that back to the file system.

        Reads go on meanwhile; writes wait, as for a transaction. Killed at any moment, the database is as
        it was or compacted.
        """
        self._session.compact()
        if self._handle.lock is not None:
            self._handle.lock.identify()

    def backup(
        self, path: StrPath, *, since: StrPath | Backup | None = None, overwrite: bool = False
    ) -> Backup:
        """Copy the store as it is now, with all its tables, into a new database; writers go on meanwhile.

        Without ``since`` the copy is complete in itself, compact, and a database like any other. With it, the
        file has only what was stored since an earlier backup, and which keys are gone: it continues that one,
        and :func:`kvwasi.restore` makes a database of both. What is unchanged is told by the sectors in which
        it lies, so neither the store's values nor the earlier backup's are read again. After a compaction,
        or of another database, everything is taken as changed.

        It appears under its name when it is whole and on disk; until then, or if something fails, there is
        what was there before (beside it, if the process is killed, a file ``.kvwasi-*``).

        Args:
            path: where to; in an existing directory.
            since: an earlier backup of the store, which may continue another one. They have to stay together.
            overwrite: whether to replace a file that is there.

        Returns:
            What was written.

        Raises:
            BackupError: the earlier file is no backup, or was changed; one that it continues is missing.
            DatabaseExistsError: there is a file, and ``overwrite`` is false.
            DatabaseLockedError: the database there is open, in this process or in another.
            NoSuchDatabaseError: there is no directory to make it in.
            DiskFullError, StorageError, CorruptionError
        """
        from kvwasi import backup

        return backup.write(self, path, since=since, overwrite=overwrite)

    def close(self) -> None:
        """Sync and close. Open transactions are rolled back. A second call does nothing.

        Raises:
            ViewsOpenError: views of values are in use; nothing was closed.
            StorageError: the last flush failed.
            PoisonedError: an earlier one failed, and not everything is known to be on disk.
        """
        self._handle.close()

    def __enter__(self) -> Self:
        self._session.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except KvError:
            if kind is None:  # else the block's own error is the one to be seen
                raise


__all__ = ["Handle", "Problem", "Stats", "Store", "StrPath", "SyncMode"]
