"""Named tables: each a mapping of its own, all in one file and one transaction."""

import contextlib
import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi
from kvwasi import names, transfer
from kvwasi.formats import source

PAIRS = [(b"%04d" % n, b"v%d" % n) for n in range(1000)]


def test_it_is_a_mapping_of_its_own(store: kvwasi.Store) -> None:
    users = store.table("users")
    store["k"] = "of the store"
    users["k"] = "of the users"
    store.table("other")["k"] = "of the others"
    assert (store["k"], users["k"]) == (b"of the store", b"of the users")
    assert len(store) == len(users) == 1
    assert dict(users) == {b"k": b"of the users"}
    assert "k" in users
    del users["k"]
    assert "k" not in users
    assert store["k"] == b"of the store"
    assert store.table("other")["k"] == b"of the others"


def test_all_verbs(store: kvwasi.Store) -> None:
    table = store.table(b"t")
    table.put_many(PAIRS)
    table.update({"x": "y"}, z="w")
    assert len(table) == 1002
    assert table.get_many(["0003", "nothing", "x"]) == [b"v3", None, b"y"]
    assert table.get("nothing", 7) == 7
    assert table.put("x", "new", overwrite=False) is False
    assert table.put("large", bytes(300_000)) is True
    assert table["large"] == bytes(300_000)
    assert table.get_many(["large"]) == [bytes(300_000)]
    assert table.delete("large") is True
    assert table.delete("large") is False
    assert table.pop("x") == b"y"
    assert table.pop("x", None) is None
    assert table.popitem() == PAIRS[0]
    assert table.setdefault("z", "other") == b"w"
    assert list(table.items(start="0990", stop="1")) == PAIRS[990:]
    assert list(table.keys(prefix="000", reverse=True)) == [k for k, _ in PAIRS[9:0:-1]]
    assert next(reversed(table)) == b"z"
    assert list(table.values(limit=2)) == [b"v1", b"v2"]
    with pytest.raises(kvwasi.KeyNotFoundError):
        table["nothing"]
    with pytest.raises(kvwasi.KeyNotFoundError):
        del table["nothing"]
    table.clear()
    assert len(table) == 0
    assert not table
    assert store.tables() == ["t"]


def test_it_is_made_by_its_first_write(store: kvwasi.Store) -> None:
    table = store.table("t")
    assert store.tables() == []
    assert (len(table), list(table), table.get("k"), table.get_many(["k"]), "k" in table) == (
        0,
        [],
        None,
        [None],
        False,
    )
    assert table.delete("k") is False
    assert table.pop("k", 1) == 1
    with pytest.raises(kvwasi.KeyNotFoundError):
        table["k"]
    with pytest.raises(kvwasi.NoSuchTableError, match="'t'"):
        store.table("t", create=False)
    other = store.table("t")
    table["k"] = "v"
    assert store.tables() == ["t"]
    assert other["k"] == b"v"
    assert store.table("t", create=False)["k"] == b"v"


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_it_is_there_after_reopening(path: Path, sync: kvwasi.store.SyncMode) -> None:
    with kvwasi.open(path, sync=sync) as store:
        store.table("t")["k"] = "v"
        store.table("large")["k"] = bytes(100_000)
        assert store.check() == []
    with kvwasi.open(path, "r") as store:
        assert store.tables() == ["large", "t"]
        assert store.table("t")["k"] == b"v"
        assert store.table("large")["k"] == bytes(100_000)
        absent = store.table("absent")
        assert dict(absent) == {}
        with pytest.raises(kvwasi.ReadOnlyError):
            absent["k"] = "v"


def test_transactions_are_atomic_across_tables(store: kvwasi.Store) -> None:
    old = store.table("old")
    old["k"] = "0"
    with pytest.raises(ZeroDivisionError), store.transaction() as t:
        t["k"] = "1"
        t.table("old")["k"] = "1"
        t.table("new")["k"] = "1"
        assert t.tables() == ["new", "old"]
        raise ZeroDivisionError
    assert (store.get("k"), old["k"], store.tables()) == (None, b"0", ["old"])
    with store.transaction() as t:
        t["k"] = "1"
        t.table("old")["k"] = "1"
        new = t.table("new")
        new.put_many({"a": "1", "b": "2"})
        assert list(new.items(reverse=True)) == [(b"b", b"2"), (b"a", b"1")]
        assert old["k"] == b"0"
        assert store.tables() == ["old"]
    assert (store["k"], old["k"], dict(store.table("new"))) == (b"1", b"1", {b"a": b"1", b"b": b"2"})
    with pytest.raises(kvwasi.ClosedError, match="has ended"):
        new.get("a")
    with pytest.raises(kvwasi.ClosedError, match="has ended"):
        new["a"] = "x"


def test_a_table_made_by_a_transaction_that_was_rolled_back(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        t.table("a")["k"] = "a"
        t.rollback()
    store.table("b")["k"] = "b"  # may have the number that the other one had
    assert store.table("a").get("k") is None
    assert store.tables() == ["b"]


def test_dropping(store: kvwasi.Store) -> None:
    table = store.table("t")
    table.put_many(PAIRS)
    iterator = iter(table)
    assert next(iterator) == PAIRS[0][0]
    assert table["0005"] == b"v5"
    store.drop_table("t")
    assert store.tables() == []
    assert len(list(iterator)) == 999  # it sees the moment at which it was made
    calls: list[Callable[[], object]] = [
        lambda: table["k"],
        lambda: table["0005"],
        lambda: table.get("k"),
        lambda: "k" in table,
        lambda: len(table),
        lambda: list(table),
        lambda: table.get_many(["k"]),
        lambda: table.put("k", "v"),
        lambda: table.put("k", bytes(100_000)),
        lambda: table.delete("k"),
        lambda: table.put_many({"k": "v"}),
        lambda: table.pop("k", None),
        lambda: table.clear(),
    ]
    for call in calls:
        with pytest.raises(kvwasi.NoSuchTableError, match="dropped"):
            call()
    again = store.table("t")
    assert dict(again) == {}
    again["k"] = "v"
    with pytest.raises(kvwasi.NoSuchTableError):  # another table of the same name
        table["k"]
    with pytest.raises(kvwasi.NoSuchTableError, match="no table 'nothing'"):
        store.drop_table("nothing")
    assert store.check() == []


def test_a_drop_that_is_rolled_back(store: kvwasi.Store) -> None:
    table = store.table("t")
    table.put_many(PAIRS)
    with store.transaction() as t:
        inside = t.table("t")
        t.drop_table("t")
        assert t.tables() == []
        with pytest.raises(kvwasi.NoSuchTableError):
            inside.get("0001")
        assert table["0001"] == b"v1"
        t.rollback()
    assert list(table.items()) == PAIRS


def test_thousands_of_tables(path: Path) -> None:
    names = [f"table-{n:05}" for n in range(3000)]
    with kvwasi.open(path, sync="none") as store:
        with store.transaction() as t:
            for name in names:
                t.table(name)["name"] = name
        assert store.tables() == names
        tables = [store.table(name) for name in names]
        for table in tables[::7]:
            table["more"] = "x"
        assert all(table["name"] == table.name.encode() for table in tables)
        for name in names[::2]:
            if name != names[0]:
                continue
            store.drop_table(name)
    with kvwasi.open(path, "r") as store:
        assert store.tables() == names[1:]
        assert store.check() == []


def test_names(store: kvwasi.Store) -> None:
    for name in ("é", "a/b\n", "n" * 1023, "\udcff"):
        store.table(name)["k"] = "v"
    store.table(b"\xfe")["k"] = "v"
    assert store.tables() == ["a/b\n", "n" * 1023, "é", "\udcfe", "\udcff"]
    assert store.table("\udcfe")["k"] == b"v"
    with pytest.raises(kvwasi.KeyEmptyError):
        store.table("")
    with pytest.raises(kvwasi.KeyTooLargeError):
        store.table("n" * 1024)
    assert "'é' of <kvwasi.Store" in repr(store.table("é"))


def test_own_transaction(store: kvwasi.Store) -> None:
    table = store.table("t")
    with store.transaction():
        for call in (lambda: table.put("k", "v"), lambda: table.put_many({"k": "v"}), table.clear):
            with pytest.raises(kvwasi.TransactionError, match="this thread has a transaction open"):
                call()
    table["k"] = "v"
    store.close()
    for call in (
        lambda: table["k"],
        lambda: table.put("k", "v"),
        lambda: list(table),
        lambda: table.delete("k"),
    ):
        with pytest.raises(kvwasi.ClosedError):
            call()


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_threads_make_the_same_tables(path: Path, sync: kvwasi.store.SyncMode) -> None:
    with kvwasi.open(path, sync=sync) as store:
        start = threading.Barrier(6)

        def write(number: int) -> None:
            start.wait(30)
            for n in range(20):
                table = store.table(f"{n}")
                table[f"{number}"] = f"{number}"
                assert table[f"{number}"] == b"%d" % number
                if number == 0 and n % 5 == 4:
                    with contextlib.suppress(kvwasi.NoSuchTableError):
                        store.drop_table(f"gone-{n}")
                store.table(f"gone-{n}").get("k")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert store.tables() == sorted(f"{n}" for n in range(20))
        expected = {b"%d" % number: b"%d" % number for number in range(6)}
        assert all(dict(store.table(name)) == expected for name in store.tables())
        assert store.check() == []


def test_compaction_keeps_tables(store: kvwasi.Store) -> None:
    table = store.table("t")
    for _ in range(3):
        table.put_many(PAIRS)
    store.table("gone").put_many(PAIRS)
    store.drop_table("gone")
    store.compact()
    assert list(table.items()) == PAIRS
    table["new"] = "v"
    assert store.tables() == ["t"]
    assert store.check() == []


# names that kvwasi keeps for itself


@pytest.mark.parametrize("name", ["\0", "\0defaults\0", b"\0series\0t"])
def test_reserved_names(store: kvwasi.Store, name: str | bytes) -> None:
    with store.transaction() as t, store.snapshot() as snap:
        for call in (t.table, t.drop_table, snap.table, store.table):
            with pytest.raises(kvwasi.ReservedNameError, match="begin with NUL"):
                call(name)
    with pytest.raises(kvwasi.ReservedNameError, match="begin with NUL"):
        store.drop_table(name)


def test_reserved_tables_are_not_listed_but_copied(store: kvwasi.Store, path: Path) -> None:
    name = names.reserved_name("expires", b"one")
    kvwasi.Table(store, name)["k"] = "v"
    store.table("t")["k"] = "v"
    with store.snapshot() as snap, store.transaction() as t:
        assert (store.tables(), snap.tables(), t.tables()) == (["t"],) * 3
    assert names.names_of_kind("expires", store._table_names()) == ["one"]
    copy = path.with_name("copy.kv")
    written = store.backup(copy)
    assert (written.tables, written.keys) == (1, 1)
    dumped = io.BytesIO()
    transfer.dump(store, dumped, "jsonl")
    dumped.seek(0)
    with kvwasi.open(copy, "r") as backed_up, kvwasi.open(path.with_name("loaded.kv")) as loaded:
        assert list(transfer.load(loaded, source.read(io.BufferedReader(dumped)), 10)) == [2]
        for other in (backed_up, loaded):
            assert dict(kvwasi.Table(other, name)) == {b"k": b"v"}
