"""Views: values where they lie in the file, and what they keep until they are gone."""

import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import kvwasi

SIZES = (1, 100, 4096, 65_536, 65_537, 1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.kv"


@pytest.fixture
def store(path: Path) -> Iterator[kvwasi.Store]:
    store = kvwasi.open(path, sync="none", sector_bytes=256 << 10)
    yield store
    gc.collect()
    store.close()


def churn(store: kvwasi.Store, rounds: int = 60) -> None:
    """So much that is overwritten that sectors are collected and used again."""
    for number in range(rounds):
        store.put(f"churn-{number % 3}", os.urandom(200_000))
        store.put(f"small-{number % 3}", os.urandom(60_000))
        if number % 5 == 4:
            store.sync()


def is_mapped(view: memoryview) -> bool:
    return type(view.obj).__name__ == "MappedValue"


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_value_and_no_copy(store: kvwasi.Store, size: int) -> None:
    value = os.urandom(size)
    store["k"] = value
    view = store.get("k", view=True)
    assert view is not None and view == value
    assert view.readonly and view.format == "B" and view.nbytes == size
    assert is_mapped(view)
    with pytest.raises(TypeError):
        view[0] = 1


def test_what_is_not_there(store: kvwasi.Store) -> None:
    assert store.get("no", view=True) is None
    assert store.get("no", b"other", view=True) == b"other"
    assert store.table("no").get("no", view=True) is None
    with pytest.raises(kvwasi.KeyEmptyError):
        store.get("", view=True)
    with pytest.raises(TypeError):
        store.get(1, view=True)  # type: ignore[call-overload]
    store["empty"] = b""
    empty = store.get("empty", view=True)
    assert empty is not None and empty.nbytes == 0


def test_it_stays_while_all_else_changes(store: kvwasi.Store) -> None:
    values = {f"{size}": os.urandom(size) for size in SIZES}
    store.put_many(values)
    views = {key: store.get(key, view=True) for key in values}
    for key in values:
        store[key] = b"overwritten"
    churn(store)
    store.delete_range()
    churn(store)
    assert views == values
    assert store.stats().snapshots == 1  # which they share


def test_nothing_is_kept_for_what_is_gone(store: kvwasi.Store) -> None:
    store["k"] = os.urandom(10_000)
    view = store.get("k", view=True)
    churn(store)
    kept = store.stats()
    assert kept.snapshots == 1 and kept.pinned_bytes > 1_000_000
    del view
    churn(store, 10)
    now = store.stats()
    assert now.snapshots == 0 and now.pinned_bytes < kept.pinned_bytes


def test_close_waits_for_the_last_one(store: kvwasi.Store) -> None:
    store["k"] = bytes(1000)
    view = store.get("k", view=True)
    assert view is not None
    part, whole = view[10:20], memoryview(view)
    view.release()
    with pytest.raises(kvwasi.ViewsOpenError, match="1 view of a value is in use"):
        store.close()
    assert part == bytes(10) and store["k"] == bytes(1000)  # nothing was closed
    part.release()
    with pytest.raises(BufferError):
        store.close()
    whole.release()
    store.close()


def test_several_are_told_of(store: kvwasi.Store) -> None:
    store.put_many({"a": bytes(10), "b": bytes(10)})
    views = [store.get("a", view=True), store.get("b", view=True)]
    with pytest.raises(kvwasi.ViewsOpenError, match="2 views of values are"):
        store.close()
    views.clear()


def test_a_snapshot_ends_and_its_views_stay(store: kvwasi.Store) -> None:
    store["k"] = value = os.urandom(5000)
    store.table("t")["k"] = other = os.urandom(70_000)
    with store.snapshot() as snapshot:
        store["k"] = b"new"
        store.table("t")["k"] = b"new"
        view, in_table = snapshot.get("k", view=True), snapshot.table("t").get("k", view=True)
    assert snapshot.closed
    churn(store)
    assert view == value and in_table == other
    assert store.stats().snapshots == 1
    del view, in_table
    assert store.stats().snapshots == 0


def test_of_a_table(store: kvwasi.Store) -> None:
    table = store.table("users")
    table["ada"] = value = os.urandom(3000)
    view = table.get("ada", view=True)
    store.drop_table("users")
    churn(store)
    assert view == value


def test_in_a_transaction_it_is_a_copy(store: kvwasi.Store) -> None:
    store["old"] = bytes(100)
    with store.transaction() as transaction:
        transaction["k"] = value = os.urandom(10_000)
        views = [transaction.get(key, view=True) for key in ("k", "old")]
        transaction.rollback()
    churn(store)
    assert views == [value, bytes(100)]
    assert views[0] is not None and views[0].readonly and not is_mapped(views[0])


def test_compaction_leaves_them_the_old_file(store: kvwasi.Store, path: Path) -> None:
    values = {f"{number:03}": os.urandom(20_000) for number in range(50)}
    store.put_many(values)
    before = {key: store.get(key, view=True) for key in values}
    for key in list(values)[::2]:
        store[key] = values[key][::-1]
    store.compact()
    after = {key: store.get(key, view=True) for key in values}
    churn(store)
    store.compact()
    assert before == values
    assert after == {k: v[::-1] if int(k) % 2 == 0 else v for k, v in values.items()}
    before.clear()
    after.clear()
    assert store.stats().snapshots == 0  # whoever takes the lock next gives back what is dropped
    assert "my.kv (deleted)" not in Path("/proc/self/maps").read_text()


def test_damage_is_told_and_nothing_is_kept(store: kvwasi.Store, path: Path) -> None:
    store.put_many({"small": b"s" * 5000, "large": b"l" * 100_000})
    store.close()
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"s" * 100, b"S" + b"s" * 99, 1).replace(b"l" * 100, b"L" + b"l" * 99, 1)
    )
    with kvwasi.open(path, "r") as damaged:
        for key in ("small", "large"):
            with pytest.raises(kvwasi.CorruptionError):
                damaged.get(key, view=True)


def test_a_reader_moves_on_and_its_views_stay(store: kvwasi.Store, path: Path) -> None:
    store["k"] = b"0" * 5000
    views = []
    with kvwasi.open(path, "r") as reader:
        for number in range(1, 6):
            views.append(reader.get("k", view=True))
            assert views[-1] is not None and is_mapped(views[-1])
            store["k"] = b"%d" % number * 5000
            churn(store, 30)
            assert reader.refresh()
        store.compact()
        assert reader.refresh() and reader.get("k", view=True) == b"5" * 5000
        churn(store)
        assert views == [b"%d" % number * 5000 for number in range(5)]
        views.clear()
    churn(store, 10)
    assert store.stats().kept_checkpoints == 0


def test_views_of_a_range(store: kvwasi.Store) -> None:
    values = {f"{number:03}".encode(): os.urandom(number * 700) for number in range(1, 120)}
    store.put_many(values)
    table = store.table("t")
    table.put_many(values)
    snapshot = store.snapshot()
    for owner in (store, table, snapshot):
        assert dict(owner.views()) == values
        assert (
            list(owner.views(start="005", stop="050", reverse=True, limit=7))
            == sorted((item for item in values.items() if b"005" <= item[0] < b"050"), reverse=True)[:7]
        )
        assert list(owner.views(prefix="11")) == [item for item in values.items() if item[0] >= b"110"]
    with store.transaction() as transaction:
        transaction["000"] = b"new"
        assert dict(transaction.views()) == {b"000": b"new"} | values
        transaction.rollback()
    snapshot.close()
    ahead = store.views()
    store.delete_range()
    assert dict(ahead) == values  # of when it was made
    assert list(store.views()) == []
    assert store.stats().snapshots == 0


def test_a_cursor_gives_views(store: kvwasi.Store) -> None:
    store.put_many({"a": b"1" * 5000, "b": b"2" * 5000})
    with store.cursor() as cursor:
        assert cursor.last()
        view = cursor.view
        assert is_mapped(view) and view == b"2" * 5000
        assert cursor.prev() and cursor.view == b"1" * 5000
        assert not cursor.prev()
        with pytest.raises(kvwasi.KeyNotFoundError):
            cursor.view  # noqa: B018
    churn(store)
    assert view == b"2" * 5000


def test_more_moments_than_there_are_snapshots(store: kvwasi.Store) -> None:
    views = []
    for number in range(1100):
        store["k"] = b"%d" % number * 300
        views.append(store.get("k", view=True))
    assert store.stats().snapshots == 1024
    churn(store, 30)
    assert views == [b"%d" % number * 300 for number in range(1100)]


def test_numpy(store: kvwasi.Store) -> None:
    numpy = pytest.importorskip("numpy")
    store["k"] = numpy.arange(10_000, dtype="<u8").tobytes()
    array = numpy.frombuffer(store.get("k", view=True), dtype="<u8")
    store.delete("k")
    churn(store)
    assert array.sum() == sum(range(10_000)) and not array.flags.writeable
    with pytest.raises(kvwasi.ViewsOpenError):
        store.close()


def test_threads(store: kvwasi.Store) -> None:
    store.put_many({f"{number}": b"%d" % number * 3000 for number in range(40)})
    wrong: list[object] = []

    def read(seed: int) -> None:
        chance, kept = random.Random(seed), list[tuple[int, memoryview | None]]()
        for _ in range(400):
            number = chance.randrange(40)
            kept.append((number, store.get(f"{number}", view=True)))
            del kept[: len(kept) - 20]
            wrong.extend(one for one, view in kept if view is None or bytes(view) != b"%d" % one * 3000)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for number in range(40):
            store[f"{number}"] = b"%d" % number * 3000
        store["more"] = os.urandom(200_000)
        store.compact()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_reads_on(path: Path) -> None:
    script = """
import os, sys, kvwasi
store = kvwasi.open(sys.argv[1])
store["k"] = b"v" * 5000
view = store.get("k", view=True)
child = os.fork()
if child == 0:
    good = view == b"v" * 5000
    view.release()
    os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0
store["k"] = b"w"
assert view == b"v" * 5000
view.release()
store.close()
"""
    subprocess.run([sys.executable, "-c", script, path], check=True)


def test_the_end_of_the_process_is_no_error(path: Path) -> None:
    script = """
import sys, kvwasi
store = kvwasi.open(sys.argv[1])
store["k"] = b"v" * 5000
view = store.get("k", view=True)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with kvwasi.open(path) as store:
        assert store.stats().recovered_commits == 0  # it was closed


class Views(RuleBasedStateMachine):
    """Views that are taken and let go among all other verbs: each shows what was there when it was taken."""

    keys = st.sampled_from(["a", "b", "c", "d"])
    sizes = st.sampled_from([0, 1, 700, 30_000, 66_000, 300_000])

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.place = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.path = os.path.join(self.place.name, "my.kv")
        self.store = kvwasi.open(self.path, sync="none", sector_bytes=256 << 10)
        self.model: dict[str, bytes] = {}
        self.views: list[tuple[memoryview, bytes]] = []
        self.chance = random.Random(1)

    @rule(key=keys, size=sizes)
    def put(self, key: str, size: int) -> None:
        self.model[key] = self.chance.randbytes(size)
        self.store[key] = self.model[key]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(key=keys)
    def look(self, key: str) -> None:
        view = self.store.get(key, view=True)
        assert view == self.model.get(key)
        if view is not None:
            self.views.append((view, self.model[key]))

    @rule()
    def look_at_all(self) -> None:
        for key, view in self.store.views():
            assert view == self.model[key.decode()]
            self.views.append((view, self.model[key.decode()]))

    @precondition(lambda self: self.views)
    @rule(number=st.integers(0, 100))
    def let_go(self, number: int) -> None:
        view, expected = self.views.pop(number % len(self.views))
        assert view == expected

    @rule()
    def sync(self) -> None:
        self.store.sync()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        mapped = any(is_mapped(view) for view, _ in self.views)
        if mapped:
            with pytest.raises(kvwasi.ViewsOpenError):
                self.store.close()
            self.views.clear()
        self.store.close()
        self.store = kvwasi.open(self.path, sync="none")

    @invariant()
    def all_are_as_they_were(self) -> None:
        assert all(view == expected for view, expected in getattr(self, "views", ()))

    def teardown(self) -> None:
        self.views.clear()
        assert self.store.check() == []
        self.store.close()
        self.place.cleanup()


TestViews = Views.TestCase
TestViews.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
