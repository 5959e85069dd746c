"""Several values a key: by themselves, and beside LMDB's sorted duplicates."""

import contextlib
import tempfile
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import kvwasi
from kvwasi.duplicates import decode_pair, encode_pair

KEYS = st.sampled_from([b"a", b"a\0", b"a\0\0b", b"ab", b"b", b"\0", b"\xff", b"c" * 300])
VALUES = st.one_of(st.sampled_from([b"1", b"\0", b"\0\1", b"\xff\xff"]), st.binary(min_size=1, max_size=3))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5), st.binary(max_size=5))))
def test_pairs_are_in_the_order_of_keys_and_values(pairs: list[tuple[bytes, bytes]]) -> None:
    encoded = sorted(encode_pair(key, value) for key, value in pairs)
    assert [decode_pair(pair) for pair in encoded] == sorted(pairs)


def test_verbs(store: kvwasi.Store) -> None:
    table = store.table("t", dupsort=True)
    assert not table and table.get("a") is None and "a" not in table and table.first() is None
    for value in ("2", "1", "3", "1"):
        assert table.put("a", value)
    assert not table.put("a", "1", dupdata=False) and not table.put("a", "9", overwrite=False)
    assert table.put("b", "x", overwrite=False) and not table.put("a", "9", append=True)
    assert table.put("b", "y", append=True)
    assert (len(table), table.count("a"), table.count("z")) == (5, 3, 0)
    assert (table.get("a"), table.get_all("a"), table.get_all("a", reverse=True)) == (
        b"1",
        [b"1", b"2", b"3"],
        [b"3", b"2", b"1"],
    )
    assert table.has("a", "2") and not table.has("a", "4")
    assert list(table) == [b"a", b"b"] and list(table.keys(reverse=True)) == [b"b", b"a"]
    assert list(table.items(start="b")) == [(b"b", b"x"), (b"b", b"y")]
    assert list(table.items(prefix="a", reverse=True, limit=2)) == [(b"a", b"3"), (b"a", b"2")]
    assert (table.first(), table.last()) == ((b"a", b"1"), (b"b", b"y"))
    assert (
        table.delete("a", "2") and not table.delete("a", "2") and table.delete("a") and not table.delete("a")
    )
    assert table.delete_range(start="a", stop="c") == 2 and len(table) == 0
    table.put_many({"k": "v"})
    table.clear()
    assert store.tables() == [] and store.tables(dupsort=True) == ["t"]


def test_they_are_apart_from_other_tables(store: kvwasi.Store) -> None:
    store.table("t")["k"] = "plain"
    store.table("t", dupsort=True).put("k", "1")
    assert dict(store.table("t")) == {b"k": b"plain"} and store.tables() == ["t"]
    with store.snapshot() as snap, store.transaction() as t:
        assert snap.tables(dupsort=True) == t.tables(dupsort=True) == ["t"]
        t.table("t", dupsort=True).put("k", "2")
        assert t.table("t", dupsort=True).get_all("k") == [b"1", b"2"]
        assert snap.table("t", dupsort=True).get_all("k") == [b"1"]
        assert not hasattr(snap.table("t", dupsort=True), "put")
        with pytest.raises(kvwasi.NoSuchTableError, match="'none' with duplicates"):
            snap.table("none", dupsort=True)
    store.drop_table("t", dupsort=True)
    assert store.tables(dupsort=True) == [] and store.tables() == ["t"]
    for call in (
        lambda: store.drop_table("t", dupsort=True),
        lambda: store.table("t", create=False, dupsort=True),
    ):
        with pytest.raises(kvwasi.NoSuchTableError, match="'t'"):
            call()


def test_impossible_pairs(store: kvwasi.Store) -> None:
    table = store.table("t", dupsort=True)
    assert table.put("k" * 511, "v" * 511) and table.put("\0" * 500, "v" * 22)
    for key, value, error in (
        ("", "v", kvwasi.KeyEmptyError),
        ("k" * 512, "v" * 511, kvwasi.ValueTooLargeError),
        ("\0" * 512, "", kvwasi.ValueTooLargeError),
        ("k", 5, TypeError),
    ):
        with pytest.raises(error):
            table.put(key, value)  # type: ignore[arg-type]
        with pytest.raises(error):
            table.put_many([("good", "1"), (key, value)])  # type: ignore[list-item]
    assert len(table) == 2


def test_keys_with_very_many_values(store: kvwasi.Store) -> None:
    table = store.table("t", dupsort=True)
    table.put_many([(key, f"{n:05}") for key in ("a", "b\0", "c") for n in range(2000)])
    for bounds, expected in (
        ({}, [b"a", b"b\0", b"c"]),
        ({"start": "b"}, [b"b\0", b"c"]),
        ({"stop": "c"}, [b"a", b"b\0"]),
    ):
        assert list(table.keys(**bounds)) == expected
        assert list(table.keys(**bounds, reverse=True)) == expected[::-1]
    with table.cursor() as cursor:
        assert (
            cursor.last()
            and cursor.count() == 2000
            and cursor.prev_nodup()
            and cursor.item == (b"b\0", b"01999")
        )
        assert cursor.first_dup() and cursor.item == (b"b\0", b"00000")
        assert [value for _, value in reversed(cursor)][-1] == b"00000"


def test_copies_keep_them(store: kvwasi.Store, path: Path) -> None:
    pairs = [(b"a\0", b"1"), (b"a\0", b"2"), (b"b", b"")]
    store.table("t", dupsort=True).put_many(pairs)
    copy = path.with_name("copy.kv")
    store.backup(copy)
    with kvwasi.open(copy) as other:
        assert list(other.table("t", dupsort=True).items()) == pairs


class BesideLmdb(RuleBasedStateMachine):
    """The same verbs and moves on a table of ours in a transaction and on LMDB's, each with a cursor."""

    @initialize()
    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        place = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.store = self.stack.enter_context(kvwasi.open(f"{place}/a.kv", sync="none"))
        environment = self.stack.enter_context(lmdb.open(f"{place}/lmdb", max_dbs=1, sync=False))
        self.database = environment.open_db(b"t", dupsort=True)
        self.theirs = environment.begin(write=True, db=self.database)
        self.stack.callback(self.theirs.abort)
        self.transaction = self.store.transaction()
        self.stack.callback(self.transaction.rollback)
        self.table = self.transaction.table("t", dupsort=True)
        self.cursor = self.table.cursor()
        self.cursor_theirs = self.theirs.cursor()

    def reset(self) -> None:
        """After a change both cursors stand nowhere."""
        self.cursor = self.table.cursor()
        self.cursor_theirs = self.theirs.cursor()

    @rule(key=KEYS, value=VALUES, dupdata=st.booleans(), overwrite=st.booleans())
    def put(self, key: bytes, value: bytes, dupdata: bool, overwrite: bool) -> None:
        ours = self.table.put(key, value, dupdata=dupdata, overwrite=overwrite)
        assert ours == self.theirs.put(key, value, dupdata=dupdata, overwrite=overwrite)
        self.reset()

    @rule(key=KEYS, value=st.none() | VALUES)
    def delete(self, key: bytes, value: bytes | None) -> None:
        assert self.table.delete(key, value) == self.theirs.delete(key, value or b"")
        self.reset()

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.table.get(key) == self.theirs.get(key)

    @rule()
    def everything(self) -> None:
        assert list(self.table.items()) == list(self.theirs.cursor())
        assert list(self.table) == list(self.theirs.cursor().iternext_nodup(keys=True, values=False))
        assert len(self.table) == self.theirs.stat(self.database)["entries"]

    def same_place(self, ours: bool, theirs: bool) -> None:
        assert ours == theirs
        if ours:
            assert self.cursor.item == self.cursor_theirs.item()
            assert self.cursor.count() == self.cursor_theirs.count()

    @rule(move=st.sampled_from(["first", "last"]))
    def to_an_end(self, move: str) -> None:
        self.same_place(getattr(self.cursor, move)(), getattr(self.cursor_theirs, move)())

    @rule(key=KEYS, value=VALUES, how=st.integers(0, 3))
    def seek(self, key: bytes, value: bytes, how: int) -> None:
        ours, theirs, arguments = (
            (self.cursor.seek, self.cursor_theirs.set_range, (key,)),
            (self.cursor.seek_exact, self.cursor_theirs.set_key, (key,)),
            (self.cursor.seek_pair, self.cursor_theirs.set_key_dup, (key, value)),
            (self.cursor.seek_pair_range, self.cursor_theirs.set_range_dup, (key, value)),
        )[how]
        found = ours(*arguments)
        self.same_place(found, theirs(*arguments))
        if not found:  # LMDB's then stands anywhere
            assert not self.cursor.valid
            self.reset()

    @precondition(lambda self: self.cursor.valid)
    @rule(
        move=st.sampled_from(
            ["next", "prev", "next_dup", "prev_dup", "next_nodup", "prev_nodup", "first_dup", "last_dup"]
        )
    )
    def move(self, move: str) -> None:
        before = self.cursor.item
        assert before == self.cursor_theirs.item()
        ours, theirs = getattr(self.cursor, move)(), getattr(self.cursor_theirs, move)()
        self.same_place(ours, theirs)
        if not ours:  # where LMDB's cursor stands then depends on the move
            self.kept = before  # py-lmdb reads the key from the memory of this one
            self.same_place(self.cursor.seek_pair(*before), self.cursor_theirs.set_key_dup(*self.kept))

    @precondition(lambda self: self.cursor.valid)
    @rule(dupdata=st.booleans())
    def delete_here(self, dupdata: bool) -> None:
        assert self.cursor.delete(dupdata=dupdata) == self.cursor_theirs.delete(dupdata=dupdata)
        self.reset()

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.everything()
            self.stack.close()


TestBesideLmdb = BesideLmdb.TestCase
TestBesideLmdb.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
