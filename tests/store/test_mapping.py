"""A store is a mapping from bytes to bytes, in key order."""

import shelve
from collections.abc import MutableMapping
from pathlib import Path

import pytest

import kvwasi


def test_put_get_delete(store: kvwasi.Store) -> None:
    store["b"] = "2"
    store[b"a"] = b"1"
    assert store["a"] == b"1"
    assert store.get(b"b") == b"2"
    assert list(store) == [b"a", b"b"]
    assert len(store) == 2
    del store["a"]
    assert "a" not in store
    assert store.delete("b") is True
    assert store.delete("b") is False
    assert not store


def test_missing_key(store: kvwasi.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store["nope"]
    assert isinstance(caught.value, kvwasi.KeyNotFoundError)
    with pytest.raises(kvwasi.KeyNotFoundError):
        del store["nope"]
    assert store.get("nope") is None
    assert store.get("nope", b"d") == b"d"
    assert store.get("nope", 7) == 7


def test_is_a_mutable_mapping(store: kvwasi.Store) -> None:
    assert isinstance(store, MutableMapping)
    store.update({"a": "1"}, b="2")
    store.update([("c", "3")])
    assert dict(store) == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert store == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert store.setdefault("a", "9") == b"1"
    assert store.setdefault("d", "4") == b"4"
    assert store.pop("d") == b"4"
    assert store.pop("d", None) is None
    with pytest.raises(KeyError):
        store.pop("d")
    assert store.popitem() == (b"a", b"1")
    store.clear()
    assert len(store) == 0
    with pytest.raises(KeyError):
        store.popitem()


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"axb")[1:2], "x"])
def test_keys_and_values_are_bytes_like_or_str(store: kvwasi.Store, data: bytes) -> None:
    store[data] = data
    assert list(store.items()) == [(b"x", b"x")]
    assert store[data] == b"x"
    assert data in store
    assert store.get_many([data]) == [b"x"]
    store.put_many([(data, data)])
    assert store.pop(data) == b"x"


def test_str_is_utf8(store: kvwasi.Store) -> None:
    store["é"] = "☃"
    assert store["é".encode()] == "☃".encode()
    with pytest.raises(UnicodeEncodeError):
        store["\ud800"] = ""


@pytest.mark.parametrize("bad", [1, None, 1.5, ["a"], memoryview(bytes(16)).cast("I")[::2]])
def test_other_types_are_refused(store: kvwasi.Store, bad: object) -> None:
    error = (TypeError, BufferError)
    with pytest.raises(error):
        store[bad] = b""  # type: ignore[index]
    with pytest.raises(error):
        store["k"] = bad  # type: ignore[assignment]
    with pytest.raises(error):
        store.get(bad)  # type: ignore[call-overload]
    with pytest.raises(error):
        _ = bad in store
    with pytest.raises(error):
        store.put_many([("k", bad)])
    with pytest.raises(error):
        store.get_many([bad])  # type: ignore[list-item]
    assert len(store) == 0


def test_binary_safe(store: kvwasi.Store) -> None:
    keys = [b"\0", b"\0\0", b"\xff" * 1024, b"\xff", b"a\0b", b"a"]
    for key in keys:
        store[key] = key[::-1]
    assert list(store.items()) == [(key, key[::-1]) for key in sorted(keys)]


@pytest.mark.parametrize("key", [b"", ""])
def test_empty_key(store: kvwasi.Store, key: bytes) -> None:
    for call in _KEY_CALLS:
        with pytest.raises(kvwasi.KeyEmptyError):
            call(store, key)


def test_long_key(store: kvwasi.Store) -> None:
    store[b"k" * 1024] = b"1"
    assert store[b"k" * 1024] == b"1"
    for call in _KEY_CALLS:
        with pytest.raises(kvwasi.KeyTooLargeError):
            call(store, b"k" * 1025)


_KEY_CALLS = [
    lambda s, k: s[k],
    lambda s, k: s.get(k),
    lambda s, k: k in s,
    lambda s, k: s.put(k, "v"),
    lambda s, k: s.delete(k),
    lambda s, k: s.pop(k),
    lambda s, k: s.setdefault(k, "v"),
    lambda s, k: s.get_many(["fine", k]),
    lambda s, k: s.put_many([(k, "v")]),
]


def test_put_without_overwriting(store: kvwasi.Store) -> None:
    assert store.put("k", "1", overwrite=False) is True
    assert store.put("k", "2", overwrite=False) is False
    assert store["k"] == b"1"
    assert store.put("k", "2") is True
    assert store["k"] == b"2"


def test_get_many(store: kvwasi.Store) -> None:
    numbers = range(5000)
    store.put_many({f"{n:05}": "v" * (n % 50) for n in numbers})
    wanted = [f"{n:05}" for n in reversed(numbers)]
    assert store.get_many(wanted) == [b"v" * (n % 50) for n in reversed(numbers)]
    assert store.get_many(iter(["nope", "00007", "00007"])) == [None, b"v" * 7, b"v" * 7]
    assert store.get_many([]) == []


def test_put_many_is_atomic(store: kvwasi.Store) -> None:
    def pairs() -> "list[tuple[str, str]]":
        yield from ((f"k{n}", "v") for n in range(10_000))
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.put_many(pairs())
    assert len(store) == 0
    with pytest.raises(ValueError, match="unpack"):
        store.put_many([("a", "1"), ("b",)])
    assert "a" not in store


def test_values_are_replaced_by_others_of_any_length(store: kvwasi.Store) -> None:
    for length in (0, 1, 10_000, 3, 0):
        store["k"] = bytes(length)
        assert store["k"] == bytes(length)


def test_shelve(path: Path) -> None:
    with shelve.Shelf(kvwasi.open(path)) as shelf:
        shelf["list"] = [1, 2]
        shelf["dict"] = {"a": None}
        shelf.sync()
    with shelve.Shelf(kvwasi.open(path), writeback=True) as shelf:
        shelf["list"].append(3)
    with shelve.Shelf(kvwasi.open(path, "r")) as shelf:
        assert dict(shelf) == {"list": [1, 2, 3], "dict": {"a": None}}


def test_stats_check_repr(store: kvwasi.Store, path: Path) -> None:
    store["k"] = b"v" * 1000
    stats = store.stats()
    assert stats.keys == 1
    assert stats.live_bytes > 1000
    assert stats.file_bytes == path.stat().st_size
    assert store.check() == []
    assert repr(store) == f"<kvwasi.Store {str(path)!r}, sync='none'>"
    assert store.path == str(path)
    assert store.sync_mode == "none"
    assert not store.read_only


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_compaction_gives_the_old_file_up(path: Path) -> None:
    """Nothing maps it any more, so that the file system has its blocks back while the store is open."""
    with kvwasi.open(path, sync="none") as store:
        store.update({f"{number}": bytes(10_000) for number in range(300)})
        store.compact()
        assert store["7"]
        assert f"{path.name} (deleted)" not in Path("/proc/self/maps").read_text()


def test_compact(path: Path) -> None:
    with kvwasi.open(path, sync="none") as store:
        for _ in range(5):
            store.put_many({f"k{n}": "v" * 1000 for n in range(2000)})
        for n in range(1900):
            store.delete(f"k{n}")
        before = path.stat().st_size
        iterator = iter(store.items())
        first = next(iterator)
        store.compact()
        assert path.stat().st_size < before / 4
        assert [first, *iterator] == [(b"k%d" % n, b"v" * 1000) for n in range(1900, 2000)]
        assert len(store) == 100
        assert store.check() == []
        store["after"] = "x"
    with kvwasi.open(path, "r") as store:
        assert len(store) == 101
        assert store["k1950"] == b"v" * 1000
