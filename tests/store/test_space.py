"""Space: what dead records take is used again, in every sync mode."""

import os
from pathlib import Path

import pytest

import kvwasi

SECTOR = 256 << 10
# What a file may have whatever is live: spared and waiting sectors, the index, the log of three checkpoints
# (on a busy machine the thread that flushes waits).
RESERVE = 12 * SECTOR + (12 << 20)
KEYS, VALUE, ROUNDS = 40, 20_000, 36


@pytest.mark.parametrize("sync", ["commit", "interval", "none"])
def test_a_file_under_overwriting_stays_bounded(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "a.kv"
    expected = {}
    with kvwasi.open(path, sync=sync, sector_bytes=SECTOR) as store:
        for round_number in range(ROUNDS):
            for i in range(KEYS):
                key, value = b"key%d" % i, os.urandom(VALUE)
                store[key] = expected[key] = value
            del store[b"key%d" % round_number]
            del expected[b"key%d" % round_number]
        live = store.stats().live_bytes
        assert os.path.getsize(path) < 2 * live + RESERVE
        assert store.stats().erase_max > 0  # sectors were used again
        assert dict(store.items()) == expected
        assert store.check() == []
    with kvwasi.open(path) as store:
        assert dict(store.items()) == expected
        assert store.check() == []


def test_transactions_pay_for_collection_too(tmp_path: Path) -> None:
    path = tmp_path / "a.kv"
    with kvwasi.open(path, sync="none", sector_bytes=SECTOR) as store:
        for _ in range(60):
            expected = {b"key%d" % i: os.urandom(5000) for i in range(KEYS)}
            store.put_many(expected)
            store.sync()
        assert os.path.getsize(path) < 2 * store.stats().live_bytes + RESERVE
        assert dict(store.items()) == expected


@pytest.mark.parametrize("reopening", [False, True])
def test_large_values_give_their_space_back(tmp_path: Path, reopening: bool) -> None:
    path = tmp_path / "a.kv"
    store = kvwasi.open(path, sync="none", sector_bytes=SECTOR)
    expected = {}
    for i in range(120):
        key, value = b"key%d" % (i % 5), os.urandom(300_000)
        store[key] = expected[key] = value
        if reopening and i % 3 == 2:
            store.close()
            store = kvwasi.open(path, sync="none")
    assert os.path.getsize(path) < 80 * SECTOR  # 240 were written, 10 are live
    assert dict(store.items()) == expected
    assert store.check() == []
    store.close()


@pytest.mark.parametrize("sync", ["commit", "none"])
@pytest.mark.parametrize("what", ["put", "transaction", "delete", "append"])
def test_small_commits_lie_in_space_that_is_there(tmp_path: Path, sync: str, what: str) -> None:
    """A commit that makes the file longer is a system call, and for a synced one two writes of the disk."""
    path = tmp_path / "a.kv"
    sizes = set()
    with kvwasi.open(path, sync=sync, sector_bytes=SECTOR) as store:
        series = store.series("s")
        series.append(0.5, 0)
        for i in range(8000):
            if what == "put":
                store[b"%04d" % i] = b"value"
            elif what == "delete":
                store.delete(b"%04d" % (i - 1))
                store[b"%04d" % i] = b"value"
            elif what == "append":
                series.append(0.5, i + 1)
            else:
                with store.transaction() as transaction:
                    transaction[b"%04d" % i] = b"value"
            sizes.add(os.path.getsize(path))
    assert len(sizes) < 40


def test_an_iterator_keeps_what_it_began_with(tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv", sync="none", sector_bytes=SECTOR) as store:
        begun = {b"key%d" % i: os.urandom(VALUE) for i in range(KEYS)}
        store.put_many(begun)
        items = iter(store.items())
        seen = [next(items)]
        for _ in range(ROUNDS):
            for key in begun:
                store[key] = os.urandom(VALUE)
        seen.extend(items)
        assert dict(seen) == begun
