"""More stores to compare with, each used where its package is installed: RocksDB, LevelDB, diskcache."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvwasi.bench.engines import Engine, Entry, Kvwasi, Lmdb, Sqlite


class Rocksdb(Engine):
    """RocksDB through rocksdict: every write batch with sync, keys and values as bytes."""

    name = "rocksdb"

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = os.fspath(directory / "bench.rocksdb")
        self.open()

    def open(self) -> None:
        rocksdict: Any = importlib.import_module("rocksdict")

        self._database: Any = rocksdict.Rdict(self._path, rocksdict.Options(raw_mode=True))
        self._synced: Any = rocksdict.WriteOptions()
        self._synced.sync = True
        self._batch: Any = lambda: rocksdict.WriteBatch(raw_mode=True)
        self.get = self._database.get  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self._database.put(key, value, self._synced)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        batch = self._batch()
        put = batch.put
        for key, value in entries:
            put(key, value)
        self._database.write(batch, self._synced)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        batch = self._batch()
        for key in keys:
            batch.delete(key)
        self._database.write(batch, self._synced)

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        get = self._database.get
        batches = (get(list(keys[first : first + count])) for first in range(0, len(keys), count))
        return list(itertools.chain.from_iterable(batches))

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return iter(self._database.items(backwards=reverse))

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        items, found = self._database.items, list[Entry]()
        for key in keys:
            found += itertools.islice(items(from_key=key), count)
        return found

    def compact(self) -> None:
        self._database.compact_range(None, None)

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def version() -> str:
        return f"RocksDB (rocksdict {version('rocksdict')})"


class Leveldb(Engine):
    """LevelDB through plyvel: every write with sync."""

    name = "leveldb"

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = os.fspath(directory / "bench.leveldb")
        self.open()

    def open(self) -> None:
        plyvel: Any = importlib.import_module("plyvel")

        self._database: Any = plyvel.DB(self._path, create_if_missing=True)
        self.get = self._database.get  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self._database.put(key, value, sync=True)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._database.write_batch(sync=True) as batch:
            put = batch.put
            for key, value in entries:
                put(key, value)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        with self._database.write_batch(sync=True) as batch:
            for key in keys:
                batch.delete(key)

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return iter(self._database.iterator(reverse=reverse))

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        found: list[Entry] = []
        with self._database.iterator() as iterator:
            for key in keys:
                iterator.seek(key)
                found += itertools.islice(iterator, count)
        return found

    def compact(self) -> None:
        self._database.compact_range()

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def version() -> str:
        return f"LevelDB (plyvel {version('plyvel')})"


class Diskcache(Engine):
    """diskcache over SQLite, told to flush each commit; without eviction, which would lose entries."""

    name = "diskcache"
    share = 20

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self._path = os.fspath(directory / "bench.diskcache")
        self.open()

    def open(self) -> None:
        diskcache: Any = importlib.import_module("diskcache")

        self._cache: Any = diskcache.Cache(
            self._path, eviction_policy="none", sqlite_synchronous=2, disk_min_file_size=1 << 30
        )
        self.get = self._cache.get  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self._cache.set(key, value)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        with self._cache.transact():
            for key, value in entries:
                self._cache.set(key, value)

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        with self._cache.transact():
            for key in keys:
                self._cache.delete(key)

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        get = self._cache.get
        return ((key, get(key)) for key in self._cache.iterkeys(reverse=reverse))

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        raise NotImplementedError("diskcache has no ranges")

    def close(self) -> None:
        self._cache.close()

    @staticmethod
    def version() -> str:
        return f"diskcache {version('diskcache')}"


_MODULES = {"lmdb": "lmdb", "rocksdb": "rocksdict", "leveldb": "plyvel", "diskcache": "diskcache"}
ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (Kvwasi, Lmdb, Sqlite, Rocksdb, Leveldb, Diskcache)
}


def installed() -> list[str]:
    """Names of the engines that can be used here, kvwasi first."""
    return [name for name in ENGINES if importlib.util.find_spec(_MODULES.get(name, "kvwasi")) is not None]


def package_of(name: str) -> str:
    """What ``pip install`` takes to have an engine."""
    return _MODULES.get(name, name)
