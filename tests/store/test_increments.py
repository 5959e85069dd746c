"""Backups that continue others, and what is restored from them: always exactly what the store had."""

import os
import random
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import kvwasi
from kvwasi.crashcheck.engines import everything


def contents(path: Path | str) -> list[tuple[bytes, bytes]]:
    with kvwasi.open(path, "r") as store:
        assert store.check() == []
        return everything(store)


def restored(backup: kvwasi.Backup, place: Path) -> list[tuple[bytes, bytes]]:
    to = place / "restored.kv"
    assert kvwasi.restore(backup.path, to, overwrite=True).path == str(to)
    return contents(to)


@pytest.fixture
def full(store: kvwasi.Store) -> kvwasi.Store:
    store.put_many((b"%06d" % n, b"v%d" % n * 40) for n in range(20_000))
    store.table("t").put_many((b"%06d" % n, b"v%d" % n) for n in range(0, 3000, 3))
    store.table("gone")["k"] = "v"
    store.table("large").update({f"{n}": os.urandom(1_000_000) for n in range(4)})
    store.table("tags", dupsort=True).put_many([("a", "1"), ("a", "2")])
    store.table("sessions", expires=True).put("s", "v", ttl=3600)
    store.series("temperature").append_many(map(float, range(3000)), range(1, 3001))
    return store


def test_only_what_changed_is_copied(full: kvwasi.Store, tmp_path: Path) -> None:
    base = full.backup(tmp_path / "base.kv")
    full["000007"] = "new"
    del full["000008"]
    full.table("large")["2"] = large = os.urandom(300_000)
    full.table("t")["more"] = "v"
    full.drop_table("gone")
    full.table("tags", dupsort=True).delete("a", "1")
    full.series("temperature").append(1.5, ts=10**6)
    monday = full.backup(tmp_path / "monday.kv", since=base)
    assert monday.deleted == 2 and monday.tables == 2  # a key, and a pair, which is one, too
    # beside that only what shares the last sector of the log, and the last run of large values
    assert monday.file_bytes < base.file_bytes and monday.keys < base.keys / 10
    assert restored(monday, tmp_path) == everything(full)

    tuesday = full.backup(tmp_path / "tuesday.kv", since=str(tmp_path / "monday.kv"))
    assert tuesday.deleted == 0
    full.clear()
    wednesday = full.backup(tmp_path / "wednesday.kv", since=tuesday)
    assert wednesday.deleted == 19_999
    with pytest.raises(kvwasi.DatabaseExistsError):
        kvwasi.restore(monday.path, tmp_path / "restored.kv")
    assert dict(restored(tuesday, tmp_path))[b"000007"] == b"new"
    assert restored(wednesday, tmp_path) == everything(full)
    with kvwasi.open(tmp_path / "restored.kv") as again:
        assert len(again) == 0 and again.table("large")["2"] == large
        assert again.tables() == ["large", "t"] and again.series("temperature").last() is not None


def test_sectors_that_were_full_are_not_copied(path: Path, tmp_path: Path) -> None:
    with kvwasi.open(path, sync="none", sector_bytes=256 << 10) as store:
        store.put_many((b"%06d" % n, b"v" * 1000) for n in range(5000))
        base = store.backup(tmp_path / "base.kv")
        for n in range(10):
            store[b"%06d" % (n * 500)] = b"new"
        monday = store.backup(tmp_path / "monday.kv", since=base)
        assert 10 <= monday.keys <= 10 + 256
        tuesday = store.backup(tmp_path / "tuesday.kv", since=monday)
        assert tuesday.keys <= 10 + 256
        assert restored(tuesday, tmp_path) == everything(store)


def test_after_a_compaction_everything_has_changed(full: kvwasi.Store, tmp_path: Path) -> None:
    base = full.backup(tmp_path / "base.kv")
    full.compact()
    monday = full.backup(tmp_path / "monday.kv", since=base)
    assert (monday.keys, monday.deleted) == (base.keys, 0)
    full["more"] = "v"
    tuesday = full.backup(tmp_path / "tuesday.kv", since=monday)
    assert restored(tuesday, tmp_path) == everything(full)


def test_of_a_reader_beside_a_writer(full: kvwasi.Store, tmp_path: Path) -> None:
    with kvwasi.open(full.path, "r") as reader:
        base = reader.backup(tmp_path / "base.kv")
        full.table("large")["0"] = os.urandom(200_000)
        full["a"] = "1"
        assert reader.refresh()
        monday = reader.backup(tmp_path / "monday.kv", since=base)
    assert monday.keys < base.keys and monday.file_bytes < base.file_bytes
    assert restored(monday, tmp_path) == everything(full)


def test_another_database_with_another_past(full: kvwasi.Store, tmp_path: Path) -> None:
    base = full.backup(tmp_path / "base.kv")
    with kvwasi.open(tmp_path / "other.kv") as other:
        other["only"] = "this"
        monday = other.backup(tmp_path / "monday.kv", since=base)
    assert monday.deleted == 20_000  # beside the tables that are not there
    assert [item for item in restored(monday, tmp_path) if item[0] == b"only"] == [(b"only", b"this")]


def test_what_a_power_cut_took_back(path: Path, tmp_path: Path) -> None:
    """The earlier backup has commits that were never on disk: generations and numbers come again."""
    store = kvwasi.open(path, sync="none")
    store.put_many((b"%04d" % n, b"old") for n in range(2000))
    store.table("t")["k"] = "old"
    store.sync()
    shutil.copy(path, tmp_path / "before")
    for n in range(100):
        store[b"%04d" % n] = b"lost"
    store.drop_table("t")
    base = store.backup(tmp_path / "base.kv")
    store.close()
    shutil.copy(tmp_path / "before", path)
    with kvwasi.open(path) as store:
        store["new"] = "v"
        monday = store.backup(tmp_path / "monday.kv", since=base)
        assert restored(monday, tmp_path) == everything(store)


def test_writers_go_on(full: kvwasi.Store, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 1_000_000:
            number += 1
            with full.transaction() as t:
                t["counter"] = t.table("t")["counter"] = f"{number}"
                t.delete(b"%06d" % number)

    writer = threading.Thread(target=write)
    last = full.backup(tmp_path / "0.kv")
    writer.start()
    try:
        for number in range(1, 6):
            last = full.backup(tmp_path / f"{number}.kv", since=last)
            kvwasi.restore(last.path, tmp_path / "restored.kv", overwrite=True)
            with kvwasi.open(tmp_path / "restored.kv") as store:
                assert store.get("counter") == store.table("t").get("counter")
    finally:
        stop.set()
        writer.join()
    last = full.backup(tmp_path / "last.kv", since=last)
    assert restored(last, tmp_path) == everything(full)


def test_they_may_be_moved_together(store: kvwasi.Store, tmp_path: Path) -> None:
    store["a"] = "1"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    base = store.backup(first / "base.kv")
    store["b"] = "2"
    monday = store.backup(first / "monday.kv", since=base)
    first.rename(second)
    assert kvwasi.restore(second / "monday.kv", tmp_path / "restored.kv").keys == 2
    with pytest.raises(kvwasi.NoSuchDatabaseError):
        kvwasi.restore(monday.path, tmp_path / "other.kv")


def test_what_is_no_chain(store: kvwasi.Store, path: Path, tmp_path: Path) -> None:
    store["a"] = "1"
    base, other = store.backup(tmp_path / "base.kv"), store.backup(tmp_path / "other.kv")
    monday = store.backup(tmp_path / "monday.kv", since=base)
    with kvwasi.open(tmp_path / "plain.kv") as plain:
        plain["k"] = "v"
    to = tmp_path / "to.kv"

    def fails(text: str, do: Any) -> None:
        with pytest.raises(kvwasi.BackupError, match=text):
            do()
        assert not to.exists() and not list(tmp_path.glob(".kvwasi-*"))

    fails("no backup", lambda: kvwasi.restore(tmp_path / "plain.kv", to))
    fails("no backup", lambda: store.backup(to, since=tmp_path / "plain.kv"))
    fails("no backup", lambda: kvwasi.restore(path, to))
    fails("one of those", lambda: store.backup(base.path, since=monday, overwrite=True))
    os.replace(other.path, base.path)
    fails("another backup", lambda: kvwasi.restore(monday.path, to))
    os.unlink(base.path)
    fails("not there", lambda: kvwasi.restore(monday.path, to))
    fails("not there", lambda: store.backup(to, since=monday))
    base = store.backup(tmp_path / "base.kv")
    with kvwasi.open(base.path) as changed:
        changed["a"] = "2"
    fails("was changed", lambda: kvwasi.restore(base.path, to))
    with pytest.raises(kvwasi.NotADatabaseError):
        (tmp_path / "text").write_text("no database" * 1000)
        kvwasi.restore(tmp_path / "text", to)


@pytest.mark.parametrize(
    "stored",
    ["", "{}", "[]", '{"version": 2}', '{"version": 1, "id": 1}', '{"version": 1, "tables": {"x": 1}}'],
)
def test_nonsense_instead_of_what_it_says(store: kvwasi.Store, tmp_path: Path, stored: str) -> None:
    from kvwasi.names import BACKUP_TABLE
    from kvwasi.table import Table

    base = store.backup(tmp_path / "base.kv")
    with kvwasi.open(base.path) as changed:
        Table(changed, BACKUP_TABLE)["about"] = stored
    with pytest.raises(kvwasi.BackupError):
        kvwasi.restore(base.path, tmp_path / "to.kv")


def test_damage_is_told(store: kvwasi.Store, tmp_path: Path) -> None:
    store["a"] = "1"
    base = store.backup(tmp_path / "base.kv")
    store["b"] = b"value" * 100
    monday = store.backup(tmp_path / "monday.kv", since=base)
    raw = Path(monday.path).read_bytes()
    Path(monday.path).write_bytes(raw.replace(b"value" * 100, b"value" * 99 + b"VALUE"))
    with pytest.raises(kvwasi.CorruptionError):
        kvwasi.restore(monday.path, tmp_path / "to.kv")
    assert not (tmp_path / "to.kv").exists()


class Increments(RuleBasedStateMachine):
    """Whatever happens between backups, the last one restores what there was."""

    tables = st.sampled_from(["", "one", "two"])
    keys = st.sampled_from([f"k{n}" for n in range(8)])
    sizes = st.sampled_from([0, 1, 100, 5000, 66_000])

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.path = Path(self.place.name)
        self.chance = random.Random(1)
        self.store = kvwasi.open(self.path / "my.kv", sync="none", sector_bytes=256 << 10)
        self.last: kvwasi.Backup | None = None
        self.number = 0

    def table(self, name: str) -> Any:
        return self.store.table(name) if name else self.store

    @rule(table=tables, key=keys, size=sizes)
    def put(self, table: str, key: str, size: int) -> None:
        self.table(table)[key] = self.chance.randbytes(size)

    @rule(table=tables, key=keys)
    def delete(self, table: str, key: str) -> None:
        self.table(table).delete(key)

    @rule(table=tables)
    def fill_sectors(self, table: str) -> None:
        self.table(table).put_many({f"f{n}": self.chance.randbytes(50_000) for n in range(8)})

    @rule(name=st.sampled_from(["one", "two"]))
    def drop(self, name: str) -> None:
        if name in self.store.tables():
            self.store.drop_table(name)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = kvwasi.open(self.path / "my.kv", sync="none")

    @rule(whole=st.booleans())
    def back_up(self, whole: bool) -> None:
        self.number += 1
        since = None if whole else self.last
        self.last = self.store.backup(self.path / f"{self.number}.kv", since=since)
        self.expected = everything(self.store)

    @precondition(lambda self: getattr(self, "last", None) is not None)
    @rule()
    def restore(self) -> None:
        assert self.last is not None
        assert restored(self.last, self.path) == self.expected

    def teardown(self) -> None:
        if self.last is not None:
            self.restore()
        self.store.close()
        self.place.cleanup()


TestIncrements = Increments.TestCase
TestIncrements.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
