"""LMDB, SQLite and dbm as sources."""

import contextlib
import dbm.dumb
import json
import sqlite3
from pathlib import Path

import lmdb
import pytest

import kvwasi
from kvwasi import transfer
from kvwasi.formats import ForeignError, foreign, source

PAIRS = {b"key-%05d" % n: bytes([n % 256]) * (n % 90) for n in range(3000)}


def make_lmdb(path: Path, *, subdir: bool = True, dupsort: bool = False) -> None:
    with lmdb.open(str(path), subdir=subdir, max_dbs=8, map_size=64 << 20) as environment:
        with environment.begin(write=True) as transaction:
            transaction.put(b"of the main one", b"1")
            transaction.put(b"as long as a record of LMDB", bytes(48))
        for name in (b"users", b"empty", b"\xff"):
            database = environment.open_db(name)
            if name != b"empty":
                with environment.begin(write=True, db=database) as transaction:
                    for key, value in PAIRS.items():
                        transaction.put(key, value + name)
        if dupsort:
            database = environment.open_db(b"several", dupsort=True)
            with environment.begin(write=True, db=database) as transaction:
                transaction.put(b"one", b"1")
                transaction.put(b"two", b"1")
                transaction.put(b"two", b"2")


def make_sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "my ""things""" (name, "the value", other)')
        rows = [("text", "ünï"), (b"blob\0", b"\xff"), (7, 2.5), (1.5, -3), ("none", None)]
        connection.executemany('INSERT INTO "my ""things""" VALUES (?, ?, 0)', rows)
        connection.execute("CREATE TABLE t (key TEXT, value TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [("a", "1"), ("b", "2"), ("a", "3")])
        connection.commit()


@pytest.mark.parametrize("subdir", [True, False])
def test_an_lmdb_environment_with_all_its_databases(kv, tmp_path: Path, subdir: bool) -> None:
    make_lmdb(tmp_path / "e", subdir=subdir)
    told = kv("load", "a.kv", "lmdb:e")
    assert told.stderr == b"6002 entries loaded and compared\n"
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert dict(store) == {b"of the main one": b"1", b"as long as a record of LMDB": bytes(48)}
        assert store.tables() == ["empty", "users", "\udcff"]
        assert dict(store.table("users")) == {key: value + b"users" for key, value in PAIRS.items()}
        assert len(store.table("empty")) == 0


def test_duplicates_of_lmdb(kv, tmp_path: Path) -> None:
    make_lmdb(tmp_path / "e", dupsort=True)
    assert kv("load", "a.kv", "lmdb:e").stderr == b"6005 entries loaded and compared\n"
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert store.tables(dupsort=True) == ["several"]
        pairs = list(store.table("several", dupsort=True).items())
    assert pairs == [(b"one", b"1"), (b"two", b"1"), (b"two", b"2")]
    (tmp_path / "a.mdb").write_bytes(kv("dump", "a.kv", "--format", "mdb").stdout)
    kv("load", "b.kv", "a.mdb")
    with kvwasi.open(tmp_path / "b.kv") as store:
        assert list(store.table("several", dupsort=True).items()) == pairs


def test_duplicates_of_the_main_database_are_refused() -> None:
    """Which py-lmdb cannot make, but C programs can."""

    class Transaction:
        def cursor(self, database: object) -> list[tuple[bytes, bytes]]:
            return [(b"one", b"1"), (b"two", b"1"), (b"two", b"2")]

    with pytest.raises(ForeignError, match="several values for the key b'two'"):
        list(foreign._lmdb_rows(Transaction(), None, None, set(), True))


def test_a_table_of_sqlite(kv, tmp_path: Path) -> None:
    make_sqlite(tmp_path / "a b.db")
    name = 'sqlite:a b.db?table=my+"things"&key=name&value=the%20value'
    told = kv("load", "a.kv", name, "--table", "t")
    assert told.stderr == b"4 entries loaded and compared, 1 skipped that have no value\n"
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert dict(store.table("t")) == {
            b"text": "ünï".encode(),
            b"blob\0": b"\xff",
            b"7": b"2.5",
            b"1.5": b"-3",
        }
    assert json.loads(kv("load", "a.kv", name, "--json").stdout) == {"entries": 4, "skipped": 1}


def test_a_file_of_dbm(kv, tmp_path: Path) -> None:
    with dbm.dumb.open(str(tmp_path / "d"), "n") as database:
        for key, value in PAIRS.items():
            database[key] = value
    assert kv("load", "a.kv", "dbm:d").stderr == b"3000 entries loaded and compared\n"
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert dict(store) == PAIRS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lmdb:junk", b"junk: "),
        ("sqlite:junk?table=t", b"not a database"),
        ("sqlite:s.db", b"is named as sqlite:FILE?table=T"),
        ("sqlite:s.db?table=t&colour=red", b"is named as sqlite:FILE?table=T"),
        ("sqlite:s.db?table=none", b"no such table"),
        ("sqlite:s.db?table=t&key=nothing", b'has no column "nothing"'),
        ("sqlite:s.db?table=t", b'3 rows have 2 different keys: "key" is no key'),
        ("dbm:junk", b"no known kind of dbm"),
    ],
)
def test_what_cannot_be_read(kv, tmp_path: Path, name: str, message: bytes) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 5000)
    make_sqlite(tmp_path / "s.db")
    assert message in kv("load", "a.kv", name, code=3).stderr
    assert not (tmp_path / "a.kv").exists()


def test_lmdb_is_only_needed_for_lmdb(kv, tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "lmdb.py").write_text("raise ImportError('not here')\n")
    told = kv("load", "a.kv", "lmdb:e", code=3, env={"PYTHONPATH": str(tmp_path / "blocked")}).stderr
    assert b"pip install lmdb" in told


def test_a_file_of_such_a_name_is_a_file(kv, tmp_path: Path) -> None:
    (tmp_path / "dbm:x").write_text('{"key": "k", "value": "v"}\n')
    assert kv("load", "a.kv", "dbm:x").stderr == b"1 entry loaded\n"


def test_what_was_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    make_lmdb(tmp_path / "e")
    with kvwasi.open(tmp_path / "a.kv") as store, source.open_path(f"lmdb:{tmp_path}/e") as opened:
        assert opened.size == 6002
        assert list(transfer.load(store, opened.entries, 1000))[-1] == 6002 == opened.position()
        assert opened.again is not None
        assert transfer.compare(store, opened.again()) == 0
        store.table("users")["key-00007"] = "changed"
        del store["of the main one"]
        assert transfer.compare(store, opened.again()) == 2


def test_all_or_nothing(kv, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("CREATE TABLE t (key, value)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [("a", "1"), ("b", "2"), ("", "no key")])
        connection.commit()
    kv("load", "a.kv", "sqlite:s.db?table=t", "--batch", "0", code=3)
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert len(store) == 0 and store.tables() == []


def test_errors_have_a_type(tmp_path: Path) -> None:
    with pytest.raises(ForeignError), foreign.open_foreign(f"dbm:{tmp_path}/none"):
        pass
