"""Entries that a store begins with."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvwasi
from kvwasi import defaults


def opened(path: Path, given: dict[Any, Any], version: int = 1, **more: Any) -> kvwasi.Store:
    return kvwasi.open(path, defaults=given, defaults_version=version, **more)


def test_a_new_store_has_them(path: Path) -> None:
    with opened(path, {"a": "1", b"b": bytearray(b"2")}) as store:
        assert dict(store) == {b"a": b"1", b"b": b"2"}
        assert store.tables() == []
        assert defaults.version_of(store) == 1
        assert store.stats().commits == 1  # all of them, or none


def test_the_same_version_adds_nothing(path: Path) -> None:
    with opened(path, {"a": "1", "b": "2"}) as store:
        del store["a"]
    with opened(path, {"a": "1", "c": "3"}) as store:
        assert dict(store) == {b"b": b"2"}


def test_a_newer_version_adds_what_is_missing_and_leaves_the_rest(path: Path) -> None:
    with opened(path, {"kept": "1", "changed": "1", "deleted": "1"}) as store:
        store["changed"] = "mine"
        store["own"] = "0"
        del store["deleted"]
    with opened(path, {"kept": "2", "changed": "2", "deleted": "2", "new": "2"}, 2) as store:
        assert dict(store) == {
            b"changed": b"mine",
            b"deleted": b"2",
            b"kept": b"1",
            b"new": b"2",
            b"own": b"0",
        }


def test_an_older_program_changes_nothing(path: Path) -> None:
    with opened(path, {"a": "1"}, 7):
        pass
    with opened(path, {"b": "1"}, 6) as store:
        assert dict(store) == {b"a": b"1"}
        assert defaults.version_of(store) == 7


def test_a_store_that_had_none_gets_them(path: Path) -> None:
    with kvwasi.open(path) as store:
        store["a"] = "mine"
        with pytest.raises(ValueError, match="without defaults"):
            store.reset_to_defaults()
    with opened(path, {"a": "1", "b": "2"}) as store:
        assert dict(store) == {b"a": b"mine", b"b": b"2"}


def test_no_entries_are_defaults_too(path: Path) -> None:
    with opened(path, {}) as store:
        store["a"] = "1"
        store.reset_to_defaults()
        assert dict(store) == {}


def test_reset_replaces_the_stores_own_entries_at_once(path: Path) -> None:
    with opened(path, {"a": "1", "b": "2"}) as store:
        store.put_many({"a": "9", "z": "9"})
        store.table("t")["k"] = "v"
        before = store.stats().commits
        store.reset_to_defaults()
        assert (dict(store), dict(store.table("t"))) == ({b"a": b"1", b"b": b"2"}, {b"k": b"v"})
        assert store.stats().commits == before + 1


def test_reset_by_an_older_program_keeps_the_newer_version(path: Path) -> None:
    with opened(path, {"a": "1"}, 3):
        pass
    with opened(path, {"a": "0"}, 2) as store:
        store.reset_to_defaults()
        assert (dict(store), defaults.version_of(store)) == ({b"a": b"0"}, 3)


@pytest.mark.parametrize("version", [0, -1, 1 << 63])
def test_versions_out_of_range(path: Path, version: int) -> None:
    with pytest.raises(ValueError, match="defaults_version"):
        opened(path, {}, version)
    assert not path.exists()


def test_a_store_that_is_read_only_takes_none(path: Path) -> None:
    with kvwasi.open(path):
        pass
    with pytest.raises(ValueError, match="flag='r'"):
        opened(path, {"a": "1"}, flag="r")


@pytest.mark.parametrize(
    ("given", "error"),
    [({"a": 1}, TypeError), ({"": "1"}, kvwasi.KeyEmptyError), ({"k" * 1025: "1"}, kvwasi.KeyTooLargeError)],
)
def test_impossible_entries(path: Path, given: dict[Any, Any], error: type[Exception]) -> None:
    for _ in range(2):  # the failed attempt neither leaves anything nor holds the lock
        with pytest.raises(error):
            opened(path, {"good": "1"} | given)
    if path.exists():
        with kvwasi.open(path, "r") as store:
            assert (len(store), store.tables()) == (0, [])


@settings(deadline=None)  # it opens files
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(max_size=2), max_size=4),
            st.integers(1, 4),
            st.dictionaries(st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=2), max_size=4),
        ),
        max_size=5,
    )
)
def test_against_a_dict(
    tmp_path_factory: pytest.TempPathFactory,
    openings: list[tuple[dict[bytes, bytes], int, dict[bytes, bytes | None]]],
) -> None:
    path = tmp_path_factory.mktemp("defaults") / "a.kv"
    model: dict[bytes, bytes] = {}
    applied = 0
    for some, version, changes in openings:
        with opened(path, some, version, sync="none") as store:
            if version > applied:
                model, applied = some | model, version
            assert dict(store) == model
            for key, value in changes.items():
                if value is None:
                    store.pop(key, None)
                    model.pop(key, None)
                else:
                    store[key] = model[key] = value
