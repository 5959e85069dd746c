"""Savepoints: parts of a transaction that are undone on their own."""

from collections.abc import Callable

import pytest

import kvwasi


def test_rolled_back_when_the_block_raises(store: kvwasi.Store) -> None:
    store["a"] = "0"
    with store.transaction() as t:
        t["a"] = "1"
        with pytest.raises(ZeroDivisionError), t.savepoint():
            t["a"] = "2"
            t["b"] = "2"
            t["large"] = bytes(300_000)
            t.table("t")["k"] = "2"
            raise ZeroDivisionError
        assert dict(t) == {b"a": b"1"}
        assert t.tables() == []
        with t.savepoint() as kept:
            t["c"] = "3"
            assert kept.active
        assert not kept.active
    assert dict(store) == {b"a": b"1", b"c": b"3"}
    assert store.check() == []


def test_explicit_ends(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        first = t.savepoint()
        t["a"] = "1"
        first.release()
        with t.savepoint() as second:
            t["b"] = "1"
            second.rollback()
            t["c"] = "1"
        with t.savepoint() as third:
            t["d"] = "1"
            third.release()
        for ended in (first, second, third):
            assert not ended.active
            assert "ended" in repr(ended)
            for call in (ended.release, ended.rollback):
                with pytest.raises(kvwasi.ClosedError, match="savepoint has ended"):
                    call()
    assert dict(store) == {b"a": b"1", b"c": b"1", b"d": b"1"}


def test_ending_one_ends_those_within(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        outer = t.savepoint()
        t["a"] = "1"
        inner = t.savepoint()
        t["b"] = "1"
        outer.rollback()
        assert not inner.active
        assert len(t) == 0
        outer = t.savepoint()
        t["c"] = "1"
        inner = t.savepoint()
        t["d"] = "1"
        outer.release()
        assert not inner.active
    assert dict(store) == {b"c": b"1", b"d": b"1"}


def test_they_nest_63_deep(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        points = []
        for n in range(63):
            points.append(t.savepoint())
            t[f"{n:02}"] = f"{n}"
            t["last"] = f"{n}"
        with pytest.raises(kvwasi.TooManySavepointsError, match="63"):
            t.savepoint()
        assert isinstance(kvwasi.TooManySavepointsError(), kvwasi.TransactionError)
        points[40].rollback()
        assert (len(t), t["last"]) == (41, b"39")
        points[20].release()
        points[10].rollback()
    assert (len(store), store["last"]) == (11, b"9")


@pytest.mark.parametrize("count", [10, 5000])
def test_much_is_undone(store: kvwasi.Store, count: int) -> None:
    """More than the log keeps in memory, and more than the index's cache of keys takes lightly."""
    pairs = {b"%05d" % n: b"old%d" % n * 10 for n in range(count)}
    store.put_many(pairs)
    store.table("t").put_many(pairs)
    with store.transaction() as t:
        t["before"] = "1"
        with t.savepoint() as point:
            t.put_many(dict.fromkeys(pairs, b"new" * 10))
            t.table("t").clear()
            point.rollback()
        assert t["before"] == b"1"
        assert t.get_many(list(pairs)) == list(pairs.values())
        assert dict(t.table("t")) == pairs
        with t.savepoint():
            t["after"] = "1"
    assert dict(store) == {**pairs, b"before": b"1", b"after": b"1"}
    assert store.get_many(list(pairs)) == list(pairs.values())
    assert dict(store.table("t")) == pairs
    path = store.path
    store.close()
    with kvwasi.open(path) as again:
        assert dict(again) == {**pairs, b"before": b"1", b"after": b"1"}
        assert again.check() == []


def test_tables_made_and_dropped_within(store: kvwasi.Store) -> None:
    store.table("old")["k"] = "v"
    with store.transaction() as t:
        old, made = t.table("old"), t.table("made")
        with t.savepoint() as point:
            made["k"] = "v"
            t.drop_table("old")
            point.rollback()
        assert t.tables() == ["old"]
        assert old["k"] == b"v"
        other = t.table("other")
        other["k"] = "other"  # may have the number that `made` had
        assert made.get("k") is None
        made["k"] = "again"
        assert (made["k"], other["k"]) == (b"again", b"other")
    assert store.tables() == ["made", "old", "other"]


_CALLS: dict[str, Callable[[kvwasi.Savepoint], object]] = {
    "release": lambda s: s.release(),
    "rollback": lambda s: s.rollback(),
}


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in _CALLS.items()])
@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_use_after_the_transaction(
    store: kvwasi.Store, call: Callable[[kvwasi.Savepoint], object], end: str
) -> None:
    t = store.transaction()
    point = t.savepoint()
    t["k"] = "v"
    if end == "close":
        store.close()
    else:
        getattr(t, end)()
        assert ("k" in store) == (end == "commit")
    assert not point.active
    with pytest.raises(kvwasi.ClosedError):
        call(point)
    with pytest.raises(kvwasi.ClosedError):
        t.savepoint()


def test_a_transaction_that_is_dropped_with_savepoints(store: kvwasi.Store) -> None:
    t = store.transaction()
    point = t.savepoint()
    t["k"] = "v"
    del t, point
    store["a"] = "1"
    assert dict(store) == {b"a": b"1"}
