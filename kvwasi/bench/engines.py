"""The stores under comparison, behind one narrow interface. Defaults everywhere: what a user gets."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

if TYPE_CHECKING:
    import kvwasi

Entry: TypeAlias = tuple[bytes, bytes]


class Engine:
    """An open database, in its engine's default mode: every commit is on disk when its call returns.

    What a subclass leaves out is made of ``get``, ``put`` and ``scan``.
    """

    name: ClassVar[str]
    share: ClassVar[int] = 1
    """It does each ``share``-th of the single operations: for one that is slower by orders of magnitude."""
    threads: ClassVar[bool] = True
    """Whether threads may use it, each through :meth:`for_thread`."""
    checked: ClassVar[bool] = True
    """Whether it can read back what was put; what cannot is no store but a measure of the machine."""
    synced: ClassVar[bool] = True
    """Whether a commit is on disk when its call returns."""
    place: Path
    """The directory that holds the database and nothing else."""

    def __init__(self, directory: Path) -> None:
        """Open the database in ``directory``, made if need be."""
        raise NotImplementedError

    def open(self) -> None:
        """Open it again after close()."""
        raise NotImplementedError

    def close(self) -> None:
        """Make everything durable and let go of the files."""
        raise NotImplementedError

    @staticmethod
    def version() -> str:
        """What was measured."""
        raise NotImplementedError

    def get(self, key: bytes) -> bytes | None:
        """The newest committed value."""
        raise NotImplementedError

    def put(self, key: bytes, value: bytes) -> None:
        """A transaction of its own."""
        raise NotImplementedError

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        """One transaction, one call a put."""
        raise NotImplementedError

    def put_batch(self, entries: Sequence[Entry]) -> None:
        """One transaction, all puts in one call."""
        self.put_in_transaction(entries)

    def put_each(self, entries: Iterable[Entry]) -> None:
        """A transaction a put."""
        put = self.put
        for key, value in entries:
            put(key, value)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        """One transaction, one call a key."""
        raise NotImplementedError

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """One call a get."""
        get = self.get
        return [get(key) for key in keys]

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        """``count`` keys a call."""
        return self.get_each(keys)

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        """All entries in key order, or against it."""
        raise NotImplementedError

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        """For each key up to ``count`` entries from it on; all in one list."""
        raise NotImplementedError

    def for_thread(self) -> Engine:
        """The database for the use of the calling thread; to be closed if it is another object."""
        return self

    def compact(self) -> None:
        """Give dead space back, as far as the engine can."""

    def disk_bytes(self) -> int:
        """What the database takes on the disk."""
        return sum(path.stat().st_blocks for path in self.place.rglob("*")) * 512


class Kvwasi(Engine):
    """This project."""

    name = "kvwasi"

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = directory / "bench.kv"
        self.open()

    def open(self) -> None:
        import kvwasi

        self._use(kvwasi.open(self._path, sync="commit" if self.synced else "none"))

    def _use(self, store: kvwasi.Store) -> None:
        self._store = store
        # no Python between, here and in the others
        self.get = store.get  # type: ignore[method-assign, assignment]
        self.put = store.put  # type: ignore[method-assign, assignment]

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._store.transaction() as transaction:
            put = transaction.put
            for key, value in entries:
                put(key, value)

    def put_batch(self, entries: Sequence[Entry]) -> None:
        self._store.put_many(entries)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        with self._store.transaction() as transaction:
            delete = transaction.delete
            for key in keys:
                delete(key)

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        get_many = self._store.get_many
        batches = (get_many(keys[first : first + count]) for first in range(0, len(keys), count))
        return list(itertools.chain.from_iterable(batches))

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return iter(self._store.items(reverse=reverse))

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        items, found = self._store.items, list[Entry]()
        for key in keys:
            found += iter(items(start=key, limit=count))  # a list would ask the view for its length first
        return found

    def compact(self) -> None:
        self._store.compact()

    def close(self) -> None:
        self._store.close()

    @staticmethod
    def version() -> str:
        from importlib.metadata import version

        return f"kvwasi {version('kvwasi')}, wasmtime {version('wasmtime')}"


class Lmdb(Engine):
    """LMDB through py-lmdb: default flags (each commit flushes data, then the meta page), one database."""

    name = "lmdb"
    map_bytes = 16 << 30  # address space only

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = os.fspath(directory / "bench.lmdb")
        self.open()

    def open(self) -> None:
        import lmdb

        self._environment = lmdb.open(self._path, map_size=self.map_bytes, subdir=False, sync=self.synced)

    def get(self, key: bytes) -> bytes | None:
        with self._environment.begin() as transaction:
            return transaction.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._environment.begin(write=True) as transaction:
            put = transaction.put
            for key, value in entries:
                put(key, value)

    def put_batch(self, entries: Sequence[Entry]) -> None:
        with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(entries)

    def put_each(self, entries: Iterable[Entry]) -> None:
        begin = self._environment.begin
        for key, value in entries:
            with begin(write=True) as transaction:
                transaction.put(key, value)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        with self._environment.begin(write=True) as transaction:
            delete = transaction.delete
            for key in keys:
                delete(key)

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._environment.begin() as transaction:
            get = transaction.get
            return [get(key) for key in keys]

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            for first in range(0, len(keys), count):
                batch = keys[first : first + count]
                there = cursor.getmulti(batch)
                if len(there) == len(batch):
                    found += [value for _, value in there]
                else:
                    found += map(dict(there).get, batch)
        return found

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        transaction = self._environment.begin()
        cursor = transaction.cursor()

        def end() -> Iterator[Entry]:
            cursor.close()
            transaction.abort()
            yield from ()

        # chained, so that no Python stands between the cursor and who takes its entries
        return itertools.chain(cursor.iterprev() if reverse else cursor.iternext(), end())

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        found: list[Entry] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            for key in keys:
                if cursor.set_range(key):
                    found += itertools.islice(cursor, count)
        return found

    def compact(self) -> None:
        """LMDB shrinks by a copy only."""
        copy = self._path + ".copy"
        self._environment.copy(copy, compact=True)
        self._environment.close()
        os.replace(copy, self._path)
        self.open()

    def close(self) -> None:
        self._environment.close()

    @staticmethod
    def version() -> str:
        import lmdb

        return f"LMDB {'.'.join(map(str, lmdb.version()))} (py-lmdb {lmdb.__version__})"


class Sqlite(Engine):
    """SQLite of the standard library: WAL, synchronous=FULL (each commit flushes the log)."""

    name = "sqlite3"

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = directory / "bench.sqlite"
        self.open()

    def open(self) -> None:
        import sqlite3

        self._connection = sqlite3.connect(self._path, timeout=600, isolation_level=None)
        self._execute = self._connection.execute
        self._execute("PRAGMA journal_mode=WAL").fetchall()
        self._execute("PRAGMA synchronous=FULL")
        self._execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    @contextlib.contextmanager
    def _transaction(self, kind: str = "DEFERRED") -> Iterator[None]:
        self._execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    def get(self, key: bytes) -> bytes | None:
        row = self._execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return row and row[0]  # type: ignore[no-any-return]

    def put(self, key: bytes, value: bytes) -> None:
        self._execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._transaction("IMMEDIATE"):
            execute = self._execute
            for entry in entries:
                execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", entry)

    def put_batch(self, entries: Sequence[Entry]) -> None:
        with self._transaction("IMMEDIATE"):
            self._connection.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", entries)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        with self._transaction("IMMEDIATE"):
            execute = self._execute
            for key in keys:
                execute("DELETE FROM kv WHERE key = ?", (key,))

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._transaction():
            get = self.get
            return [get(key) for key in keys]

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        with self._transaction():
            for first in range(0, len(keys), count):
                batch = keys[first : first + count]
                marks = ",".join("?" * len(batch))
                rows = self._execute(f"SELECT key, value FROM kv WHERE key IN ({marks})", batch)
                found += map(dict(rows).get, batch)
        return found

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return self._execute(f"SELECT key, value FROM kv ORDER BY key {'DESC' if reverse else ''}")

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        found: list[Entry] = []
        with self._transaction():
            for key in keys:
                found += self._execute(
                    "SELECT key, value FROM kv WHERE key >= ? ORDER BY key LIMIT ?", (key, count)
                )
        return found

    def for_thread(self) -> Engine:
        return type(self)(self.place)

    def compact(self) -> None:
        self._execute("VACUUM")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def version() -> str:
        import sqlite3

        return f"SQLite {sqlite3.sqlite_version}"


class Model(Engine):
    """A dictionary: says what the others must answer. Not measured."""

    name = "model"

    def __init__(self, directory: Path | None = None) -> None:
        self.place = directory or Path("/nonexistent")
        self._entries: dict[bytes, bytes] = {}
        self._sorted: list[bytes] | None = None
        self.get = self._entries.get  # type: ignore[method-assign, assignment]

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    @staticmethod
    def version() -> str:
        return "dict"

    def put(self, key: bytes, value: bytes) -> None:
        if self._sorted is not None and key not in self._entries:
            bisect.insort(self._sorted, key)
        self._entries[key] = value

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        self._sorted = None
        self._entries.update(entries)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        self._sorted = None
        for key in keys:
            self._entries.pop(key, None)

    def _order(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._entries)
        return self._sorted

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        order = self._order()
        return ((key, self._entries[key]) for key in (reversed(order) if reverse else order))

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        order, found = self._order(), list[Entry]()
        for key in keys:
            first = bisect.bisect_left(order, key)
            found += [(near, self._entries[near]) for near in order[first : first + count]]
        return found
