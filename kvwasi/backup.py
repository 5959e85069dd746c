"""Copies of a store while it is written: one moment in a new file, all of it or what has changed since."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from kvwasi import opening
from kvwasi.chain import About, Chain, Contents, deleted_table, without
from kvwasi.engine import _engine
from kvwasi.errors import BackupError, CorruptionError, DatabaseExistsError, KvError, StorageError
from kvwasi.names import content_names, public_names
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.store import Store, StrPath
from kvwasi.table import Table
from kvwasi.wasi.newfile import NewFile

if TYPE_CHECKING:
    from kvwasi.ranges import OrderedReads

_BATCH_ENTRIES = 5000
_BATCH_BYTES = 8 << 20
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """What :meth:`Store.backup` or :func:`kvwasi.restore` has written."""

    path: str
    """The real path of the file."""
    keys: int
    """Entries that it has, of the store itself and of its plain tables; what lies in tables of other kinds
    and in series is copied, but not counted."""
    tables: int
    """Plain named tables that there are at its moment."""
    file_bytes: int
    deleted: int = 0
    """Keys of which it says that they are gone since the backup that it continues."""


def write(source: Store, path: StrPath, *, since: StrPath | Backup | None, overwrite: bool) -> Backup:
    """See :meth:`Store.backup`."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_place(path, overwrite))
        chain = None
        if since is not None:
            chain = stack.enter_context(Chain(since.path if isinstance(since, Backup) else since))
            if any(link.store.path == place for link in chain.links):
                raise BackupError(f"{place} is one of those that are to be continued")
        return _Writing(source, chain).write(place, overwrite)


def restore(path: StrPath, to: StrPath, *, overwrite: bool = False) -> Backup:
    """Make a database of a backup, and of those that it continues.

    Those are looked for beside it, and where they were when it was made. The new database appears under its
    name when it is whole, on disk, and found to hold exactly the keys and values that the store had.

    Args:
        path: a file that :meth:`Store.backup` has written.
        to: where to; in an existing directory.
        overwrite: whether to replace a file that is there.

    Returns:
        What was written.

    Raises:
        BackupError: the file is no backup, or was changed since; one that it continues is missing.
        CorruptionError: a backup is damaged, or does not hold what the store had.
        DatabaseExistsError: there is a file, and ``overwrite`` is false.
        DatabaseLockedError, NoSuchDatabaseError, DiskFullError, StorageError

    >>> import kvwasi, tempfile
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(f"{place}/my.kv") as store:
    ...     store.put_many({"a": "1", "b": "2"})
    ...     monday = store.backup(f"{place}/monday.kv")
    ...     store["c"] = store.pop("a")
    ...     tuesday = store.backup(f"{place}/tuesday.kv", since=monday)
    ...     tuesday.keys, tuesday.deleted, kvwasi.restore(tuesday.path, f"{place}/again.kv").keys
    ...     with kvwasi.open(f"{place}/again.kv") as again:
    ...         dict(again)
    (1, 1, 2)
    {b'b': b'2', b'c': b'1'}
    """
    with _place(to, overwrite) as place, Chain(path) as chain, _new_store(place, chain.links[0].store) as new:
        keys = _restore(chain, new.store)
        about = chain.about
        new.store.close()
        return Backup(place, keys, _count_tables(about.tables), new.file.install(replace=overwrite))


@contextlib.contextmanager
def _place(path: StrPath, overwrite: bool) -> Iterator[str]:
    """Where a file is to appear, which nobody else has open: its real path."""
    lock = opening.acquire(path, "c")
    try:
        if lock.exists and not overwrite:
            raise DatabaseExistsError(errno.EEXIST, "there is a file already", lock.path)
        yield lock.path
    except OSError as error:
        if isinstance(error, KvError):
            raise
        kind = DatabaseExistsError if isinstance(error, FileExistsError) else StorageError
        raise kind(error.errno, error.strerror, lock.path) from None
    finally:
        lock.release()


@dataclass
class _New:
    file: NewFile
    store: Store


@contextlib.contextmanager
def _new_store(place: str, like: Store) -> Iterator[_New]:
    """A store that is written under a temporary name; what is not installed is removed."""
    file = NewFile(place)
    try:
        sector_bytes = like.stats().sector_bytes
        with opening.open(
            file.temporary, "n", sync="none", sector_bytes=sector_bytes, cache_bytes=_CACHE_BYTES
        ) as store:
            yield _New(file, store)
    finally:
        file.discard()


def _count_tables(names: Iterable[bytes]) -> int:
    """The user's own, without the default one."""
    return sum(1 for name in public_names(names) if name)


def _table_of(reads: Snapshot | Store, name: bytes) -> OrderedReads:
    """A table by its raw name; empty: the default one."""
    if not name:
        return reads
    return SnapshotTable(reads, name) if isinstance(reads, Snapshot) else Table(reads, name)


class _Writing:
    """A backup that is being written."""

    def __init__(self, source: Store, chain: Chain | None) -> None:
        self._source, self._chain = source, chain
        self._before: dict[bytes, Contents] = {} if chain is None else chain.about.tables
        self._keys = self._deleted = 0

    def write(self, place: str, overwrite: bool) -> Backup:
        now = self._source.stats()  # before the snapshot: what comes between the two is copied twice
        chain = self._chain
        since = chain.about.generation if chain and chain.about.database == now.database_id else 0
        with self._source.snapshot() as snapshot, _new_store(place, self._source) as new:
            tables: dict[bytes, Contents] = {}
            for name in (b"", *content_names(snapshot._table_names())):
                tables[name] = self._write_table(snapshot, new.store, name, len(tables), since)
            About(
                id=os.urandom(16).hex(),
                database=now.database_id,
                generation=now.generation,
                commits=new.store.stats().commits + 1,
                since_id=chain.about.id if chain else "",
                since_path=chain.path if chain else "",
                tables=tables,
            ).store_in(new.store)
            new.store.close()
            size = new.file.install(replace=overwrite)
        return Backup(place, self._keys, _count_tables(tables), size, self._deleted)

    def _write_table(self, snapshot: Snapshot, to: Store, name: bytes, number: int, since: int) -> Contents:
        entries, before = _table_of(snapshot, name), self._before.get(name)
        copy = _Copy(entries, to, name, since)
        if before is None:
            copy.since = 0
            copy.run()
        else:
            self._continue_table(copy, before, to, number)
        if not name or public_names([name]):
            self._keys += copy.copied
        return copy.contents

    def _continue_table(self, copy: _Copy, before: Contents, to: Store, number: int) -> None:
        """Copy what is new, and say what is gone.

        The digests tell whether both together are all that has changed. They are not if a power cut took back
        commits that the earlier backup has: then everything is copied.
        """
        assert self._chain is not None
        chain, name = self._chain, copy.name
        digest = before.digest
        for key in copy.steps():
            digest += copy.digest_of(key) - chain.digest(name, key)
        if digest % 2**64 != copy.contents.digest:
            digest -= self._say_gone(copy, to, number)
        if digest % 2**64 != copy.contents.digest:
            copy.since = 0
            copy.run()

    def _say_gone(self, copy: _Copy, to: Store, number: int) -> int:
        """The digest of what is gone."""
        assert self._chain is not None
        gone, digest = Table(to, deleted_table(number)), 0
        batch: list[tuple[bytes, bytes]] = []
        for key in without(self._chain.keys(copy.name), iter(copy.entries)):
            digest += self._chain.digest(copy.name, key)
            batch.append((key, b""))
            if len(batch) >= _BATCH_ENTRIES:
                gone.put_many(batch)
                batch.clear()
            self._deleted += 1
        gone.put_many(batch)
        return digest


class _Copy:
    """A table, or what of it lies in sectors of a generation or a later one, on its way into another file."""

    def __init__(self, entries: OrderedReads, to: Store, name: bytes, since: int) -> None:
        self.entries, self.name, self.since = entries, name, since
        self._reads, self._to = cast(_engine.Reads, entries), to
        self.copied = 0
        self.contents = Contents(0, 0)
        """What has been passed so far, copied or not."""

    def run(self) -> None:
        """Copy; makes the table also if it is empty."""
        for _ in self.steps():
            pass

    def digest_of(self, key: bytes) -> int:
        """What an entry of it adds to its digest."""
        return _engine.entry_digest(self._reads, key) or 0

    def steps(self) -> Iterator[bytes]:
        """Copy, and yield the key of each entry that was."""
        batch: list[tuple[bytes, bytes]] = []
        keys = size = self.copied = 0
        found = _engine.EntryIterator(self._reads, None, None, False, _engine.COPIES, None, self.since)
        for key, value in cast("Iterator[tuple[bytes, bytes | None]]", found):
            keys += 1
            if value is _engine.OLDER:
                continue
            self.copied += 1
            yield key
            if value is None:  # too large to be held
                self._put(batch, key)
                size = 0
                continue
            batch.append((key, value))
            size += len(key) + len(value)
            if len(batch) >= _BATCH_ENTRIES or size >= _BATCH_BYTES:
                self._put(batch)
                size = 0
        if batch or (self.name and not self.copied):
            self._put(batch)
        self.contents = Contents(keys, found.digest)

    def _put(self, batch: list[tuple[bytes, bytes]], large: bytes | None = None) -> None:
        with self._to.transaction() as transaction:
            target = Table(transaction, self.name) if self.name else transaction
            target.put_many(batch)
            if large is not None:
                _engine.copy_value(self._reads, large, target)
        batch.clear()


def _restore(chain: Chain, to: Store) -> int:
    """Make ``to`` what the last backup was of; returns how many entries the user's own tables have."""
    for link in chain.links:
        for name in [name for name in to._table_names() if name not in link.about.tables]:
            with to.transaction() as transaction:
                transaction._drop(name)
        for name in link.about.tables:
            if link.about.since_id:
                _delete(link.deleted(name), _table_of(to, name))
            _Copy(link.entries(name), to, name, 0).run()
    keys = 0
    for name, expected in chain.about.tables.items():
        found = _contents(_table_of(to, name))
        if found != expected:
            raise CorruptionError(f"{chain.path} and those that it continues do not hold what the store had")
        keys += found.keys if not name or public_names([name]) else 0
    return keys


def _delete(keys: Table, entries: OrderedReads) -> None:
    target, gone = cast("Table | Store", entries), iter(keys)
    while batch := list(itertools.islice(gone, _BATCH_ENTRIES)):
        with target._atomically() as some:
            for key in batch:
                cast(_engine.Verbs, some).delete(key)


def _contents(entries: OrderedReads) -> Contents:
    found = _engine.EntryIterator(cast(_engine.Reads, entries), None, None, False, _engine.KEYS, None, 0)
    keys = sum(1 for _ in found)
    return Contents(keys, found.digest)


__all__ = ["Backup", "restore", "write"]
