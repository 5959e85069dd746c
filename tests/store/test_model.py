"""A store against sorted dicts, under random histories."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

import kvwasi

KEYS = st.one_of(
    st.sampled_from([b"a", b"b", b"ab", b"\0", b"\xff", b"k" * 1024]),
    st.binary(min_size=1, max_size=3),
    st.integers(0, 300).map(lambda n: b"key-%03d" % n),
)
VALUES = st.one_of(
    st.binary(max_size=20),
    st.tuples(st.sampled_from([100, 4000, 65_536, 65_537, 150_000]), st.binary(min_size=1, max_size=4)).map(
        lambda drawn: (drawn[1] * drawn[0])[: drawn[0]]
    ),
)
BOUNDS = st.none() | KEYS
TABLES = st.sampled_from(["", "", "", "t", "é"])  # "": the store's own keys
MOVES = st.one_of(
    st.sampled_from([("first",), ("last",), ("next",), ("next",), ("prev",), ("prev",)]),
    st.tuples(st.sampled_from(["seek", "seek_exact", "seek_prefix"]), KEYS),
)
Model = dict[str, dict[bytes, bytes]]


def ordered(model: dict[bytes, bytes], start: bytes | None, stop: bytes | None) -> list[tuple[bytes, bytes]]:
    return [
        (key, model[key])
        for key in sorted(model)
        if (start is None or key >= start) and (stop is None or key < stop)
    ]


def assert_same(reads: Any, model: Model) -> None:
    """Everything in a store, a transaction or a snapshot is what the model has."""
    assert reads.tables() == sorted(model.keys() - {""})
    for name, entries in model.items():
        found = reads.table(name) if name else reads
        assert list(found.items()) == ordered(entries, None, None)
        assert len(found) == len(entries)


class CursorModel:
    """Where a cursor stands: an index into a sorted list that stays as it is, with a half in a gap."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(keys)
        self.at: float | None = None

    def move(self, how: str, key: bytes = b"") -> bool:
        count = len(self.keys)
        below = sum(one < key for one in self.keys)
        if how == "first" or (how == "next" and self.at is None):
            self.at = 0 if count else None
        elif how == "last" or (how == "prev" and self.at is None):
            self.at = count - 1 if count else None
        elif how == "next" and self.at is not None:
            self.at = min(int(self.at + 1) if self.at >= 0 else 0, count - 0.5)
        elif how == "prev" and self.at is not None:
            self.at = max(int(self.at + 0.5) - 1, -0.5)
        else:
            there = below < count and (
                how == "seek"
                or (how == "seek_exact" and self.keys[below] == key)
                or (how == "seek_prefix" and self.keys[below].startswith(key))
            )
            self.at = below if there else below - 0.5
        return self.at is not None and self.at == int(self.at) and 0 <= self.at < count


@dataclass
class Reader:
    """A store open to be read, and what it shows until it is refreshed."""

    store: kvwasi.Store
    shows: Model


class StoreAgainstDict(RuleBasedStateMachine):
    """Every verb on both; transactions, snapshots, reopening, compaction and crashes in between."""

    iterators = Bundle("iterators")
    snapshots = Bundle("snapshots")
    readers = Bundle("readers")

    @initialize(sync=st.sampled_from(["commit", "none", "interval"]), small=st.booleans())
    def begin(self, sync: Any, small: bool) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.path = Path(self.place.name) / "my.kv"
        self.options: Any = {"sync": sync, "interval_ms": 1, "cache_bytes": (4 if small else 256) << 20}
        self.store = kvwasi.open(self.path, sector_bytes=256 << 10 if small else 0, **self.options)
        self.transaction: kvwasi.Transaction | None = None
        self.committed: Model = {"": {}}
        self.pending: Model = {"": {}}
        self.savepoints: list[tuple[kvwasi.Savepoint, Model]] = []
        self.shown: list[Reader] = []

    def target(self, table: str = "") -> Any:
        whole = self.store if self.transaction is None else self.transaction
        return whole.table(table) if table else whole

    @property
    def models(self) -> Model:
        return self.committed if self.transaction is None else self.pending

    def model(self, table: str) -> dict[bytes, bytes]:
        """To be changed: a write makes the table."""
        return self.models.setdefault(table, {})

    def read_model(self, table: str) -> dict[bytes, bytes]:
        return self.models.get(table, {})

    # --- writing ---

    @rule(table=TABLES, key=KEYS, value=VALUES)
    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.target(table)[key] = value
        self.model(table)[key] = value

    @rule(table=TABLES, key=KEYS, value=VALUES)
    def put_new(self, table: str, key: bytes, value: bytes) -> None:
        assert self.target(table).put(key, value, overwrite=False) == (key not in self.read_model(table))
        self.model(table).setdefault(key, value)

    @rule(table=TABLES, pairs=st.lists(st.tuples(KEYS, VALUES), max_size=30))
    def put_many(self, table: str, pairs: list[tuple[bytes, bytes]]) -> None:
        self.target(table).put_many(pairs)
        self.model(table).update(pairs)

    @rule(table=TABLES, first=st.integers(0, 250), count=st.integers(1, 300), size=st.integers(0, 300))
    def put_row(self, table: str, first: int, count: int, size: int) -> None:
        row = {b"key-%03d" % n: b"%d" % n * size for n in range(first, first + count)}
        self.target(table).put_many(row)
        self.model(table).update(row)

    @rule(table=TABLES, key=KEYS)
    def delete(self, table: str, key: bytes) -> None:
        assert self.target(table).delete(key) == (key in self.read_model(table))
        self.read_model(table).pop(key, None)

    @rule(table=TABLES, start=st.integers(0, 250), count=st.integers(1, 200))
    def delete_row(self, table: str, start: int, count: int) -> None:
        target, model = self.target(table), self.read_model(table)
        for key in [b"key-%03d" % n for n in range(start, start + count)]:
            if model.pop(key, None) is not None:
                del target[key]

    @rule(table=TABLES, key=KEYS)
    def pop(self, table: str, key: bytes) -> None:
        assert self.target(table).pop(key, None) == self.read_model(table).pop(key, None)

    @rule(table=TABLES)
    def popitem(self, table: str) -> None:
        model = self.read_model(table)
        if model:
            key = min(model)
            assert self.target(table).popitem() == (key, model.pop(key))

    @rule(table=TABLES, last=st.booleans())
    def pop_end(self, table: str, last: bool) -> None:
        model, target = self.read_model(table), self.target(table)
        key = (max if last else min)(model, default=None)
        found = target.pop_last() if last else target.pop_first()
        assert found == (None if key is None else (key, model.pop(key)))

    @rule(table=TABLES, key=KEYS, value=VALUES, right=st.booleans(), delete=st.booleans())
    def compare_and_set(self, table: str, key: bytes, value: bytes, right: bool, delete: bool) -> None:
        present = self.read_model(table).get(key)
        expect = present if right else b"something else"
        if delete:
            assert self.target(table).delete(key, expect=expect) == (right and present is not None)
            if right:
                self.read_model(table).pop(key, None)
        else:
            assert self.target(table).put(key, value, expect=expect) == right
            if right:
                self.model(table)[key] = value

    @rule(table=TABLES, key=KEYS, value=VALUES)
    def append(self, table: str, key: bytes, value: bytes) -> None:
        last = max(self.read_model(table), default=b"")
        assert self.target(table).put(key, value, append=True) == (key > last)
        if key > last:
            self.model(table)[key] = value

    @rule(table=TABLES, by=st.integers(-(10**6), 10**6))
    def increment(self, table: str, by: int) -> None:
        expected = int(self.read_model(table).get(b"counter", b"0")) + by
        assert self.target(table).increment("counter", by) == expected
        self.model(table)[b"counter"] = b"%d" % expected

    @rule(table=TABLES, start=BOUNDS, stop=BOUNDS)
    def delete_range(self, table: str, start: bytes | None, stop: bytes | None) -> None:
        gone = ordered(self.read_model(table), start, stop)
        assert self.target(table).delete_range(start=start, stop=stop) == len(gone)
        for key, _ in gone:
            del self.read_model(table)[key]

    @rule(table=TABLES)
    def clear(self, table: str) -> None:
        self.target(table).clear()
        self.read_model(table).clear()

    @rule(table=TABLES.filter(bool))
    def drop(self, table: str) -> None:
        handle = self.target(table)
        if table in self.models:
            self.target().drop_table(table)
            del self.models[table]
            with pytest.raises(kvwasi.NoSuchTableError):
                handle.get(b"a")
        else:
            with pytest.raises(kvwasi.NoSuchTableError):
                self.target().drop_table(table)

    # --- reading ---

    @rule(table=TABLES, key=KEYS)
    def get(self, table: str, key: bytes) -> None:
        model = self.read_model(table)
        assert self.target(table).get(key) == model.get(key)
        assert (key in self.target(table)) == (key in model)

    @rule(table=TABLES, keys=st.lists(KEYS, max_size=10))
    def get_many(self, table: str, keys: list[bytes]) -> None:
        assert self.target(table).get_many(keys) == [self.read_model(table).get(key) for key in keys]

    @rule(
        table=TABLES, start=BOUNDS, stop=BOUNDS, reverse=st.booleans(), limit=st.none() | st.integers(0, 40)
    )
    def scan(
        self, table: str, start: bytes | None, stop: bytes | None, reverse: bool, limit: int | None
    ) -> None:
        expected = ordered(self.read_model(table), start, stop)[:: -1 if reverse else 1][:limit]
        found = self.target(table).items(start=start, stop=stop, reverse=reverse, limit=limit)
        assert list(found) == expected
        assert len(found) == len(expected)

    @rule(table=TABLES, start=BOUNDS, stop=BOUNDS)
    def ends(self, table: str, start: bytes | None, stop: bytes | None) -> None:
        target, everything = self.target(table), ordered(self.read_model(table), None, None)
        assert target.count(start=start, stop=stop) == len(ordered(self.read_model(table), start, stop))
        assert target.first() == (everything[0] if everything else None)
        assert target.last() == (everything[-1] if everything else None)

    @rule(target=iterators, start=BOUNDS, reverse=st.booleans())
    def begin_iterating(self, start: bytes | None, reverse: bool) -> Any:
        expected = ordered(self.committed[""], start, None)[:: -1 if reverse else 1]
        return self.store, iter(self.store.items(start=start, reverse=reverse)), iter(expected)

    @rule(begun=iterators, steps=st.integers(1, 60))
    def iterate_on(self, begun: Any, steps: int) -> None:
        store, iterator, expected = begun
        if store is not self.store:
            return  # it ended with its store
        for _ in range(steps):
            assert next(iterator, None) == next(expected, None)

    @rule(table=TABLES, moves=st.lists(MOVES, max_size=30), delete=st.booleans())
    def walk(self, table: str, moves: list[Any], delete: bool) -> None:
        model = self.read_model(table)
        stands = CursorModel(list(model))
        with self.target(table).cursor() as cursor:
            for how, *key in moves:
                assert getattr(cursor, how)(*key) == stands.move(how, *key)
                if cursor.valid:
                    assert stands.at is not None
                    at = stands.keys[int(stands.at)]
                    assert cursor.item == (at, model[at])
            if delete and self.transaction is not None and cursor.valid:
                key = cursor.key
                assert cursor.delete()
                del model[key]
                following = [one for one in sorted(model) if one > key]
                assert [one for one, _ in cursor] == following

    # --- snapshots ---

    @rule(target=snapshots)
    def take_snapshot(self) -> Any:
        return self.store, self.store.snapshot(), copy.deepcopy(self.committed)

    @rule(taken=snapshots, close=st.booleans())
    def read_snapshot(self, taken: Any, close: bool) -> None:
        store, snapshot, expected = taken
        if store is not self.store or snapshot.closed:
            with pytest.raises(kvwasi.ClosedError):
                snapshot.get(b"a")
            return
        assert_same(snapshot, expected)
        for name, entries in expected.items():
            reads = snapshot.table(name) if name else snapshot
            some = [*list(entries)[:5], b"nothing"]
            assert reads.get_many(some) == [entries.get(key) for key in some]
            assert [reads.get(key) for key in some] == [entries.get(key) for key in some]
        if close:
            snapshot.close()

    # --- readers beside the writer ---

    @rule(target=readers)
    def open_reader(self) -> Reader:
        reader = Reader(kvwasi.open(self.path, "r"), copy.deepcopy(self.committed))
        self.shown.append(reader)
        return reader

    @rule(reader=readers, refresh=st.booleans(), then=st.sampled_from(["", "", "", "check", "close"]))
    def read_beside(self, reader: Reader, refresh: bool, then: str) -> None:
        if reader.store.closed:
            return
        if refresh:
            assert reader.store.refresh() or reader.shows == self.committed
            reader.shows = copy.deepcopy(self.committed)
        assert_same(reader.store, reader.shows)
        if then == "check":
            assert reader.store.check() == []
        if then == "close":
            reader.store.close()

    # --- transactions, reopening, crashes, compaction ---

    @precondition(lambda self: self.transaction is None)
    @rule(sync=st.sampled_from([None, "commit", "none"]))
    def begin_transaction(self, sync: Any) -> None:
        self.transaction = self.store.transaction(sync=sync)
        self.pending = copy.deepcopy(self.committed)
        self.savepoints = []

    @precondition(lambda self: self.transaction is not None and len(self.savepoints) < 63)
    @rule()
    def begin_savepoint(self) -> None:
        assert self.transaction is not None
        self.savepoints.append((self.transaction.savepoint(), copy.deepcopy(self.pending)))

    @precondition(lambda self: self.transaction is not None and self.savepoints)
    @rule(keep=st.booleans(), depth=st.integers(1, 3))
    def end_savepoint(self, keep: bool, depth: int) -> None:
        depth = min(depth, len(self.savepoints))
        point, before = self.savepoints[-depth]
        ended = [one for one, _ in self.savepoints[-depth:]]
        del self.savepoints[-depth:]
        if keep:
            point.release()
        else:
            point.rollback()
            self.pending = before
        assert not any(one.active for one in ended)
        assert all(one.active for one, _ in self.savepoints)

    @precondition(lambda self: self.transaction is not None)
    @rule()
    def commit(self) -> None:
        assert self.transaction is not None
        self.transaction.commit()
        self.transaction = None
        self.savepoints = []
        self.committed = self.pending

    @precondition(lambda self: self.transaction is not None)
    @rule(drop=st.booleans())
    def roll_back(self, drop: bool) -> None:
        assert self.transaction is not None
        if not drop:
            self.transaction.rollback()
        self.transaction = None
        self.savepoints = []

    @rule(read_only=st.booleans())
    def reopen(self, read_only: bool) -> None:
        self.transaction = None
        self.savepoints = []
        self.store.close()
        if read_only:
            with kvwasi.open(self.path, "r") as store:
                assert_same(store, self.committed)
        self.store = kvwasi.open(self.path, "w", **self.options)
        assert self.store.stats().recovered_commits == 0

    @rule(read_only=st.booleans())
    def crash(self, read_only: bool) -> None:
        """What a kill would leave at this moment, opened: all that was committed, nothing else."""
        if self.options["sync"] == "interval":
            return  # its thread may write at any moment
        image, again = b"", self.path.read_bytes()
        for _ in range(20):
            if image == again:
                break
            image, again = again, self.path.read_bytes()
        left = self.path.with_name("left.kv")
        left.write_bytes(image)
        with kvwasi.open(left, "r" if read_only else "w", sync="none") as store:
            assert_same(store, self.committed)
            assert store.check() == []

    @precondition(lambda self: self.transaction is None)
    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def check(self) -> None:
        assert self.store.check() == []

    @rule()
    def flush(self) -> None:
        self.store.sync()

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "store"):
            assert len(self.store) == len(self.committed[""])
            assert len(self.target()) == len(self.models[""])
            assert self.target().tables() == sorted(self.models.keys() - {""})

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.transaction = None
            self.savepoints = []
            try:
                assert_same(self.store, self.committed)
                for reader in self.shown:
                    if not reader.store.closed:
                        assert_same(reader.store, reader.shows)
            finally:
                self.store.close()
                for reader in self.shown:
                    reader.store.close()
            with kvwasi.open(self.path, "r") as store:
                assert_same(store, self.committed)
            self.place.cleanup()


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
