"""Ranges: start, stop, prefix, reverse, limit; views and iterators."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvwasi

KEYS = [b"%03d" % n for n in range(0, 900, 3)]


@pytest.fixture
def filled(store: kvwasi.Store) -> kvwasi.Store:
    store.put_many((key, key * 2) for key in KEYS)
    return store


def test_whole(filled: kvwasi.Store) -> None:
    assert list(filled) == KEYS
    assert list(filled.keys()) == KEYS
    assert list(filled.values()) == [key * 2 for key in KEYS]
    assert list(filled.items()) == [(key, key * 2) for key in KEYS]
    assert list(reversed(filled)) == KEYS[::-1]
    assert list(filled.keys(reverse=True)) == KEYS[::-1]
    assert len(filled.keys()) == len(KEYS)


def test_bounds(filled: kvwasi.Store) -> None:
    inside = [key for key in KEYS if b"100" <= key < b"200"]
    assert list(filled.keys(start="100", stop="200")) == inside
    assert list(filled.keys(start="100", stop="200", reverse=True)) == inside[::-1]
    assert list(filled.keys(start="100", stop="200", reverse=True, limit=2)) == inside[:-3:-1]
    assert list(filled.keys(start="102", stop="105")) == [b"102"]
    assert list(filled.keys(start="200", stop="100")) == []
    assert list(filled.keys(stop="")) == []
    assert list(filled.keys(start="")) == KEYS
    assert list(filled.keys(prefix="12")) == [key for key in KEYS if key.startswith(b"12")]
    assert list(filled.keys(prefix="12", start="124", stop="3")) == [b"126", b"129"]
    assert list(filled.keys(limit=0)) == []
    with pytest.raises(ValueError, match="negative"):
        filled.keys(limit=-1)


def test_bounds_longer_than_a_key(store: kvwasi.Store) -> None:
    keys = [b"a" * 1023, b"a" * 1024, b"b", b"\xff" * 1024]
    store.put_many((key, b"") for key in keys)
    assert list(store.keys(start=b"a" * 1025)) == keys[2:]
    assert list(store.keys(stop=b"a" * 1025)) == keys[:2]
    assert list(store.keys(start=b"\xff" * 1025)) == []
    assert list(store.keys(stop=b"\xff" * 1025)) == keys
    assert list(store.keys(prefix=b"\xff" * 1024)) == keys[3:]
    assert list(store.keys(prefix=b"a" * 2000)) == []


def test_views(filled: kvwasi.Store) -> None:
    some = filled.keys(prefix="1")
    assert len(some) == 33
    assert "102" in some
    assert b"201" not in some
    assert b"100" not in some
    assert 5 not in some
    assert list(reversed(some)) == list(some)[::-1]
    assert some & {b"102", b"201"} == {b"102"}
    assert (b"102", b"102102") in filled.items()
    assert (b"102", b"x") not in filled.items()
    assert b"102102" in filled.values(prefix="10")
    limited = filled.keys(limit=3)
    assert list(reversed(limited)) == [b"006", b"003", b"000"]
    assert b"009" not in limited
    assert len(limited) == 3
    filled["1000"] = ""
    assert len(some) == 34  # a view is not a copy


def test_an_iterator_sees_the_store_as_it_was(filled: kvwasi.Store) -> None:
    iterator = iter(filled.items())
    first = next(iterator)
    filled["000"] = "changed"
    filled["899"] = "changed"
    del filled["450"]
    filled["zzz"] = "new"
    assert [first, *iterator] == [(key, key * 2) for key in KEYS]
    assert filled["899"] == b"changed"


def test_a_dropped_iterator_gives_its_cursor_back(filled: kvwasi.Store) -> None:
    for _ in range(3000):  # more than may be open at once
        assert next(iter(filled)) == b"000"
    kept = [iter(filled) for _ in range(1024)]
    with pytest.raises(kvwasi.TooManyIteratorsError):
        iter(filled)
    assert filled.stats().cursors == 1024
    del kept
    assert filled.stats().cursors == 0


def test_an_exhausted_iterator_stays_so(filled: kvwasi.Store) -> None:
    iterator = iter(filled)
    assert len(list(iterator)) == len(KEYS)
    assert list(iterator) == []
    assert filled.stats().cursors == 0


@given(
    present=st.sets(st.binary(min_size=1, max_size=4)),
    start=st.none() | st.binary(max_size=4),
    stop=st.none() | st.binary(max_size=4),
    prefix=st.none() | st.binary(max_size=2),
    reverse=st.booleans(),
    limit=st.none() | st.integers(0, 8),
)
@settings(max_examples=150, deadline=None)
def test_any_range_is_as_of_a_sorted_list(
    tmp_path_factory: pytest.TempPathFactory,
    present: set[bytes],
    start: bytes | None,
    stop: bytes | None,
    prefix: bytes | None,
    reverse: bool,
    limit: int | None,
) -> None:
    global _shared
    if _shared is None:
        _shared = kvwasi.open(tmp_path_factory.mktemp("ranges") / "my.kv", sync="none")
    store = _shared
    with store.transaction() as transaction:
        transaction.clear()
        transaction.put_many((key, b"v" + key) for key in present)
    inside = sorted(
        key
        for key in present
        if (start is None or key >= start)
        and (stop is None or key < stop)
        and (prefix is None or key.startswith(prefix))
    )
    expected = list(itertools.islice(inside[::-1] if reverse else inside, limit))
    bounds = {"start": start, "stop": stop, "prefix": prefix, "reverse": reverse, "limit": limit}
    assert list(store.keys(**bounds)) == expected
    assert list(store.items(**bounds)) == [(key, b"v" + key) for key in expected]
    assert list(reversed(store.values(**bounds))) == [b"v" + key for key in expected[::-1]]


_shared: kvwasi.Store | None = None
