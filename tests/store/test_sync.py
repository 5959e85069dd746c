"""The sync modes: what a flush has covered."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi


def is_durable(store: kvwasi.Store) -> bool:
    stats = store.stats()
    return stats.durable_position >= stats.end_position


def test_commit(path: Path) -> None:
    with kvwasi.open(path, sync="commit") as store:
        for write in (
            lambda: store.put("a", "1"),
            lambda: store.put("large", bytes(200_000)),
            lambda: store.delete("a"),
            lambda: store.put_many({"b": "2", "c": "3"}),
            lambda: store.pop("b"),
        ):
            write()
            assert is_durable(store)


def test_none(path: Path) -> None:
    with kvwasi.open(path, sync="none") as store:
        store["a"] = "1"
        assert not is_durable(store)
        store.sync()
        assert is_durable(store)
        store.sync()
        del store["a"]
        assert not is_durable(store)
    with kvwasi.open(path, sync="none") as store:
        assert is_durable(store)


def test_interval(path: Path) -> None:
    with kvwasi.open(path, sync="interval", interval_ms=1) as store:
        for round_ in range(3):
            store["a"] = f"{round_}"
            deadline = time.monotonic() + 30
            while not is_durable(store):
                assert time.monotonic() < deadline, "the flusher does not flush"
    with kvwasi.open(path, "r", sync="interval", interval_ms=1) as store:
        assert store["a"] == b"2"


def test_a_long_interval_does_not_delay_close(path: Path) -> None:
    store = kvwasi.open(path, sync="interval", interval_ms=1000 * 60 * 60)
    store["a"] = "1"
    store.sync()
    assert is_durable(store)
    store["b"] = "1"
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join(30)
    assert store.closed
    with kvwasi.open(path) as store:
        assert dict(store) == {b"a": b"1", b"b": b"1"}


@pytest.mark.parametrize("threads", [2, 8])
def test_group_commit(path: Path, threads: int) -> None:
    """Everything that any thread was told to be on disk is, and is seen at once."""
    with kvwasi.open(path) as store:
        failures: list[BaseException] = []

        def write(number: int) -> None:
            try:
                for n in range(40):
                    key = f"{number}-{n}"
                    store[key] = "v"
                    position = store.stats().durable_position
                    assert store[key] == b"v"
                    assert store.stats().durable_position >= position
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert failures == []
        assert len(store) == threads * 40
        assert is_durable(store)


def test_what_a_large_transaction_writes_is_on_its_way_to_the_device(
    path: Path, dirty_pages: Callable[[Path], int]
) -> None:
    total, page = 40 << 20, 4096
    with kvwasi.open(path) as store:
        for value_bytes in (1000, 1_000_000):
            with store.transaction() as t:
                for n in range(total // value_bytes):
                    t.put(str(n), bytes(value_bytes))
                assert dirty_pages(path) < total / page / 2
        with store.transaction() as t:
            t.put_many((str(n), b"x" * 1000) for n in range(total // 1000))
            assert dirty_pages(path) < total / page / 2
        assert store.check() == []
