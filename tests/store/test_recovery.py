"""A process that ends without closing loses nothing that was committed, and leaves nothing that was not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi


def in_a_process_that_dies(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_what_was_committed_is_there(path: Path, sync: str) -> None:
    def work() -> None:
        store = kvwasi.open(path, sync=sync)  # type: ignore[arg-type]
        store["single"] = "1"
        store["large"] = bytes(300_000)
        with store.transaction() as t:
            t["a"] = "2"
            t["b"] = "3"
        transaction = store.transaction()
        transaction["single"] = "uncommitted"
        transaction["large"] = b"uncommitted" * 50_000

    in_a_process_that_dies(work)
    for flag in ("r", "w", "r"):
        with kvwasi.open(path, flag) as store:  # type: ignore[arg-type]
            assert dict(store) == {b"single": b"1", b"large": bytes(300_000), b"a": b"2", b"b": b"3"}
            assert store.check() == []


@pytest.mark.parametrize("committed", range(4))
@pytest.mark.parametrize("written", [0, 1, 30])
def test_an_unfinished_transaction_vanishes(path: Path, committed: int, written: int) -> None:
    """Also one that was so large that it had been written in part, over several sectors."""

    def work() -> None:
        store = kvwasi.open(path, sector_bytes=256 << 10)
        store.put_many((f"old{n}", bytes(60_000)) for n in range(committed))
        store.transaction().put_many((f"new{n}", bytes(60_000)) for n in range(written))

    in_a_process_that_dies(work)
    with kvwasi.open(path) as store:
        assert list(store) == [b"old%d" % n for n in range(committed)]
        assert store.check() == []
        store["after"] = "1"
        assert store.check() == []
    with kvwasi.open(path, "r") as store:
        assert len(store) == committed + 1
        assert store.check() == []


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_a_large_commit_leaves_little_to_replay(path: Path, sync: str) -> None:
    many = [(b"%06d" % i, b"") for i in range(350_000)]
    with kvwasi.open(path, sync=sync) as store:  # type: ignore[arg-type]
        store.put_many(many)
        if sync == "none":  # its flusher does that meanwhile
            for _ in range(100_000):
                if store.stats().tail_records == 0:
                    break
                store.sync()
        assert store.stats().tail_records == 0
        store["one more"] = ""
        assert store.stats().tail_records == 1


@pytest.mark.parametrize("before", range(5))
def test_a_record_that_was_refused_stays_refused(path: Path, before: int) -> None:
    """The file ends within the last record, and only zeros are missing: growth must not complete it."""
    torn = os.urandom(20_000) + bytes(30_000)

    def work() -> None:
        store = kvwasi.open(path, sync="none")
        for number in range(before):
            store.put(b"%d" % number, os.urandom(60_000))
        store.put(b"torn", torn)

    with kvwasi.open(path, sync="none", sector_bytes=256 << 10) as store:
        for number in range(30):
            store.put(b"%d" % number, os.urandom(50_000))
    in_a_process_that_dies(work)
    os.truncate(path, path.read_bytes().index(torn[:20_000]) + 20_000)
    contents = []
    for _ in range(3):
        with kvwasi.open(path, "w", sync="none") as store:
            contents.append(dict(store))
            assert store.check() == []
    assert len(contents[0]) == 30
    assert contents[1:] == contents[:1] * 2
