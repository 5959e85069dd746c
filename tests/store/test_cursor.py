"""Cursors against a sorted list: moves in both directions, over one moment or a transaction's own changes."""

import bisect
import random
from collections.abc import Callable
from typing import Any

import pytest

import kvwasi

FRUIT = {"apple": "1", "fig": "2", "lime": "3", "pear": "4"}


@pytest.fixture
def fruit(store: kvwasi.Store) -> kvwasi.Store:
    store.put_many(FRUIT)
    store.table("fruit").put_many(FRUIT)
    return store


def over(store: kvwasi.Store, what: str) -> kvwasi.Cursor:
    if what == "store":
        return store.cursor()
    if what == "snapshot":
        return store.snapshot().cursor()
    if what == "transaction":
        return store.transaction().cursor()
    if what == "table of a snapshot":
        return store.snapshot().table("fruit").cursor()
    if what == "table of a transaction":
        return store.transaction().table("fruit").cursor()
    return store.table("fruit").cursor()


KINDS = ["store", "table", "snapshot", "table of a snapshot", "transaction", "table of a transaction"]


@pytest.mark.parametrize("what", KINDS)
def test_moves(fruit: kvwasi.Store, what: str) -> None:
    cursor = over(fruit, what)
    assert not cursor.valid
    for name in ("key", "value", "item"):
        with pytest.raises(kvwasi.KeyNotFoundError, match="at no entry"):
            getattr(cursor, name)
    assert cursor.first()
    assert (cursor.key, cursor.value, cursor.item) == (b"apple", b"1", (b"apple", b"1"))
    assert not cursor.prev()
    assert not cursor.valid
    assert not cursor.prev()
    assert cursor.next()
    assert cursor.key == b"apple"
    assert cursor.last()
    assert cursor.key == b"pear"
    assert not cursor.next()
    assert not cursor.next()
    assert cursor.prev()
    assert cursor.key == b"pear"
    assert cursor.prev()
    assert cursor.key == b"lime"
    assert cursor.seek("b")
    assert cursor.key == b"fig"
    assert cursor.seek(b"fig")
    assert cursor.key == b"fig"
    assert not cursor.seek("z")
    assert cursor.prev()
    assert cursor.key == b"pear"
    assert cursor.seek_exact("lime")
    assert cursor.value == b"3"
    assert not cursor.seek_exact("l")
    assert not cursor.valid
    assert cursor.next()
    assert cursor.key == b"lime"
    assert not cursor.seek_exact("l")
    assert cursor.prev()
    assert cursor.key == b"fig"
    assert cursor.seek_prefix("pe")
    assert cursor.key == b"pear"
    assert not cursor.seek_prefix("g")
    assert cursor.next()
    assert cursor.key == b"lime"
    assert [key for key, _ in cursor] == [b"lime", b"pear"]
    assert [key for key, _ in reversed(cursor)] == [b"pear", b"lime", b"fig", b"apple"]
    assert "Cursor over" in repr(cursor)


def test_over_nothing(store: kvwasi.Store) -> None:
    for cursor in (store.cursor(), store.table("t").cursor()):
        moves = (cursor.first, cursor.last, cursor.next, cursor.prev, lambda c=cursor: c.seek(""))
        assert not any(move() for move in moves)
        assert list(cursor) == list(reversed(cursor)) == []


def test_a_new_one_goes_to_either_end(fruit: kvwasi.Store) -> None:
    with fruit.cursor() as forwards, fruit.cursor() as backwards:
        assert next(iter(forwards))[0] == b"apple"
        assert next(reversed(backwards))[0] == b"pear"
    assert fruit.stats().snapshots == 0


def test_it_sees_one_moment(fruit: kvwasi.Store) -> None:
    with fruit.cursor() as cursor, fruit.table("fruit").cursor() as other:
        assert cursor.next()
        del fruit["fig"]
        fruit["grape"] = "new"
        fruit.drop_table("fruit")
        assert [key for key, _ in cursor] == [key.encode() for key in FRUIT]
        assert [key for key, _ in other] == [key.encode() for key in FRUIT]
        with pytest.raises(kvwasi.TransactionError, match="write transaction"):
            cursor.delete()
    with pytest.raises(kvwasi.NoSuchTableError):
        fruit.snapshot().table("fruit").cursor()


def test_it_sees_the_transaction_s_changes(fruit: kvwasi.Store) -> None:
    with fruit.transaction() as t:
        cursor = t.cursor()
        assert cursor.first()
        t["banana"] = "new"
        t["apple"] = "changed"
        assert cursor.value == b"changed"
        assert cursor.next()
        assert cursor.item == (b"banana", b"new")
        del t["banana"]
        assert not cursor.valid
        assert cursor.next()
        assert cursor.key == b"fig"
        with t.savepoint() as point:
            t.clear()
            assert not cursor.next()
            point.rollback()
        assert cursor.next()
        assert cursor.key == b"lime"
        assert cursor.last()
        t["z"] = "new"
        assert cursor.next()
        assert cursor.key == b"z"
        assert not cursor.next()
        t["zz"] = "new"
        assert cursor.next()
        assert cursor.key == b"zz"


def test_deleting(fruit: kvwasi.Store) -> None:
    fruit.put_many((f"n{n:04}", f"{n}") for n in range(1000))
    with fruit.transaction() as t:
        cursor = t.cursor()
        assert not cursor.delete()
        assert cursor.seek_prefix("n")
        for key, value in cursor:
            if key.startswith(b"n") and int(value) % 3:
                assert cursor.delete()
                assert not cursor.delete()
        for key, value in reversed(cursor):
            if key.startswith(b"n") and int(value) % 2:
                assert cursor.delete()
    assert list(fruit.keys(prefix="n")) == [b"n%04d" % n for n in range(0, 1000, 6)]
    assert len(fruit) == 4 + 167
    assert fruit.check() == []


_CALLS: dict[str, Callable[[kvwasi.Cursor], object]] = {
    "first": lambda c: c.first(),
    "last": lambda c: c.last(),
    "seek": lambda c: c.seek("a"),
    "seek_exact": lambda c: c.seek_exact("a"),
    "seek_prefix": lambda c: c.seek_prefix("a"),
    "next": lambda c: c.next(),
    "prev": lambda c: c.prev(),
    "key": lambda c: c.key,
    "view": lambda c: c.view,
    "value": lambda c: c.value,
    "item": lambda c: c.item,
    "valid": lambda c: c.valid,
    "delete": lambda c: c.delete(),
    "iter": list,
    "reversed": lambda c: list(reversed(c)),
    "enter": lambda c: c.__enter__(),
}


def test_every_method_is_among_the_calls() -> None:
    assert {name for name in dir(kvwasi.Cursor) if not name.startswith("_")} - {"close"} <= set(_CALLS)


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in _CALLS.items()])
@pytest.mark.parametrize("end", ["cursor", "snapshot", "transaction", "store"])
def test_use_after_close(fruit: kvwasi.Store, call: Callable[[kvwasi.Cursor], object], end: str) -> None:
    snap, t = fruit.snapshot(), fruit.transaction()
    cursors = {
        "cursor": fruit.cursor(),
        "snapshot": snap.cursor(),
        "transaction": t.cursor(),
        "store": fruit.cursor(),
    }
    cursor = cursors[end]
    assert cursor.first()
    {"cursor": cursor.close, "snapshot": snap.close, "transaction": t.commit, "store": fruit.close}[end]()
    with pytest.raises(kvwasi.ClosedError):
        call(cursor)
    cursor.close()
    cursor.close()


def expected_move(keys: list[bytes], state: tuple[Any, str], reverse: bool) -> bytes | None:
    place, side = state
    if place is None:
        return keys[-1 if reverse else 0] if keys else None
    left, right = bisect.bisect_left(keys, place), bisect.bisect_right(keys, place)
    if reverse:
        at = (right if side == "behind" else left) - 1
        return keys[at] if at >= 0 else None
    at = left if side == "before" else right
    return keys[at] if at < len(keys) else None


@pytest.mark.parametrize("seed", range(6))
def test_random_walks(store: kvwasi.Store, seed: int) -> None:
    """Moves and writes of one transaction, against a sorted list and the rules of where a cursor stands."""
    choose = random.Random(seed)
    print("seed", seed)
    model = {b"%03d" % choose.randrange(300): b"%d" % n for n in range(100)}
    model[b"\xff" * 1024] = b"longest"
    store.table("t").put_many(model)
    with store.transaction() as t:
        table = t.table("t")
        cursor = table.cursor()
        state: tuple[bytes | None, str] = (None, "before")
        for _ in range(600):
            keys = sorted(model)
            key = b"%03d" % choose.randrange(300)
            action = choose.choice(["next"] * 6 + ["prev"] * 6 + ["seek", "exact", "put", "delete", "remove"])
            if action in ("next", "prev"):
                found = expected_move(keys, state, action == "prev")
                assert getattr(cursor, action)() == (found is not None)
                if found is not None:
                    state = (found, "at")
                elif state[1] == "at":
                    state = (state[0], "before" if action == "prev" else "behind")
            elif action == "seek":
                at = bisect.bisect_left(keys, key)
                assert cursor.seek(key) == (at < len(keys))
                state = (keys[at], "at") if at < len(keys) else (key, "before")
            elif action == "exact":
                assert cursor.seek_exact(key) == (key in model)
                state = (key, "at" if key in model else "before")
            elif action == "put":
                table[key] = model[key] = b"new"
            else:
                doomed = key if action == "remove" else state[0]
                there = doomed in model if action == "remove" else state[1] == "at"
                done = table.delete(key) if action == "remove" else cursor.delete()
                assert done == there
                if there and doomed is not None:
                    del model[doomed]
                    state = (state[0], "before") if state == (doomed, "at") else state
            assert cursor.valid == (state[1] == "at")
            if state[1] == "at":
                assert state[0] is not None
                assert cursor.item == (state[0], model[state[0]])
