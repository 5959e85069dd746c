"""The databases under test, each behind the same few verbs."""

import marshal
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kvwasi.crashcheck.history import TABLE, Change, in_table

__all__ = ["ENGINES", "Database", "Engine", "Kvwasi", "Lmdb", "Mode", "change", "everything"]

NEWER_LMDB = "-1.0"
"""Behind the names of modes of LMDB 1.0."""


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

    def act(self, do: Callable[[Any], object]) -> None:
        """Call ``do`` with the engine's own object for an open database."""

    def backup(self, directory: str, commits: int, since: int | None = None) -> bool:
        """Copy it into a file of its own, which tells after how many commits that was. Whether it did.

        ``since``: only what has changed since the copy that was made after so many.
        """

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

    def repair(self, directory: str, commits: int) -> None:
        """Repair the closed database into a file of its own, as ``backup`` copies into one."""

    def copies(self, directory: str) -> Iterator[tuple[int, dict[bytes, bytes] | Exception]]:
        """The copies that are in a directory: after which commit they were made, and what they hold."""

    def version(self) -> str:
        """What it is."""

    def errors(self) -> tuple[type[Exception], ...]:
        """What its calls raise on purpose."""


class _KvwasiDatabase:
    def __init__(self, path: str, mode: Mode, *, read_only: bool) -> None:
        import kvwasi

        sync: Any = mode.name
        flag: Any = "r" if read_only else "c"
        self.store = kvwasi.open(path, flag, sync=sync, sector_bytes=256 << 10)

    def commit(self, changes: Sequence[Change], *, durable: bool = False) -> None:
        if len(changes) == 1 and not durable and not changes[0][0].startswith(TABLE):
            key, value = changes[0]
            if value is None:
                self.store.delete(key)
            else:
                self.store.put(key, value)
            return
        with self.store.transaction(sync="commit" if durable else None) as transaction:
            change(transaction, changes)

    def roll_back(self, changes: Sequence[Change]) -> None:
        transaction = self.store.transaction()
        change(transaction, changes)
        transaction.rollback()

    def act(self, do: Callable[[Any], object]) -> None:
        do(self.store)

    def backup(self, directory: str, commits: int, since: int | None = None) -> bool:
        earlier = None if since is None else os.path.join(directory, f"copy-{since}.kv")
        self.store.backup(os.path.join(directory, f"copy-{commits}.kv"), since=earlier)
        return True

    def sync(self) -> None:
        self.store.sync()

    def compact(self) -> None:
        self.store.compact()

    def close(self) -> None:
        self.store.close()

    def scan(self) -> list[tuple[bytes, bytes]]:
        return everything(self.store)

    def gets(self, keys: Iterable[bytes]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    def _get(self, key: bytes) -> bytes | None:
        if not key.startswith(TABLE):
            return self.store.get(key)
        name, _, key = key[len(TABLE) :].partition(b"/")
        return _part(self.store, name).get(key) if key else b""

    def count(self) -> int:
        return len(self.store) + sum(1 + len(_part(self.store, name)) for name in self.store._table_names())

    def check(self) -> str:
        return "; ".join(f"{found.kind} at {found.offset}" for found in self.store.check())


def everything(store: Any) -> list[tuple[bytes, bytes]]:
    """A store's entries, and behind them those of its tables and time series, but for what a backup adds."""
    from kvwasi.names import content_names

    found = list(store.items())
    for name in content_names(store._table_names()):
        found.append((in_table(name), b""))
        found += [(in_table(name, key), value) for key, value in sorted(_part(store, name).items())]
    return found


def _part(store: Any, name: bytes) -> Mapping[bytes, bytes]:
    """A table by its raw name. Of a time series its entries and their count, as one value."""
    from kvwasi import Table
    from kvwasi.names import reserved_name
    from kvwasi.series import SeriesReads, Status
    from kvwasi.series.view import ANY

    prefix = reserved_name("series")
    if not name.startswith(prefix):
        return Table(store, name, create=False)
    series = SeriesReads(store, name[len(prefix) :])
    entries = [triple for columns in series._parts(None, None, ANY, False) for triple in columns.triples()]
    deleted = sum(status == Status.DELETED for _, _, status in entries)
    return {b"entries": marshal.dumps((len(series) + deleted, entries), 2)}  # 2: without references


def change(transaction: Any, changes: Sequence[Change]) -> None:
    """Make changes, those of tables included, in an open transaction."""
    for key, value in changes:
        if key.startswith(TABLE):
            _change_table(transaction, key[len(TABLE) :], value)
        else:
            _plain_change(transaction, [(key, value)])


def _plain_change(transaction: Any, changes: Sequence[Change]) -> None:
    """As :func:`change`, but what would be in a table is among the other keys."""
    for key, value in changes:
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value)


def _change_table(transaction: Any, entry: bytes, value: bytes | None) -> None:
    name, _, key = entry.partition(b"/")
    if key:
        change(transaction.table(name), [(key, value)])
    elif value is None:
        transaction.drop_table(name)
    else:
        transaction.table(name)


def _restored(copy: str) -> dict[bytes, bytes]:
    """What is in a copy; of a backup that continues others, what is restored from it."""
    import kvwasi
    from kvwasi.chain import About
    from kvwasi.names import BACKUP_TABLE

    with kvwasi.open(copy, "r") as store:
        if BACKUP_TABLE not in store._table_names() or not About.of(store).since_id:
            return dict(everything(store))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(copy)) as place:
        kvwasi.restore(copy, os.path.join(place, "restored.kv"))
        with kvwasi.open(os.path.join(place, "restored.kv"), "r") as store:
            return dict(everything(store))


class Kvwasi:
    """This package's store."""

    name = "kvwasi"
    modes: Sequence[Mode] = (Mode("commit"), Mode("interval", sync=False), Mode("none", sync=False))
    file = "a.kv"
    others: Sequence[str] = ("a.kv-lock",)

    def open(self, directory: str, mode: Mode, *, read_only: bool = False) -> Database:
        return _KvwasiDatabase(os.path.join(directory, self.file), mode, read_only=read_only)

    def repair(self, directory: str, commits: int) -> None:
        import kvwasi

        kvwasi.repair(
            os.path.join(directory, self.file), os.path.join(directory, f"copy-repaired-{commits}.kv")
        )

    def copies(self, directory: str) -> Iterator[tuple[int, dict[bytes, bytes] | Exception]]:
        import kvwasi

        for name in sorted(os.listdir(directory)):
            if name.startswith("copy") and name.endswith(".kv"):
                number = int(name[:-3].rpartition("-")[2])
                try:
                    yield number, _restored(os.path.join(directory, name))
                except kvwasi.KvError as error:
                    yield number, error

    def version(self) -> str:
        from importlib.metadata import version

        return f"kvwasi {version('kvwasi')}"

    def errors(self) -> tuple[type[Exception], ...]:
        from kvwasi.errors import KvError

        return (KvError,)


class _LmdbDatabase:
    def __init__(self, path: str, mode: Mode, *, read_only: bool) -> None:
        import lmdb

        version: dict[str, Any] = {"lib_version": 1} if mode.name.endswith(NEWER_LMDB) else {}
        name = mode.name.removesuffix(NEWER_LMDB)
        self._environment = lmdb.open(
            path,
            **version,
            map_size=4 << 20,
            subdir=False,
            lock=not read_only,
            readonly=read_only,
            metasync=name != "nometasync",
            sync=name != "nosync",
            writemap=name == "writemap",
        )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._environment.begin(write=True) as transaction:
            yield transaction

    def commit(self, changes: Sequence[Change], *, durable: bool = False) -> None:
        with self._writing() as transaction:
            _plain_change(transaction, changes)
        if durable:
            self.sync()

    def roll_back(self, changes: Sequence[Change]) -> None:
        transaction = self._environment.begin(write=True)
        _plain_change(transaction, changes)
        transaction.abort()

    def act(self, do: Callable[[Any], object]) -> None:
        do(self._environment)

    def backup(self, directory: str, commits: int, since: int | None = None) -> bool:
        return False  # LMDB's is not looked at

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


def _newer_lmdb() -> bool:
    """Whether py-lmdb brings LMDB 1.0 as well."""
    try:
        import lmdb

        return bool(lmdb.version(lib_version=1))
    except (ImportError, TypeError, ValueError):
        return False


class Lmdb:
    """LMDB through py-lmdb: 0.9, which it uses by default, and 1.0 where it has that, too."""

    name = "lmdb"
    modes: Sequence[Mode] = (
        Mode("default"),
        Mode("nometasync", lag=1),
        Mode("nosync", sync=False, promised=False),
        Mode("writemap"),
        *(Mode(f"default{NEWER_LMDB}") for _ in range(_newer_lmdb())),
    )
    file = "a.mdb"
    others: Sequence[str] = ("a.mdb-lock",)

    def open(self, directory: str, mode: Mode, *, read_only: bool = False) -> Database:
        return _LmdbDatabase(os.path.join(directory, self.file), mode, read_only=read_only)

    def repair(self, directory: str, commits: int) -> None:
        raise NotImplementedError("LMDB has no repair")

    def copies(self, directory: str) -> Iterator[tuple[int, dict[bytes, bytes] | Exception]]:
        return iter(())

    def version(self) -> str:
        import lmdb

        newer = f" and {'.'.join(map(str, lmdb.version(lib_version=1)))}" if _newer_lmdb() else ""
        return f"LMDB {'.'.join(map(str, lmdb.version()))}{newer} (py-lmdb {lmdb.__version__})"

    def errors(self) -> tuple[type[Exception], ...]:
        import lmdb

        return (lmdb.Error,)


ENGINES: dict[str, Engine] = {"kvwasi": Kvwasi(), "lmdb": Lmdb()}
