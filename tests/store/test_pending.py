"""Puts of a transaction wait, and are merged into its tree in key order: nobody must be able to tell."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi

BATCH = 262_000  # puts, see guest-db/src/pending.c


def _numbered(generator: random.Random) -> bytes:
    return b"%012d" % generator.randrange(200_000)


def _alike(generator: random.Random) -> bytes:
    """The same for longer than what is sorted by at first, and of all lengths."""
    return (
        b"a/long/way/to/"
        + b"x" * generator.randrange(12)
        + b"\0" * generator.randrange(3)
        + b"%x" % generator.randrange(9000)
    )


def _bytes(generator: random.Random) -> bytes:
    return generator.randbytes(generator.randrange(1, 12)) + generator.randbytes(3)


@pytest.mark.parametrize("make_key", [_numbered, _alike, _bytes])
def test_many_puts_are_as_one_by_one(store: kvwasi.Store, make_key: Callable[[random.Random], bytes]) -> None:
    generator = random.Random(7)
    model: dict[bytes, bytes] = {}
    for key in (make_key(generator) for _ in range(1000)):
        store.put(key, b"before")
        model[key] = b"before"
    with store.transaction() as transaction:
        for number in range(2 * BATCH + 5000):
            key = make_key(generator)
            model[key] = b"%d" % number
            transaction.put(key, model[key])
        assert transaction.get(key) == model[key]
    assert dict(store.items()) == model
    assert list(store) == sorted(model)
    assert store.check() == []


def test_every_way_to_look_sees_them(store: kvwasi.Store) -> None:
    generator = random.Random(8)
    model: dict[bytes, bytes] = {}
    table = store.table("t")
    with store.transaction() as transaction:
        named, of_table = transaction.table("t"), dict[bytes, bytes]()
        for number in range(3000):
            key, value = _numbered(generator), b"%d" % number
            if number % 3 == 0:
                named.put(key, value)
                of_table[key] = value
            else:
                transaction.put(key, value)
                model[key] = value
            match number % 500:
                case 99:
                    assert len(transaction) == len(model) and len(named) == len(of_table)
                case 199:
                    assert next(iter(transaction)) == min(model) and next(reversed(named)) == max(of_table)
                case 299:
                    transaction.delete(key) if number % 3 else named.delete(key)
                    del (model if number % 3 else of_table)[key]
                case 399:
                    assert transaction.get_many(sorted(model)) == [model[one] for one in sorted(model)]
    assert dict(store.items()) == model and dict(table.items()) == of_table


def test_a_savepoint_takes_back_only_what_came_after_it(store: kvwasi.Store) -> None:
    with store.transaction() as transaction:
        for number in range(5000):
            transaction.put(b"%d" % (number * 7919 % 5000), b"first")
        with pytest.raises(KeyError), transaction.savepoint():
            for number in range(5000):
                transaction.put(b"%d" % (number * 7919 % 10_000), b"second")
            raise KeyError
        transaction.put(b"4", b"third")
    assert len(store) == 5000
    assert store[b"4"] == b"third" and store[b"5"] == b"first"


def test_a_rollback_leaves_nothing_of_them(store: kvwasi.Store) -> None:
    store[b"7"] = b"before"
    with pytest.raises(KeyError), store.transaction() as transaction:
        for number in range(BATCH + 100):
            transaction.put(b"%d" % number, b"x")
        raise KeyError
    with store.transaction() as transaction:  # nor for the next one
        transaction.put(b"a", b"b")
    assert dict(store.items()) == {b"7": b"before", b"a": b"b"}
    assert store.get(b"8") is None


def test_they_survive_reopening_with_a_small_cache(path: Path) -> None:
    """The tree is larger than the cache: nodes on the way to the next key are evicted meanwhile."""
    generator = random.Random(9)
    model: dict[bytes, bytes] = {}
    with kvwasi.open(path, sync="none", cache_bytes=4 << 20) as store, store.transaction() as transaction:
        for number in range(4 * BATCH):
            key = b"%064d" % generator.randrange(10**9)
            model[key] = b"%d" % number
            transaction.put(key, model[key])
    with kvwasi.open(path, flag="r") as store:
        assert dict(store.items()) == model
        assert store.check() == []
