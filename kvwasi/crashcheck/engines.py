"""The databases under test, each behind the same few verbs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kvwasi.crashcheck.history import Change

__all__ = ["ENGINES", "Database", "Engine", "Kvwasi", "Lmdb", "Mode"]


@dataclass(frozen=True)
class Mode:
    """A way to open an engine, and what it promises.

    Attributes:
        sync: a commit that has returned is durable.
        lag: of the newest commits that have returned so many may be lost all the same.
        promised: the engine's documentation promises that the database opens after a power cut.
    """

    name: str
    sync: bool = True
    lag: int = 0
    promised: bool = True


class Database(Protocol):
    """An open database."""

    def commit(self, changes: Sequence[Change], *, durable: bool = False) -> None:
        """Make the changes in one transaction; ``durable``: even in a mode that does not sync."""

    def roll_back(self, changes: Sequence[Change]) -> None:
        """Make the changes in a transaction and give it up."""

    def sync(self) -> None:
        """Make everything durable."""

    def compact(self) -> None:
        """Give dead space back."""

    def close(self) -> None:
        """Close it."""

    def scan(self) -> list[tuple[bytes, bytes]]:
        """Everything, in order."""

    def gets(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values of keys, each by its own search."""

    def count(self) -> int:
        """How many keys it says it has."""

    def check(self) -> str:
        """What the engine's own structural check finds; empty: all is well."""


class Engine(Protocol):
    """A kind of database.

    Attributes:
        file: the name of a database's file in its directory.
        others: names in the directory that are no part of what has to survive.
        errors: what its calls raise on purpose.
    """

    name: str
    modes: Sequence[Mode]
    file: str
    others: Sequence[str]

    def open(self, directory: str, mode: Mode, *, read_only: bool = False) -> Database:
        """Open the database in a directory; make it if there is none."""

    def version(self) -> str:
        """What it is."""

    def errors(self) -> tuple[type[Exception], ...]:
        """What its calls raise on purpose."""


class _KvwasiDatabase:
    def __init__(self, path: str, mode: Mode, *, read_only: bool) -> None:
        import kvwasi

        sync: Any = mode.name
        flag: Any = "r" if read_only else "c"
        self.store = kvwasi.open(path, flag, sync=sync, interval_ms=1, sector_bytes=256 << 10)

    def commit(self, changes: Sequence[Change], *, durable: bool = False) -> None:
        if len(changes) == 1 and not durable:
            key, value = changes[0]
            if value is None:
                self.store.delete(key)
            else:
                self.store.put(key, value)
            return
        with self.store.transaction(sync="commit" if durable else None) as transaction:
            _change(transaction, changes)

    def roll_back(self, changes: Sequence[Change]) -> None:
        transaction = self.store.transaction()
        _change(transaction, changes)
        transaction.rollback()

    def sync(self) -> None:
        self.store.sync()

    def compact(self) -> None:
        self.store.compact()

    def close(self) -> None:
        self.store.close()

    def scan(self) -> list[tuple[bytes, bytes]]:
        return list(self.store.items())

    def gets(self, keys: Iterable[bytes]) -> list[bytes | None]:
        return [self.store.get(key) for key in keys]

    def count(self) -> int:
        return len(self.store)

    def check(self) -> str:
        return "; ".join(f"{found.kind} at {found.offset}" for found in self.store.check())


def _change(transaction: Any, changes: Sequence[Change]) -> None:
    for key, value in changes:
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value)


class Kvwasi:
    """This package's store."""

    name = "kvwasi"
    modes: Sequence[Mode] = (Mode("commit"), Mode("interval", sync=False), Mode("none", sync=False))
    file = "a.kv"
    others: Sequence[str] = ("a.kv-lock",)

    def open(self, directory: str, mode: Mode, *, read_only: bool = False) -> Database:
        return _KvwasiDatabase(os.path.join(directory, self.file), mode, read_only=read_only)

    def version(self) -> str:
        from importlib.metadata import version

        return f"kvwasi {version('kvwasi')}"

    def errors(self) -> tuple[type[Exception], ...]:
        from kvwasi.errors import KvError

        return (KvError,)


class _LmdbDatabase:
    def __init__(self, path: str, mode: Mode, *, read_only: bool) -> None:
        import lmdb

        self._environment = lmdb.open(
            path,
            map_size=4 << 20,
            subdir=False,
            lock=not read_only,
            readonly=read_only,
            metasync=mode.name != "nometasync",
            sync=mode.name != "nosync",
            writemap=mode.name == "writemap",
        )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._environment.begin(write=True) as transaction:
            yield transaction

    def commit(self, changes: Sequence[Change], *, durable: bool = False) -> None:
        with self._writing() as transaction:
            _change(transaction, changes)
        if durable:
            self.sync()

    def roll_back(self, changes: Sequence[Change]) -> None:
        transaction = self._environment.begin(write=True)
        _change(transaction, changes)
        transaction.abort()

    def sync(self) -> None:
        self._environment.sync(True)

    def compact(self) -> None:
        """LMDB has no such verb."""

    def close(self) -> None:
        self._environment.close()

    def scan(self) -> list[tuple[bytes, bytes]]:
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return [(bytes(key), bytes(value)) for key, value in cursor]

    def gets(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._environment.begin() as transaction:
            return [transaction.get(key) for key in keys]

    def count(self) -> int:
        entries: int = self._environment.stat()["entries"]
        return entries

    def check(self) -> str:
        """LMDB has no check: every page is reached from both ends."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            forward = sum(1 for _ in cursor)
            cursor.last()
            backward = sum(1 for _ in cursor.iterprev())
        return "" if forward == backward else f"{forward} entries forward, {backward} backward"


class Lmdb:
    """LMDB through py-lmdb."""

    name = "lmdb"
    modes: Sequence[Mode] = (
        Mode("default"),
        Mode("nometasync", lag=1),
        Mode("nosync", sync=False, promised=False),
        Mode("writemap"),
    )
    file = "a.mdb"
    others: Sequence[str] = ("a.mdb-lock",)

    def open(self, directory: str, mode: Mode, *, read_only: bool = False) -> Database:
        return _LmdbDatabase(os.path.join(directory, self.file), mode, read_only=read_only)

    def version(self) -> str:
        import lmdb

        return f"LMDB {'.'.join(map(str, lmdb.version()))} (py-lmdb {lmdb.__version__})"

    def errors(self) -> tuple[type[Exception], ...]:
        import lmdb

        return (lmdb.Error,)


ENGINES: dict[str, Engine] = {"kvwasi": Kvwasi(), "lmdb": Lmdb()}
