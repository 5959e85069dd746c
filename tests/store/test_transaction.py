"""Transactions: atomic, isolated, rolled back on an exception, in order."""

import gc
import threading
from pathlib import Path

import pytest

import kvwasi


def test_commit_and_reading_own_writes(store: kvwasi.Store) -> None:
    store["a"] = "0"
    with store.transaction() as t:
        t["a"] = "1"
        t["b"] = "2"
        assert t["a"] == b"1"
        assert t.get_many(["a", "b", "c"]) == [b"1", b"2", None]
        assert list(t.items()) == [(b"a", b"1"), (b"b", b"2")]
        assert len(t) == 2
        assert store["a"] == b"0"
        assert list(store) == [b"a"]
        del t["a"]
        assert t.pop("b") == b"2"
        t.update(c="3")
        assert t.setdefault("c", "x") == b"3"
        assert t.put("c", "x", overwrite=False) is False
    assert dict(store) == {b"c": b"3"}


def test_rolled_back_on_an_exception(store: kvwasi.Store) -> None:
    store["a"] = "1"
    with pytest.raises(ZeroDivisionError), store.transaction() as t:
        t["a"] = "2"
        t["b"] = "2"
        t["large"] = bytes(300_000)
        raise ZeroDivisionError
    assert dict(store) == {b"a": b"1"}
    store["c"] = "3"  # the way is free again


def test_explicit_end(store: kvwasi.Store) -> None:
    t = store.transaction()
    t["a"] = "1"
    t.commit()
    with store.transaction() as t:
        t["a"] = "2"
        t.rollback()
    with store.transaction() as t:
        t["b"] = "1"
        t.commit()
    assert dict(store) == {b"a": b"1", b"b": b"1"}


_VERBS = {
    "getitem": lambda t: t["k"],
    "get": lambda t: t.get("k"),
    "contains": lambda t: "k" in t,
    "len": len,
    "bool": bool,
    "setitem": lambda t: t.__setitem__("k", "v"),
    "put": lambda t: t.put("k", "v"),
    "put large": lambda t: t.put("k", bytes(100_000)),
    "put_many": lambda t: t.put_many([("k", "v")]),
    "update": lambda t: t.update(k="v"),
    "setdefault": lambda t: t.setdefault("k", "v"),
    "delitem": lambda t: t.__delitem__("k"),
    "delete": lambda t: t.delete("k"),
    "pop": lambda t: t.pop("k"),
    "popitem": lambda t: t.popitem(),
    "clear": lambda t: t.clear(),
    "cursor": lambda t: t.cursor().next(),
    "table": lambda t: t.table("t"),
    "tables": lambda t: t.tables(),
    "drop_table": lambda t: t.drop_table("t"),
    "series": lambda t: t.series("s").append(1),
    "series_names": lambda t: t.series_names(),
    "drop_series": lambda t: t.drop_series("s"),
    "savepoint": lambda t: t.savepoint(),
    "get_many": lambda t: t.get_many(["k"]),
    "iter": list,
    "reversed": lambda t: list(reversed(t)),
    "keys": lambda t: list(t.keys()),
    "values": lambda t: list(t.values()),
    "items": lambda t: list(t.items()),
}
_ENDS = {"commit": lambda t: t.commit(), "rollback": lambda t: t.rollback()}


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in {**_VERBS, **_ENDS}.items()])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_use_after_the_end(store: kvwasi.Store, call, end: str) -> None:  # type: ignore[no-untyped-def]
    t = store.transaction()
    t["k"] = "v"
    getattr(t, end)()
    assert not t.active
    with pytest.raises(kvwasi.ClosedError, match="has ended"):
        call(t)
    with store.transaction() as other:  # neither does it reach the next one
        with pytest.raises(kvwasi.ClosedError):
            call(t)
        other["mine"] = "1"
    assert store["mine"] == b"1"


def test_an_iterator_ends_with_its_transaction(store: kvwasi.Store) -> None:
    store.put_many((f"{n:04}", "v") for n in range(2000))
    with store.transaction() as t:
        t["0000x"] = "new"
        iterator = iter(t)
        assert [next(iterator), next(iterator)] == [b"0000", b"0000x"]
    with pytest.raises(kvwasi.ClosedError):
        list(iterator)
    others = iter(store)  # may have the same cursor in the engine
    next(others)
    del iterator
    gc.collect()
    assert len(list(others)) == 2000


def test_a_failed_put_leaves_the_transaction_usable(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        t["a"] = "1"
        for bad in (b"", bytes(1025)):
            with pytest.raises(ValueError, match="a key has at"):
                t[bad] = "x"
        with pytest.raises(kvwasi.KeyEmptyError):
            t.put_many([("b", "2"), ("", "x"), ("c", "3")])
    assert dict(store) == {b"a": b"1", b"b": b"2"}


def test_writing_past_ones_own_transaction(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        for call in (
            lambda: store.put("k", "v"),
            lambda: store.put("k", bytes(100_000)),
            lambda: store.delete("k"),
            lambda: store.put_many([("k", "v")]),
            store.transaction,
            store.compact,
            store.clear,
        ):
            with pytest.raises(kvwasi.TransactionError, match="this thread has a transaction open"):
                call()
        t["a"] = "1"
    assert dict(store) == {b"a": b"1"}


def test_a_dropped_transaction_is_rolled_back(store: kvwasi.Store) -> None:
    t = store.transaction()
    t["k"] = "v"
    del t
    gc.collect()
    store["a"] = "1"
    assert dict(store) == {b"a": b"1"}


def test_dropping_an_ended_transaction_does_not_hide_a_dropped_one(store: kvwasi.Store) -> None:
    ended = store.transaction()
    ended.commit()
    dropped = store.transaction()
    dropped["k"] = "v"
    del dropped
    del ended
    gc.collect()
    store["a"] = "1"
    assert dict(store) == {b"a": b"1"}


def test_a_dropped_transaction_lets_waiters_on(store: kvwasi.Store) -> None:
    t = store.transaction()
    writer = threading.Thread(target=store.put, args=("k", "v"))
    writer.start()
    del t
    gc.collect()
    writer.join(30)
    assert store["k"] == b"v"


def test_others_wait_in_order(store: kvwasi.Store) -> None:
    order: list[int] = []

    def write(number: int) -> None:
        with store.transaction() as t:
            order.append(number)
            t[f"{number}"] = "x"

    t = store.transaction()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        while store._session.writers_waiting <= number:
            thread.join(0.001)
            assert thread.is_alive()
    assert order == []
    t.commit()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]
    assert len(store) == 5


def test_waiting_has_an_end(path: Path) -> None:
    with kvwasi.open(path, sync="none", timeout=0.05) as store:
        failures: list[BaseException] = []

        def write() -> None:
            for call in (
                lambda: store.put("k", "v"),
                store.transaction,
                lambda: store.delete("k"),
                store.compact,
            ):
                try:
                    call()
                except kvwasi.KvError as error:
                    failures.append(error)

        with store.transaction() as t:
            t["k"] = "mine"
            thread = threading.Thread(target=write)
            thread.start()
            thread.join(30)
        assert [type(failure) for failure in failures] == [kvwasi.TransactionTimeoutError] * 4
        assert all(isinstance(failure, TimeoutError) for failure in failures)
        assert store["k"] == b"mine"


def test_sync_per_transaction(path: Path) -> None:
    with kvwasi.open(path, sync="none") as store:
        with store.transaction() as t:
            t["a"] = "1"
        stats = store.stats()
        assert stats.durable_position < stats.end_position
        with store.transaction(sync="commit") as t:
            t["b"] = "1"
        stats = store.stats()
        assert stats.durable_position == stats.end_position
        with pytest.raises(ValueError, match="sync is one of"):
            store.transaction(sync="often")  # type: ignore[arg-type]
    with kvwasi.open(path, sync="commit") as store:
        before = store.stats().durable_position
        with store.transaction(sync="none") as t:
            t["c"] = "1"
        assert store.stats().durable_position == before
        assert store["c"] == b"1"


def test_closing_rolls_back(path: Path) -> None:
    store = kvwasi.open(path)
    t = store.transaction()
    t["k"] = "v"
    store.close()
    with pytest.raises(kvwasi.ClosedError):
        t.commit()
    with kvwasi.open(path, "r") as store:
        assert len(store) == 0


def test_the_block_of_a_closed_store_tells(path: Path) -> None:
    store = kvwasi.open(path)
    with pytest.raises(kvwasi.ClosedError), store.transaction() as t:
        t["k"] = "v"
        store.close()


def test_repr(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        assert "open" in repr(t)
    assert "ended" in repr(t)
