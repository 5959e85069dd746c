"""Tables whose entries expire, under a clock of the test's own."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import kvwasi
from kvwasi import ExpiringTable
from kvwasi.names import reserved_name
from kvwasi.table import Table

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now


def stored(store: kvwasi.Store, name: str = "t") -> tuple[int, int]:
    """How many entries lie in the two tables, expired or not."""
    entries = Table(store, reserved_name("expires", name.encode()))
    due = Table(store, reserved_name("due", name.encode()))
    return len(entries), due.count(stop=b"\x80")


def test_what_has_expired_is_absent(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    assert (
        table.put("a", "1", ttl=10) and table.put("b", "2", ttl=timedelta(seconds=20)) and table.put("c", "3")
    )
    assert (dict(table), len(table)) == ({b"a": b"1", b"b": b"2", b"c": b"3"}, 3)
    assert (table.ttl("a"), table.ttl("c")) == (10.0, None)
    clock.now += 10 * SECOND - 1
    assert "a" in table and table.get("a") == b"1"
    clock.now += 1
    assert "a" not in table and table.get("a", 0) == 0 and dict(table) == {b"b": b"2", b"c": b"3"}
    assert (
        len(table) == 2
        and list(table.keys(reverse=True)) == [b"c", b"b"]
        and list(table.values()) == [b"2", b"3"]
    )
    for call in (lambda: table["a"], lambda: table.ttl("a"), lambda: table.__delitem__("a")):
        with pytest.raises(kvwasi.KeyNotFoundError):
            call()
    assert not table.delete("a") and not table.touch("a", 5)
    clock.now += 10**6 * SECOND
    assert dict(table) == {b"c": b"3"} and len(table) == 1
    assert store.tables() == [] and store.tables(expires=True) == ["t"]


def test_conditions_take_it_for_absent(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    assert table.put("k", "1", ttl=5, overwrite=False) and not table.put("k", "2", overwrite=False)
    assert table.put("k", "2", expect="1", ttl=5) and not table.put("k", "3", expect=None)
    clock.now += 5 * SECOND
    assert not table.put("k", "3", expect="2") and table.put("k", "3", expect=None, ttl=5)
    clock.now += 5 * SECOND
    assert table.put("k", "4", overwrite=False) and table["k"] == b"4"
    assert table.ttl("k") is None and stored(store) == (1, 0)
    with pytest.raises(ValueError, match="excludes"):
        table.put("k", "v", expect="4", overwrite=False)


def test_what_a_mapping_has_happens_at_once(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    before = store.stats().commits
    table.put_many([("a", "1"), ("b", "2"), ("b", "3")], ttl=5)
    table.update({"c": "4"}, d="5")
    assert store.stats().commits == before + 2
    with pytest.raises(TypeError):
        table.put_many([("e", "6"), ("f", None)])  # type: ignore[list-item]
    assert dict(table) == {b"a": b"1", b"b": b"3", b"c": b"4", b"d": b"5"} and table.ttl("b") == 5
    assert (table.setdefault("c", "7"), table.setdefault("g", "8"), table.ttl("g")) == (b"4", b"8", None)
    before = store.stats().commits
    assert (table.pop("a"), table.popitem()) == (b"1", (b"b", b"3"))
    assert store.stats().commits == before + 2 and table.pop("a", "none") == "none"
    with pytest.raises(kvwasi.KeyNotFoundError):
        table.pop("a")

    table.put("b", "9", ttl=1)
    clock.now += SECOND
    with pytest.raises(kvwasi.KeyNotFoundError):
        table.pop("b")
    table.put("b", "9", ttl=1)
    clock.now += SECOND
    assert table.popitem() == (b"c", b"4")  # not what has expired
    assert table.setdefault("b", "now") == b"now"
    table.clear()
    with pytest.raises(kvwasi.KeyNotFoundError):
        table.popitem()
    assert stored(store) == (0, 0)


@pytest.mark.parametrize("ttl", [None, 60])
def test_the_longest_key(store: kvwasi.Store, ttl: int | None) -> None:
    """The same with a time and without, so that each entry can be given one."""
    table = store.table("t", expires=True)
    assert table.put(b"k" * 1016, "v", ttl=ttl) and table.touch(b"k" * 1016, 30)
    with pytest.raises(kvwasi.KeyTooLargeError, match="1016"):
        table.put(b"k" * 1017, "v", ttl=ttl)
    assert len(table) == 1


def test_a_name_is_not_empty(store: kvwasi.Store) -> None:
    for made in (
        lambda: store.table("", expires=True),
        lambda: store.table("", dupsort=True),
        lambda: store.series(""),
    ):
        with pytest.raises(kvwasi.KeyEmptyError, match="name"):
            made()


def test_collecting_counts_all(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    table.put_many([(f"{n}", "v") for n in range(1500)], ttl=1)
    clock.now += SECOND
    assert stored(store) == (1500, 1500)
    assert (table.collect(), table.collect(), stored(store)) == (1500, 0, (0, 0))


def test_touch(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    table.put("k", "v", ttl=5)
    clock.now += 4 * SECOND
    assert table.touch("k", 5)
    clock.now += 4 * SECOND
    assert table["k"] == b"v" and table.touch("k", None)
    clock.now += 1000 * SECOND
    assert table["k"] == b"v" and stored(store) == (1, 0)


def test_space_is_given_back(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    for n in range(50):
        table.put(f"{n:02}", "v", ttl=1)
    clock.now += SECOND
    assert stored(store) == (50, 50) and len(table) == 0
    table["x"] = "y"
    assert stored(store) == (43, 42)  # eight by each write
    assert table.collect() == 42 and stored(store) == (1, 0) and table.collect() == 0
    table.put("z", "1", ttl=5)
    table.clear()
    assert stored(store) == (0, 0) and len(table) == 0


def test_a_clock_that_goes_back(store: kvwasi.Store) -> None:
    clock = Clock()
    table = ExpiringTable(store, "t", clock=clock)
    table.put("a", "1", ttl=10)
    table.put("b", "2", ttl=100)
    clock.now += 10 * SECOND
    assert "a" not in table
    clock.now -= 9 * SECOND
    assert "a" not in table and len(table) == 1  # not again for this object
    table["c"] = "3"  # collects it
    again = ExpiringTable(store, "t", clock=clock)
    again.put("d", "4", ttl=1)  # from the latest time that was ever collected at
    assert again.ttl("d") == 1 and len(again) == 3
    clock.now += 10 * SECOND
    assert set(again) == {b"b", b"c"}


def test_in_transactions_and_snapshots(store: kvwasi.Store, path: Path, tmp_path: Path) -> None:
    with store.transaction() as t:
        table = t.table("t", expires=True)
        table.put("k", "v", ttl=1000)
        table["n"] = "never"
        with pytest.raises(kvwasi.KeyTooLargeError):
            table.put("k" * 1020, "v", ttl=5)
        with pytest.raises(ValueError, match="positive"):
            table.put("k", "w", ttl=0)
        assert dict(table) == {b"k": b"v", b"n": b"never"} and len(table) == 2
        assert t.tables(expires=True) == ["t"]
    with store.snapshot() as snap:
        store.table("t", expires=True).clear()
        seen = snap.table("t", expires=True)
        assert (dict(seen), len(seen), snap.tables(expires=True)) == ({b"k": b"v", b"n": b"never"}, 2, ["t"])
        with pytest.raises(kvwasi.ReadOnlyError):
            seen.put("k", "v")
        with pytest.raises(kvwasi.NoSuchTableError, match="'none' that expires"):
            snap.table("none", expires=True)
    with pytest.raises(ZeroDivisionError), store.transaction() as t:
        t.table("t", expires=True).put("gone", "v", ttl=5)
        raise ZeroDivisionError
    assert len(store.table("t", expires=True)) == 0
    store.table("t", expires=True).put("k", "v", ttl=500)
    store.backup(tmp_path / "copy.kv")
    store.drop_table("t", expires=True)
    assert store._table_names() == []
    with kvwasi.open(tmp_path / "copy.kv") as copy:
        assert dict(copy.table("t", expires=True)) == {b"k": b"v"}
    for call in (
        lambda: store.drop_table("t", expires=True),
        lambda: store.table("t", create=False, expires=True),
    ):
        with pytest.raises(kvwasi.NoSuchTableError):
            call()
    with pytest.raises(ValueError, match="either"):
        store.table("t", dupsort=True, expires=True)  # type: ignore[call-overload]


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), timedelta(0)])
def test_impossible_times(store: kvwasi.Store, ttl: Any) -> None:
    table = store.table("t", expires=True)
    with pytest.raises(ValueError, match="positive"):
        table.put("k", "v", ttl=ttl)
    assert len(table) == 0
    table.put("k", "v", ttl=float("inf"))
    assert table["k"] == b"v"


KEYS = st.sampled_from([b"a", b"b", b"c\0", b"\xff"])
TTLS = st.none() | st.sampled_from([1, 2, 5])


class ExpiringMachine(RuleBasedStateMachine):
    """The model has for each key its value and when it expires, expired or not."""

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.store = kvwasi.open(f"{self.place.name}/a.kv", sync="none")
        self.clock = Clock()
        self.table = ExpiringTable(self.store, "t", clock=self.clock)
        self.model: dict[bytes, tuple[bytes, float]] = {}

    def alive(self) -> dict[bytes, bytes]:
        return {key: value for key, (value, end) in self.model.items() if end > self.clock.now}

    def end(self, ttl: int | None) -> float:
        return float("inf") if ttl is None else self.clock.now + ttl * SECOND

    @rule(key=KEYS, value=st.binary(max_size=3), ttl=TTLS, overwrite=st.booleans())
    def put(self, key: bytes, value: bytes, ttl: int | None, overwrite: bool) -> None:
        expected = overwrite or key not in self.alive()
        assert self.table.put(key, value, ttl=ttl, overwrite=overwrite) == expected
        if expected:
            self.model[key] = value, self.end(ttl)

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key: bytes, ttl: int | None) -> None:
        there = key in self.alive()
        assert self.table.touch(key, ttl) == there
        if there:
            self.model[key] = self.model[key][0], self.end(ttl)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.table.delete(key) == (key in self.alive())
        self.model.pop(key, None)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds * SECOND

    @rule()
    def collect(self) -> None:
        self.table.collect()
        assert stored(self.store)[0] == len(self.alive())

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = kvwasi.open(f"{self.place.name}/a.kv", sync="none")
        self.table = ExpiringTable(self.store, "t", clock=self.clock)

    @invariant()
    def same(self) -> None:
        if hasattr(self, "table"):
            alive = self.alive()
            assert dict(self.table.items()) == alive and len(self.table) == len(alive)
            assert {key: self.table.get(key) for key in alive} == alive
            entries, due = stored(self.store)
            assert len(alive) <= entries and due <= entries

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.place.cleanup()


TestExpiring = ExpiringMachine.TestCase
TestExpiring.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
