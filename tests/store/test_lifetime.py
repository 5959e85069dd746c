"""Handles that are closed, inherited, poisoned or dropped answer with typed errors."""

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi

Call = Callable[[kvwasi.Store], object]

CALLS: dict[str, Call] = {
    "getitem": lambda s: s["k"],
    "get": lambda s: s.get("k"),
    "contains": lambda s: "k" in s,
    "len": len,
    "bool": bool,
    "setitem": lambda s: s.__setitem__("k", "v"),
    "put": lambda s: s.put("k", "v"),
    "put large": lambda s: s.put("k", bytes(100_000)),
    "put_many": lambda s: s.put_many([("k", "v")]),
    "update": lambda s: s.update(k="v"),
    "setdefault": lambda s: s.setdefault("k", "v"),
    "delitem": lambda s: s.__delitem__("k"),
    "delete": lambda s: s.delete("k"),
    "pop": lambda s: s.pop("k"),
    "popitem": lambda s: s.popitem(),
    "pop_first": lambda s: s.pop_first(),
    "pop_last": lambda s: s.pop_last(),
    "put expect": lambda s: s.put("k", "v", expect="u"),
    "delete expect": lambda s: s.delete("k", expect="u"),
    "increment": lambda s: s.increment("n"),
    "delete_range": lambda s: s.delete_range(prefix="k"),
    "clear": lambda s: s.clear(),
    "count": lambda s: s.count(prefix="k"),
    "first": lambda s: s.first(),
    "last": lambda s: s.last(),
    "get_many": lambda s: s.get_many(["k"]),
    "views": lambda s: list(s.views()),
    "iter": list,
    "reversed": lambda s: list(reversed(s)),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "series": lambda s: s.series("s"),
    "series_names": lambda s: s.series_names(),
    "drop_series": lambda s: s.drop_series("s"),
    "reset_to_defaults": lambda s: s.reset_to_defaults(),
    "transaction": lambda s: s.transaction(),
    "cursor": lambda s: s.cursor(),
    "table": lambda s: s.table("t"),
    "tables": lambda s: s.tables(),
    "drop_table": lambda s: s.drop_table("t"),
    "snapshot": lambda s: s.snapshot(),
    "sync": lambda s: s.sync(),
    "stats": lambda s: s.stats(),
    "refresh": lambda s: s.refresh(),
    "check": lambda s: s.check(),
    "compact": lambda s: s.compact(),
    "backup": lambda s: s.backup(s.path + "-copy"),
    "enter": lambda s: s.__enter__(),
}
WRITES = {"setitem", "put", "put large", "put_many", "update", "setdefault", "delitem", "delete", "pop"}


def test_every_method_is_among_the_calls() -> None:
    # `close` and `closed`, `path` and such answer whatever the state is
    stateless = {"close", "closed", "path", "read_only", "sync_mode", "fromkeys"}
    public = {name for name in dir(kvwasi.Store) if not name.startswith("_")} - stateless
    assert public <= set(CALLS)


@pytest.fixture
def closed(path: Path) -> kvwasi.Store:
    store = kvwasi.open(path)
    store["k"] = "v"
    store.close()
    return store


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in CALLS.items()])
def test_use_after_close(closed: kvwasi.Store, call: Call) -> None:
    with pytest.raises(kvwasi.ClosedError, match="closed"):
        call(closed)


def test_closed(closed: kvwasi.Store) -> None:
    closed.close()
    assert closed.closed
    assert "closed" in repr(closed)
    with kvwasi.open(closed.path) as again:
        assert again["k"] == b"v"


def test_iterators_of_a_closed_store(path: Path) -> None:
    store = kvwasi.open(path)
    store.put_many((f"{n:03}", "v") for n in range(500))
    iterator = iter(store.items())
    next(iterator)
    store.close()
    with pytest.raises(kvwasi.ClosedError):
        list(iterator)


def test_use_in_a_child_process(path: Path) -> None:
    store = kvwasi.open(path)
    store.put_many((f"{n:03}", "v") for n in range(500))
    iterator = iter(store)
    next(iterator)
    t = store.transaction()
    t["uncommitted"] = "x"
    child = os.fork()
    if child == 0:
        code = _in_child(store, iterator, t, path)
        del store, iterator, t
        gc.collect()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    t.commit()  # the parent noticed nothing
    assert len([*iterator]) == 499
    with pytest.raises(kvwasi.DatabaseLockedError):
        kvwasi.open(path)
    store.close()
    with kvwasi.open(path) as store:
        assert len(store) == 501


def _in_child(store: kvwasi.Store, iterator: object, t: kvwasi.Transaction, path: Path) -> int:
    calls: list[Callable[[], object]] = [lambda c=c: c(store) for c in CALLS.values()]  # type: ignore[misc]
    calls += [
        t.commit,
        t.rollback,
        lambda: t.get("k"),
        lambda: t.put("k", "v"),
        lambda: t.put("k", bytes(100_000)),
    ]
    calls += [lambda: list(iterator)]  # type: ignore[call-overload]
    for call in calls:
        try:
            call()
        except kvwasi.ForkedError:
            continue
        return 1
    store.close()
    if "inherited" not in repr(store):
        return 2
    try:
        kvwasi.open(path)
    except kvwasi.DatabaseLockedError as error:
        if error.pids != (os.getppid(),):
            return 3
    with kvwasi.open(path.with_name("childs.kv")) as own:  # a child may well have a store of its own
        own["k"] = "v"
        if own["k"] != b"v":
            return 4
    return 0


def test_the_lock_of_a_parent_does_not_outlive_it_in_a_child(path: Path) -> None:
    code = """
import kvwasi, os, sys
store = kvwasi.open(sys.argv[1])
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)  # until the test closes its end, long after the parent is gone
    os._exit(0)
print("forked", flush=True)
os._exit(0)
"""
    keep, give = os.pipe()
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=keep, timeout=60)
    assert done.stdout == b"forked\n"
    with kvwasi.open(path) as store:
        assert len(store) == 0
    os.close(give)
    os.close(keep)


def _database_fd(path: Path) -> int:
    """The descriptor through which this process has the database open."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                return int(name)
        except OSError:
            continue
    raise AssertionError("the database is not open")


def _put_in_place(fd: int, device: str, flags: int) -> None:
    other = os.open(device, flags)
    os.dup2(other, fd, inheritable=False)
    os.close(other)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("sync", ["commit", "none"])
def test_use_after_a_failed_flush(path: Path, sync: str) -> None:
    store = kvwasi.open(path, sync=sync)  # type: ignore[arg-type]
    store["k"] = "v"
    store.sync()
    _put_in_place(_database_fd(path), "/dev/null", os.O_RDWR)  # takes every write, and cannot be flushed
    with pytest.raises(kvwasi.StorageError, match="reopening") as caught:
        store["lost"] = "x"
        store.sync()
    assert isinstance(caught.value, OSError)
    for name in WRITES | {"transaction", "sync", "compact", "clear", "popitem"}:
        with pytest.raises(kvwasi.PoisonedError, match="open again"):
            CALLS[name](store)
    if sync == "commit":
        store.close()  # all that was acknowledged is safe
    else:
        with pytest.raises(kvwasi.PoisonedError):
            store.close()
    assert store.closed
    with kvwasi.open(path) as again:
        assert dict(again) == {b"k": b"v"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(path: Path) -> None:
    store = kvwasi.open(path)
    store["k"] = "v"
    fd = _database_fd(path)
    keep = os.dup(fd)
    _put_in_place(fd, "/dev/full", os.O_RDWR)
    with pytest.raises(kvwasi.KvError) as caught:
        store["k2"] = "v" * 60_000
    assert isinstance(caught.value, kvwasi.DiskFullError | kvwasi.StorageError)
    os.dup2(keep, fd, inheritable=False)
    os.close(keep)
    store.close()
    with kvwasi.open(path) as again:
        assert again["k"] == b"v"


def test_a_dropped_store_is_closed_later(path: Path) -> None:
    store = kvwasi.open(path)
    store["k"] = "v"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del store
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    with kvwasi.open(path) as store:
        assert store["k"] == b"v"


def test_the_exit_of_the_interpreter_closes(path: Path) -> None:
    code = """
import kvwasi, sys
store = kvwasi.open(sys.argv[1], sync="none")
store["k"] = "v"
unfinished = store.transaction()
unfinished["x"] = ""
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, timeout=60, check=True
    )
    assert done.stderr == b""
    with kvwasi.open(path) as store:
        assert store.stats().recovered_commits == 0
        assert dict(store) == {b"k": b"v"}


def test_with_closes_and_shows_the_first_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), kvwasi.open(path) as store:
        store["k"] = "v"
        raise ZeroDivisionError
    assert store.closed
