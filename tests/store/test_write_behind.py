"""A transaction's writes are made by a thread while it goes on: what was acknowledged is there."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvwasi

VALUE = bytes(range(256)) * 4

KILLED = """
import os, signal, sys, kvwasi
store = kvwasi.open(sys.argv[1], sync=sys.argv[2])
with store.transaction() as t:
    for n in range(int(sys.argv[3])):
        t.put(b"%06d" % n, {value!r})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("sync", ["commit", "interval", "none"])
@pytest.mark.parametrize("puts", [70, 300, 5000])
def test_killing_the_writer_behind_a_commit_loses_nothing(path: Path, sync: str, puts: int) -> None:
    program = KILLED.format(value=VALUE)
    for _ in range(5):
        path.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", program, path, sync, str(puts)])
        assert done.returncode == -signal.SIGKILL
        with kvwasi.open(path, "r") as store:
            assert len(store) == puts
            assert all(value == VALUE for value in store.values())


def test_a_store_that_is_closed_within_a_transaction(path: Path) -> None:
    store = kvwasi.open(path)
    store["before"] = "there"
    transaction = store.transaction().__enter__()
    for n in range(3000):
        transaction.put(b"%06d" % n, VALUE)
    store.close()
    with kvwasi.open(path) as store:
        assert dict(store) == {b"before": b"there"}
        assert store.check() == []


def test_a_file_that_may_not_grow_further(path: Path) -> None:
    """A limit that comes while writes are under way: told, at once or as a failed write."""
    with kvwasi.open(path) as store:
        store["before"] = "there"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for puts in (200, 1500, 3000):
            store = kvwasi.open(path)
            with pytest.raises(kvwasi.StorageError), store.transaction() as t:
                for n in range(puts):
                    t.put(b"%06d" % n, VALUE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
                for n in range(20_000):
                    t.put(b"%06d" % n, VALUE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            with contextlib.suppress(kvwasi.KvError):  # it has been told
                store.close()
            with kvwasi.open(path) as store:
                assert dict(store) == {b"before": b"there"}
                assert store.check() == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_child_process_does_not_wait_for_the_thread(path: Path) -> None:
    with kvwasi.open(path) as store:
        with store.transaction() as t:
            for n in range(3000):
                t.put(b"%06d" % n, VALUE)
            child = os.fork()
            if child == 0:
                try:
                    t.put(b"x", b"y")
                except kvwasi.ForkedError:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(store) == 3000
        assert store.check() == []
