"""Signals: Ctrl-C ends a wait, and leaves no lock held, at whatever moment it comes."""

import gc
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvwasi


class Interrupted(Exception):
    """What the signal handler raises, in place of KeyboardInterrupt."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    # Hypothesis has one: an interrupt that meets it in a collection of garbage can reach nobody.
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.callbacks[:] = callbacks
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_waiting_for_a_transaction_can_be_interrupted(store: kvwasi.Store) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction() as t:
            t["theirs"] = "1"
            begun.set()
            end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(30)
    for wait in (lambda: store.put("mine", "1"), store.transaction, store.compact, lambda: store.pop("mine")):
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            wait()
        assert store._session.writers_waiting == 0
    assert holder.is_alive()
    end.set()
    holder.join(30)
    store["mine"] = "2"
    assert dict(store) == {b"mine": b"2", b"theirs": b"1"}


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("sync", ["commit", "none"])
def test_at_any_moment(path: Path, sync: str) -> None:
    """After each interrupt the store works on, and holds what it was told, or what was under way."""
    chance = random.Random(5)
    with kvwasi.open(path, sync=sync) as store:  # type: ignore[arg-type]
        expected: dict[bytes, bytes] = {}
        for number in range(150):
            key, value = b"%d" % (number % 20), b"%d" % number * chance.choice((1, 100, 50_000))
            after = {**expected, key: value}
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 1e-3))
                if number % 3:
                    store[key] = value
                else:
                    with store.transaction() as t:
                        t.update(expected)
                        t[key] = value
                for _ in range(1000):
                    assert store[key] == value
                    assert list(store.items(limit=30)) == sorted(after.items())
                    expected = after
            except Interrupted:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            found = dict(store)
            assert found in (expected, after), number
            expected = found
        assert store.check() == []
        assert store.stats().cursors == 0


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("sync", ["commit", "none"])
def test_with_tables_savepoints_and_snapshots(path: Path, sync: str) -> None:
    """After each interrupt the tables agree, nothing stays open, and what was undone is nowhere."""
    chance = random.Random(7)
    with kvwasi.open(path, sync=sync) as store:  # type: ignore[arg-type]
        expected: dict[bytes, bytes] = {}
        for number in range(150):
            key, value = b"%d" % (number % 20), b"%d" % number * chance.choice((1, 100, 5000))
            after = {**expected, key: value}
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-3))
                with store.transaction() as t:
                    with t.savepoint():
                        t[key] = value
                        with t.savepoint() as point:
                            t["undone"] = b"x"
                            t.table("undone")["k"] = b"x"
                            point.rollback()
                    t.table("copy")[key] = value
                for _ in range(300):
                    with store.snapshot() as snap, snap.cursor() as cursor:
                        assert dict(cursor) == dict(snap.table("copy")) == after
                    expected = after
            except Interrupted:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            found = dict(store)
            assert found in (expected, after), number
            assert dict(store.table("copy")) == found
            assert store.tables() in ([], ["copy"])
            expected = found
        cursor = snap = t = point = None
        gc.collect()
        assert (store.stats().cursors, store.stats().snapshots) == (0, 0)
        assert store.check() == []


@pytest.mark.usefixtures("alarm")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_while_opening_and_closing(path: Path) -> None:
    chance = random.Random(6)
    for _ in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 6e-3))
            for _ in range(50):  # the handler's exception may come where Python drops it
                with kvwasi.open(path, sync="none") as store:
                    store["k"] = "v"
        except Interrupted:
            signal.setitimer(signal.ITIMER_REAL, 0)
        store = None  # still open, if it was interrupted just before it closed
        with kvwasi.open(path) as store:
            assert store.get("k") in (b"v", None)
