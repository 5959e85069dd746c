"""Compare-and-set, counters, ends and ranges: verbs that read and change at once."""

import random
import threading
from pathlib import Path

import pytest

import kvwasi


def test_put_with_an_expectation(store: kvwasi.Store) -> None:
    assert store.put("k", "1", expect=None)
    assert not store.put("k", "2", expect=None)
    assert not store.put("k", "2", expect="3")
    assert store.put("k", "2", expect=b"1")
    assert store["k"] == b"2"
    assert not store.put("other", "1", expect="1")
    assert "other" not in store
    assert not store.put("k", "3", expect="")  # an empty value is not the same as none
    with pytest.raises(ValueError, match="exclude"):
        store.put("k", "3", expect="2", overwrite=False)


@pytest.mark.parametrize("size", [1, 70_000])
def test_append(store: kvwasi.Store, size: int) -> None:
    value = bytes(size)
    for entries in (store, store.table("t")):
        assert entries.put("b", value, append=True)
        assert not entries.put("b", value, append=True)
        assert not entries.put("a", value, append=True)
        assert entries.put("c", value, append=True)
        del entries["c"]
        assert entries.put("bb", value, append=True)
        assert list(entries) == [b"b", b"bb"]
        with store.transaction() as t:
            inside = t if entries is store else t.table("t")
            assert not inside.put("bb", value, append=True)
            assert inside.put("d", value, append=True)
    with pytest.raises(ValueError, match="excludes"):
        store.put("k", "v", expect=None, append=True)


def test_delete_with_an_expectation(store: kvwasi.Store) -> None:
    store["k"] = "1"
    assert not store.delete("k", expect="2")
    assert not store.delete("k", expect=None)
    assert store.delete("k", expect="1")
    assert not store.delete("k", expect="1")
    assert len(store) == 0


def test_large_values_are_compared_whole(store: kvwasi.Store) -> None:
    value = random.Random(1).randbytes(3_000_000)
    assert store.put("k", value, expect=None)
    assert not store.put("k", "small", expect=value[:-1] + bytes([value[-1] ^ 1]))
    assert store.put("k", "small", expect=value)


@pytest.mark.parametrize("value", [b"", b"1.5", b" 1", b"+1", b"1_0", b"--1", b"9" * 21, "\u0661".encode()])
def test_increment_of_what_is_no_number(store: kvwasi.Store, value: bytes) -> None:
    store["k"] = value
    with pytest.raises(kvwasi.NotANumberError):
        store.increment("k")
    assert store["k"] == value


def test_numbers_have_64_bits(store: kvwasi.Store) -> None:
    assert store.increment("k", (1 << 63) - 1) == (1 << 63) - 1
    with pytest.raises(kvwasi.NotANumberError, match="64 bits"):
        store.increment("k")
    assert store.increment("low", -(1 << 63)) == -(1 << 63)
    assert store.increment("low") == -(1 << 63) + 1
    assert store.increment("new", 2, default=40) == 42


def test_threads_that_count_lose_nothing(path: Path) -> None:
    with kvwasi.open(path, sync="none") as store:
        table = store.table("counters")

        def count() -> None:
            for _ in range(50):
                table.increment("n")
                while True:
                    seen = table.get("cas")
                    if table.put("cas", b"%d" % (int(seen or 0) + 1), expect=seen):
                        break

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(table) == {b"n": b"200", b"cas": b"200"}


def test_ends(store: kvwasi.Store) -> None:
    table = store.table("t")
    assert table.first() is table.last() is table.pop_first() is table.pop_last() is None
    assert store.tables() == []  # looking made none
    table.put_many({"a": "1", "b": "2", "c": "3"})
    with store.snapshot() as snapshot:
        assert table.pop_first() == (b"a", b"1")
        assert table.pop_last() == (b"c", b"3")
        assert table.first() == table.last() == (b"b", b"2")
        assert snapshot.table("t").first() == (b"a", b"1")
        assert snapshot.table("t").count(start="b") == 2


def test_counting_a_range_over_many_leaves(path: Path) -> None:
    keys = [b"%06d" % n for n in range(0, 60_000, 2)]
    with kvwasi.open(path, sync="none", cache_bytes=4 << 20) as store:
        store.put_many((key, b"") for key in keys)
        chance = random.Random(5)
        for _ in range(60):
            low, high = sorted(chance.randrange(60_000) for _ in range(2))
            bounds = {"start": b"%06d" % low, "stop": b"%06d" % high}
            assert store.count(**bounds) == sum(low <= n < high for n in range(0, 60_000, 2))
            with store.transaction() as t:  # counts what it has changed itself
                assert t.delete_range(**bounds) == t._store.count(**bounds)
                assert t.count(**bounds) == 0
                t.put_many((key, b"") for key in keys)
        assert store.count() == len(store) == len(keys)
        assert store.count(prefix="0000") == 50


def test_a_failed_delete_range_deletes_nothing(store: kvwasi.Store) -> None:
    store.put_many({b"%d" % n: b"" for n in range(100)})
    with pytest.raises(RuntimeError), store.transaction() as t:
        assert t.delete_range(start="5", stop="7") == 22
        raise RuntimeError
    assert len(store) == 100
    assert store.delete_range() == 100


def test_a_transaction_of_ones_own_is_open(store: kvwasi.Store) -> None:
    with store.transaction():
        for change in (
            lambda: store.increment("n"),
            lambda: store.put("k", "v", expect="u"),
            store.pop_first,
        ):
            with pytest.raises(kvwasi.TransactionError):
                change()
