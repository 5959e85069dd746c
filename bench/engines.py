"""The stores under comparison, behind one narrow interface. Defaults everywhere: what a user gets."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

Entry = tuple[bytes, bytes]


class Engine(Protocol):
    """An open database. Every commit is on disk when its call returns, in each engine's default mode."""

    name: str

    def __init__(self, directory: Path) -> None:
        """Open the database in ``directory``, made if need be."""

    def open(self) -> None:
        """Open it again after close()."""

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        """One transaction, one call a put."""

    def put_batch(self, entries: Sequence[Entry]) -> None:
        """One transaction, all puts in one call."""

    def put_each(self, entries: Iterable[Entry]) -> None:
        """A transaction a put."""

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """One call a get."""

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        """``count`` keys a call."""

    def scan(self) -> Iterator[Entry]:
        """All entries in key order."""

    def close(self) -> None:
        """Make everything durable and let go of the files."""

    @staticmethod
    def version() -> str:
        """What was measured."""


class Kvwasi:
    """This project."""

    name = "kvwasi"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "bench.kv"
        self.open()

    def open(self) -> None:
        import kvwasi

        self._store = kvwasi.open(self._path)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._store.transaction() as transaction:
            put = transaction.put
            for key, value in entries:
                put(key, value)

    def put_batch(self, entries: Sequence[Entry]) -> None:
        self._store.put_many(entries)

    def put_each(self, entries: Iterable[Entry]) -> None:
        put = self._store.put
        for key, value in entries:
            put(key, value)

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        get = self._store.get
        return [get(key) for key in keys]

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        get_many = self._store.get_many
        batches = (get_many(keys[first : first + count]) for first in range(0, len(keys), count))
        return list(itertools.chain.from_iterable(batches))

    def scan(self) -> Iterator[Entry]:
        return iter(self._store.items())

    def close(self) -> None:
        self._store.close()

    @staticmethod
    def version() -> str:
        from importlib.metadata import version

        return f"kvwasi {version('kvwasi')}, wasmtime {version('wasmtime')}"


class Lmdb:
    """LMDB through py-lmdb: default flags (each commit flushes data, then the meta page), one database."""

    name = "lmdb"
    map_bytes = 16 << 30  # address space only

    def __init__(self, directory: Path) -> None:
        self._path = os.fspath(directory / "bench.lmdb")
        self.open()

    def open(self) -> None:
        import lmdb

        self._environment = lmdb.open(self._path, map_size=self.map_bytes, subdir=False)

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

    def get_each(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._environment.begin() as transaction:
            get = transaction.get
            return [get(key) for key in keys]

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            for first in range(0, len(keys), count):
                found += [value for _, value in cursor.getmulti(keys[first : first + count])]
        return found

    def scan(self) -> Iterator[Entry]:
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            yield from cursor

    def close(self) -> None:
        self._environment.close()

    @staticmethod
    def version() -> str:
        import lmdb

        return f"LMDB {'.'.join(map(str, lmdb.version()))} (py-lmdb {lmdb.__version__})"


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Kvwasi, Lmdb)}
