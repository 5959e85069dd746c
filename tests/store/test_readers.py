"""Stores open to be read beside a writer: what they show, what is kept for them, what ends with them."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import kvwasi
from kvwasi import opening, peeking
from kvwasi.errors import CorruptionError
from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict, watch_new_hosts

SMALL = 256 << 10


@pytest.fixture
def store(path: Path) -> Iterator[kvwasi.Store]:
    with kvwasi.open(path, sync="none", sector_bytes=SMALL) as opened:
        yield opened


def checkpoints(store: kvwasi.Store, count: int = 3) -> None:
    """Overwrite one key until so many checkpoints are on disk."""
    until = store.stats().checkpoint + count
    while store.stats().checkpoint < until:
        store["much"] = os.urandom(60_000)
        store.sync()


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed ``ready``."""
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


READER = """
import sys, kvwasi
store = kvwasi.open(sys.argv[1], "r")
first = dict(store.items())
print("ready", flush=True)
for line in sys.stdin:
    print(dict(store.items()) == first, flush=True)
"""


# --- what is shown ---


def test_one_moment_until_it_is_refreshed(store: kvwasi.Store, path: Path) -> None:
    store["a"] = "1"
    with kvwasi.open(path, "r") as reader:
        assert reader.read_only and "read-only" in repr(reader)
        assert not reader.refresh()
        store["b"] = "2"
        with store.transaction() as t:
            t["never"] = bytes(100_000)
            t.put_many((f"{n}", bytes(3000)) for n in range(500))
            t.rollback()
        with store.transaction() as t:
            t["large"] = bytes(100_000)
            del t["a"]
            assert reader.items().__iter__().__next__() == (b"a", b"1")
            assert not reader.refresh() or dict(reader) == {b"a": b"1", b"b": b"2"}
        assert b"large" not in reader
        assert reader.refresh()
        assert dict(reader) == {b"b": b"2", b"large": bytes(100_000)} == dict(store)
        assert reader.get("a") is None and len(reader) == 2
        with pytest.raises(kvwasi.ReadOnlyError):
            reader["c"] = "3"


@pytest.mark.parametrize("over", ["the log", "a checkpoint", "a compaction"])
def test_what_was_begun_goes_on(store: kvwasi.Store, path: Path, over: str) -> None:
    store.put_many((f"{n:04}", f"{n}" * 50) for n in range(2000))
    before = dict(store)
    with kvwasi.open(path, "r") as reader:
        iterator, snapshot = iter(reader.items()), reader.snapshot()
        assert next(iterator) == (b"0000", b"0" * 50)
        store.put_many((f"{n:04}", "new") for n in range(0, 2500, 3))
        if over == "a checkpoint":
            checkpoints(store)
        if over == "a compaction":
            store.compact()
        assert reader.refresh()
        assert dict(reader) == dict(store)
        checkpoints(store)
        store.compact()
        checkpoints(store)
        assert dict(iterator) == {key: value for key, value in before.items() if key != b"0000"}
        assert dict(snapshot.items()) == before
        snapshot.close()
        assert reader.refresh()
        assert dict(reader) == dict(store)
        assert reader.check() == []


def test_tables_that_come_and_go(store: kvwasi.Store, path: Path) -> None:
    with kvwasi.open(path, "r") as reader:
        table = reader.table("t")
        assert len(table) == 0
        store.table("t")["k"] = "1"
        assert len(table) == 0 and reader.tables() == []
        reader.refresh()
        assert table["k"] == b"1" and reader.tables() == ["t"]
        store.drop_table("t")
        reader.refresh()
        assert dict(table) == {} and reader.tables() == []
        store.table("t")["k"] = "2"
        assert table.get("k") is None
        reader.refresh()
        assert table["k"] == b"2"
        store.table("d", dupsort=True).put("k", "v")
        store.series("s").append(b"x", ts=5)
        reader.refresh()
        assert list(reader.table("d", dupsort=True).get_all("k")) == [b"v"]
        assert reader.series("s").last() is not None


def test_keys_that_were_read_before(store: kvwasi.Store, path: Path) -> None:
    """What the adaptive hash remembers of a key is forgotten when the log tells of it."""
    store.put_many((f"{n}", "old") for n in range(100))
    with kvwasi.open(path, "r") as reader:
        for turn in range(5):
            for n in range(100):
                assert reader[f"{n}"] == (f"{turn}".encode() if turn else b"old")
            store.put_many((f"{n}", f"{turn + 1}") for n in range(100))
            reader.refresh()
        store.delete("7")
        reader.refresh()
        assert "7" not in reader


def test_only_what_is_open_to_be_read_is_refreshed(store: kvwasi.Store, path: Path) -> None:
    with pytest.raises(kvwasi.ReadOnlyError, match="flag 'r'"):
        store.refresh()
    with pytest.raises(kvwasi.ReadOnlyError):
        kvwasi.peek(path, lambda seen: seen.refresh())
    reader = kvwasi.open(path, "r")
    reader.close()
    with pytest.raises(kvwasi.ClosedError):
        reader.refresh()


def test_a_file_that_is_replaced_or_gone(store: kvwasi.Store, path: Path) -> None:
    store["k"] = "v"
    with kvwasi.open(path, "r") as reader:
        store.close()
        with kvwasi.open(path, "n") as other:
            other["other"] = "1"
        assert dict(reader) == {b"k": b"v"}
        assert reader.refresh()
        assert dict(reader) == {b"other": b"1"}
        path.unlink()
        assert not reader.refresh()
        assert dict(reader) == {b"other": b"1"}
        path.write_bytes(b"junk" * 5000)
        with pytest.raises(kvwasi.NotADatabaseError):
            reader.refresh()
        assert dict(reader) == {b"other": b"1"}


def test_a_commit_is_seen_before_it_is_acknowledged(path: Path) -> None:
    """It is in the page cache when its flush begins: a power cut that takes it takes the reader as well."""
    seen: list[bytes | None] = []

    class Flushes:
        def before(self, call: StorageCall) -> Verdict:
            if call.operation == "datasync" and reading:
                reader.refresh()
                seen.append(reader.get("k"))
            return GO_ON

        def after(self, result: Result) -> None:
            """Nothing."""

    reading = False
    with watch_new_hosts(Flushes()):
        store = kvwasi.open(path)
    store["k"] = "1"
    with store, kvwasi.open(path, "r") as reader:
        reading = True
        store["k"] = "2"
        reading = False
    assert seen == [b"2"]


def test_damage_beside_a_writer_is_told_in_the_end(
    store: kvwasi.Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_ATTEMPTS", 3)
    monkeypatch.setattr(opening, "_PAUSE_SECONDS", 0)
    store["k"] = "v"
    calls: list[int] = []

    def read() -> None:
        calls.append(1)
        if len(calls) < 3 or store.closed:
            raise CorruptionError("under way")

    lock = opening.acquire(path, "r")
    opening.beside_writer(lock, read)
    assert len(calls) == 3
    store.close()
    with pytest.raises(CorruptionError):
        opening.beside_writer(lock, read)
    assert len(calls) == 5  # nobody writes, and then still nobody: so it is
    lock.release()


# --- what is kept ---


def test_a_reader_keeps_only_what_it_stands_on(store: kvwasi.Store, path: Path) -> None:
    store.put_many((f"{n}", os.urandom(300)) for n in range(1000))
    with kvwasi.open(path, "r") as reader:
        for _ in range(8):
            checkpoints(store)
            assert reader.get("7") is not None and reader.refresh()
            assert store.stats().kept_checkpoints == 0


def test_what_a_reader_shows_is_kept(store: kvwasi.Store, path: Path) -> None:
    store.put_many((f"{n}", os.urandom(300)) for n in range(1000))
    with process(READER, path) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        checkpoints(store, 5)
        stats = store.stats()
        assert stats.kept_checkpoints == 1
        assert stats.reader_age_seconds > 0
        assert stats.pinned_bytes > 0
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "True\n"
        again = kvwasi.open(path, "r")
        checkpoints(store, 3)
        assert store.stats().kept_checkpoints == 2
        again.close()
        assert store.stats().kept_checkpoints == 1
    assert store.stats().kept_checkpoints == 0  # nobody but the kernel has told
    assert store.stats().reader_age_seconds == 0
    before = store.stats().sectors
    for _ in range(3):
        checkpoints(store, 3)
    assert store.stats().sectors <= before
    assert store.check() == []


def test_readers_hold_nothing_that_is_new(store: kvwasi.Store, path: Path) -> None:
    """One that keeps up costs no more than the two checkpoints that are kept anyway."""
    with kvwasi.open(path, "r") as reader:
        for _ in range(10):
            checkpoints(store, 1)
            reader.refresh()
            assert store.stats().kept_checkpoints <= 1
        assert store.stats().sectors < 60


WRITER = """
import os, sys, kvwasi
store = kvwasi.open(sys.argv[1], sync="none", sector_bytes=256 << 10)
def checkpoints(count):
    until = store.stats().checkpoint + count
    while store.stats().checkpoint < until:
        store["much"] = os.urandom(60_000)
        store["large"] = os.urandom(80_000)
        store.sync()
checkpoints(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("made", [0, 1, 2, 5])
def test_a_writer_after_a_killed_one(path: Path, made: int) -> None:
    """It does not know what the readers need that are older than what it finds, and keeps all of it."""
    with kvwasi.open(path, sync="none", sector_bytes=SMALL) as store:
        store.put_many((f"{n}", os.urandom(3000)) for n in range(500))
        store["large"] = os.urandom(300_000)
    with kvwasi.open(path, "r") as reader:
        before = dict(reader)
        for _ in range(3):
            with process(WRITER, path, made) as writer:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
            assert dict(reader) == before
        with kvwasi.open(path, sync="none") as store:
            checkpoints(store, 4)
            for _ in range(4):
                store["large"] = os.urandom(200_000)
                checkpoints(store, 1)
            assert dict(reader) == before
            assert store.stats().kept_checkpoints >= 1
            assert reader.refresh()
            assert dict(reader) == dict(store)
            reader.close()
            assert store.stats().kept_checkpoints == 0
            assert store.check() == []
            sectors = store.stats().sectors
            checkpoints(store, 10)
            assert store.stats().sectors <= sectors + 4


def test_readers_of_a_compacted_file_hold_nothing(store: kvwasi.Store, path: Path) -> None:
    store.put_many((f"{n}", os.urandom(300)) for n in range(1000))
    with kvwasi.open(path, "r") as reader:
        before = dict(reader)
        checkpoints(store, 3)
        assert store.stats().kept_checkpoints == 1
        store.compact()
        checkpoints(store, 3)
        assert store.stats().kept_checkpoints == 0
        assert dict(reader) == before


def test_opening_does_not_wait_for_a_writer_that_is_fast(store: kvwasi.Store, path: Path) -> None:
    """A new checkpoint every moment: a reader still opens at once, and shows what was there when it did."""
    store["n"] = "0"
    stop, opened = threading.Event(), 0

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with store.transaction() as t:
                t["n"] = str(number)
                t["much"] = b"%d" % number * 9000
            store.sync()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        first = store.stats().checkpoint
        while opened < 30 or store.stats().checkpoint < first + 20:
            at_least = int(store["n"])
            with kvwasi.open(path, "r") as reader:
                opened += 1
                number = int(reader["n"])
                assert number >= at_least
                assert reader.get("much") == (b"%d" % number * 9000 if number else None)
    finally:
        stop.set()
        writer.join()


def test_is_written(path: Path) -> None:
    with kvwasi.open(path) as store:
        assert opening.is_written(store.path)
        with kvwasi.open(path, "r"):
            pass
    assert not opening.is_written(str(path))
    with kvwasi.open(path, "r"):
        assert not opening.is_written(str(path))
    assert peeking.peek(path, len) == 0


# --- forks, and pickles ---


def in_child(work: Callable[[], object]) -> int:
    """Its exit status; 0 if ``work`` returns."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_reads_on(store: kvwasi.Store, path: Path) -> None:
    store.table("t")["k"] = "1"
    store.put_many((f"{n:03}", "v") for n in range(500))
    reader = kvwasi.open(path, "r")
    table, iterator, snapshot = reader.table("t"), iter(reader), reader.snapshot()
    of_snapshot = snapshot.table("t")
    next(iterator)

    def child() -> None:
        assert "inherited" in repr(reader)
        assert len(reader) == 500 and reader["007"] == b"v" and table["k"] == b"1"
        assert "inherited" not in repr(reader)
        for dead in (
            lambda: list(iterator),
            lambda: snapshot["007"],
            lambda: of_snapshot["k"],
            lambda: list(snapshot),
            lambda: store["007"],  # the writer's own handle does not come back
        ):
            with pytest.raises(kvwasi.ForkedError):
                dead()
        with reader.snapshot() as own, pytest.raises(kvwasi.ForkedError):
            snapshot["007"]
            assert own["007"] == b"v"
        assert not reader.refresh()
        snapshot.close()
        reader.close()

    assert in_child(child) == 0
    assert in_child(lambda: in_child(lambda: list(reader)) == 0 or os._exit(2)) == 0  # a child's child
    store["new"] = "v"
    assert len([*iterator]) == 499 and len(snapshot) == 500
    assert reader.refresh() and reader["new"] == b"v"
    assert in_child(lambda: reader["new"]) == 0
    snapshot.close()
    reader.close()
    with pytest.raises(kvwasi.ClosedError):
        len(reader)
    assert in_child(lambda: reader.closed or os._exit(1)) == 0


def test_many_threads_of_a_child(store: kvwasi.Store, path: Path) -> None:
    store.put_many((f"{n}", "v") for n in range(100))
    with kvwasi.open(path, "r") as reader:

        def child() -> None:
            found: list[int] = []
            threads = [threading.Thread(target=lambda: found.append(len(reader))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == [100] * 8

        assert in_child(child) == 0


def test_what_a_killed_parent_held_ends_with_it(store: kvwasi.Store, path: Path) -> None:
    """Though a child lives on, with its copies of the descriptors."""
    code = """
import os, sys, kvwasi
store = kvwasi.open(sys.argv[1], "r")
kept = iter(store)
told, tells = os.pipe()
child = os.fork()
if child == 0:
    os.write(tells, b"forked")  # behind what is done in the child of a fork
    sys.stdin.read()
    os._exit(0)
os.read(told, 6)
print("ready", flush=True)
os.waitpid(child, 0)
"""
    store["k"] = "v"
    with process(code, path) as parent:
        checkpoints(store)
        assert store.stats().kept_checkpoints == 1
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert store.stats().kept_checkpoints == 0


def test_a_store_that_cannot_be_opened_in_the_child(path: Path) -> None:
    kvwasi.open(path).close()
    with kvwasi.open(path, "r") as reader:

        def child() -> None:
            moved = path.with_name("moved.kv")
            os.rename(path, moved)
            for _ in range(2):
                with pytest.raises(kvwasi.NoSuchDatabaseError):
                    len(reader)
            os.rename(moved, path)
            assert len(reader) == 0

        assert in_child(child) == 0


def test_pickles(store: kvwasi.Store, path: Path) -> None:
    store["k"] = "v"
    with pytest.raises(TypeError, match="writing"):
        pickle.dumps(store)
    with kvwasi.open(path, "r", cache_bytes=8 << 20) as reader:
        pickled = pickle.dumps(reader)
        with pickle.loads(pickled) as copy:
            assert copy["k"] == b"v" and copy.read_only
            assert copy.stats().cache_bytes == 8 << 20
        store.table("t")["k"] = "1"
        store.table("d", dupsort=True).put("k", "2")
        reader.refresh()
        for table in (reader.table("t"), reader.table("d", dupsort=True)):
            copy = pickle.loads(pickle.dumps(table))
            assert copy.get("k") == table.get("k") is not None
            copy._of.close()
        for unpicklable in (store.table("t"), reader.snapshot(), iter(reader)):
            with pytest.raises(TypeError):
                pickle.dumps(unpicklable)
    with pytest.raises(kvwasi.ClosedError):
        pickle.dumps(reader)
    with pickle.loads(pickled) as copy:
        assert copy["k"] == b"v"


LOADER = """
import multiprocessing, sys, kvwasi

class Dataset:  # as those of PyTorch: picklable, or inherited by a fork
    def __init__(self, path):
        self.store = kvwasi.open(path, "r")
    def __len__(self):
        return len(self.store)
    def __getitem__(self, number):
        return self.store[b"%06d" % number]

def work(dataset, numbers, results):
    found = []
    try:
        found = [(number, dataset[number]) for number in numbers]
    finally:  # the parent waits for each
        results.put(found)

if __name__ == "__main__":
    dataset = Dataset(sys.argv[1])
    context, count = multiprocessing.get_context(sys.argv[2]), len(dataset)
    dataset[0]
    results = context.Queue()
    workers = [
        context.Process(target=work, args=(dataset, range(first, count, 4), results)) for first in range(4)
    ]
    for worker in workers:
        worker.start()
    found = dict(entry for _ in workers for entry in results.get())
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert found == {number: b"%d" % number * 20 for number in range(count)}, len(found)
    print("ready", flush=True)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_loader_with_four_workers(store: kvwasi.Store, path: Path, tmp_path: Path, method: str) -> None:
    store.put_many((b"%06d" % n, b"%d" % n * 20) for n in range(2000))
    script = tmp_path / "loader.py"
    script.write_text(LOADER)
    stop = threading.Event()
    other = store.table("other")  # of its own: the loader counts the entries of the store

    def write() -> None:
        while not stop.is_set():
            store[b"%06d" % 7] = b"%d" % 7 * 20
            other["much"] = os.urandom(1000)
            other.delete("much")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = subprocess.run(
            [sys.executable, "-P", script, path, method], capture_output=True, text=True, timeout=100
        )
    finally:
        stop.set()
        writer.join()
    assert done.stdout == "ready\n", done.stderr
    assert store.stats().kept_checkpoints == 0


def test_dropped_readers_let_go(store: kvwasi.Store, path: Path) -> None:
    with pytest.warns(ResourceWarning, match="unclosed"):
        reader: kvwasi.Store | None = kvwasi.open(path, "r")
        assert reader is not None and len(reader) == 0
        checkpoints(store)
        reader = None
        gc.collect()
    kvwasi.open(path, "r").close()  # gives back what was dropped
    assert store.stats().kept_checkpoints == 0
