"""A store against a sorted dict, under random histories."""

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
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


def ordered(model: dict[bytes, bytes], start: bytes | None, stop: bytes | None) -> list[tuple[bytes, bytes]]:
    return [
        (key, model[key])
        for key in sorted(model)
        if (start is None or key >= start) and (stop is None or key < stop)
    ]


class StoreAgainstDict(RuleBasedStateMachine):
    """Every verb on both; transactions, reopening, compaction and long-lived iterators in between."""

    iterators = Bundle("iterators")

    @initialize(sync=st.sampled_from(["commit", "none", "interval"]), small=st.booleans())
    def begin(self, sync: Any, small: bool) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.path = Path(self.place.name) / "my.kv"
        self.sync = sync
        self.store = kvwasi.open(self.path, sync=sync, interval_ms=1, sector_bytes=256 << 10 if small else 0)
        self.transaction: kvwasi.Transaction | None = None
        self.committed: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes] = {}

    @property
    def target(self) -> Any:
        return self.store if self.transaction is None else self.transaction

    @property
    def model(self) -> dict[bytes, bytes]:
        return self.committed if self.transaction is None else self.pending

    # --- writing ---

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        self.target[key] = value
        self.model[key] = value

    @rule(key=KEYS, value=VALUES)
    def put_new(self, key: bytes, value: bytes) -> None:
        assert self.target.put(key, value, overwrite=False) == (key not in self.model)
        self.model.setdefault(key, value)

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), max_size=30))
    def put_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.target.put_many(pairs)
        self.model.update(pairs)

    @rule(first=st.integers(0, 250), count=st.integers(1, 300), size=st.integers(0, 300))
    def put_row(self, first: int, count: int, size: int) -> None:
        row = {b"key-%03d" % n: b"%d" % n * size for n in range(first, first + count)}
        self.target.put_many(row)
        self.model.update(row)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.target.delete(key) == (key in self.model)
        self.model.pop(key, None)

    @rule(start=st.integers(0, 250), count=st.integers(1, 200))
    def delete_row(self, start: int, count: int) -> None:
        doomed = [b"key-%03d" % n for n in range(start, start + count)]
        for key in doomed:
            if self.model.pop(key, None) is not None:
                del self.target[key]

    @rule(key=KEYS)
    def pop(self, key: bytes) -> None:
        assert self.target.pop(key, None) == self.model.pop(key, None)

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        key = min(self.model)
        assert self.target.popitem() == (key, self.model.pop(key))

    @rule()
    def clear(self) -> None:
        self.target.clear()
        self.model.clear()

    # --- reading ---

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.target.get(key) == self.model.get(key)
        assert (key in self.target) == (key in self.model)

    @rule(keys=st.lists(KEYS, max_size=10))
    def get_many(self, keys: list[bytes]) -> None:
        assert self.target.get_many(keys) == [self.model.get(key) for key in keys]

    @rule(start=BOUNDS, stop=BOUNDS, reverse=st.booleans(), limit=st.none() | st.integers(0, 40))
    def scan(self, start: bytes | None, stop: bytes | None, reverse: bool, limit: int | None) -> None:
        expected = ordered(self.model, start, stop)[:: -1 if reverse else 1][:limit]
        assert list(self.target.items(start=start, stop=stop, reverse=reverse, limit=limit)) == expected

    @rule(target=iterators, start=BOUNDS, reverse=st.booleans())
    def begin_iterating(self, start: bytes | None, reverse: bool) -> Any:
        expected = ordered(self.committed, start, None)[:: -1 if reverse else 1]
        return self.store, iter(self.store.items(start=start, reverse=reverse)), iter(expected)

    @rule(begun=iterators, steps=st.integers(1, 60))
    def iterate_on(self, begun: Any, steps: int) -> None:
        store, iterator, expected = begun
        if store is not self.store:
            return  # it ended with its store
        for _ in range(steps):
            assert next(iterator, None) == next(expected, None)

    # --- transactions, reopening, compaction ---

    @precondition(lambda self: self.transaction is None)
    @rule(sync=st.sampled_from([None, "commit", "none"]))
    def begin_transaction(self, sync: Any) -> None:
        self.transaction = self.store.transaction(sync=sync)
        self.pending = dict(self.committed)

    @precondition(lambda self: self.transaction is not None)
    @rule()
    def commit(self) -> None:
        assert self.transaction is not None
        self.transaction.commit()
        self.transaction = None
        self.committed = self.pending

    @precondition(lambda self: self.transaction is not None)
    @rule(drop=st.booleans())
    def roll_back(self, drop: bool) -> None:
        assert self.transaction is not None
        if not drop:
            self.transaction.rollback()
        self.transaction = None

    @rule(read_only=st.booleans())
    def reopen(self, read_only: bool) -> None:
        self.transaction = None
        self.store.close()
        if read_only:
            with kvwasi.open(self.path, "r") as store:
                assert list(store.items()) == ordered(self.committed, None, None)
        self.store = kvwasi.open(self.path, "w", sync=self.sync, interval_ms=1)
        assert self.store.stats().recovered_commits == 0

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
            assert len(self.store) == len(self.committed)
            assert len(self.target) == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.transaction = None
            try:
                assert list(self.store.items()) == ordered(self.committed, None, None)
            finally:
                self.store.close()
            with kvwasi.open(self.path, "r") as store:
                assert list(store.items()) == ordered(self.committed, None, None)
            self.place.cleanup()


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
