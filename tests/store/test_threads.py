"""Many threads at one store."""

import itertools
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi


def run_all(*calls: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


@pytest.fixture(autouse=True)
def many_switches() -> object:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("sync", ["commit", "none", "interval"])
def test_everybody_at_once(path: Path, sync: str) -> None:
    """Money moves between accounts, in transactions; whoever looks sees the same sum."""
    accounts = [f"account-{n}" for n in range(20)]
    with kvwasi.open(path, sync=sync, interval_ms=1) as store:  # type: ignore[arg-type]
        store.put_many((account, b"100") for account in accounts)
        stop = threading.Event()

        def move(seed: int) -> None:
            chance = random.Random(seed)
            for n in range(40):
                one, two = chance.sample(accounts, 2)
                try:
                    with store.transaction() as t:
                        t[one] = b"%d" % (int(t[one]) - 1)
                        t[two] = b"%d" % (int(t[two]) + 1)
                        if n % 5 == 4:
                            raise InterruptedError
                except InterruptedError:
                    pass

        def put(seed: int) -> None:
            for n in range(60):
                store[f"own-{seed}-{n}"] = bytes(n * 300)
                assert store.delete(f"own-{seed}-{n}")

        def look() -> None:
            while not stop.is_set():
                assert sum(int(value) for value in store.values(prefix="account-")) == 2000
                assert sum(map(int, filter(None, store.get_many(accounts)))) in range(1900, 2100)
                assert store["account-0"]
                assert len(store) >= 20

        def whole() -> None:
            for _ in range(3):
                assert store.check() == []
                store.compact()
                store.sync()
                store.stats()

        def writers() -> None:
            try:
                run_all(lambda: move(1), lambda: move(2), lambda: put(3), lambda: put(4), whole)
            finally:
                stop.set()

        run_all(writers, look, look)
        assert sum(int(value) for value in store.values()) == 2000
        assert len(store) == 20
        assert store.check() == []


def test_large_values_do_not_hold_up_others(path: Path) -> None:
    with kvwasi.open(path, sync="none") as store:
        store["large"] = bytes(20 << 20)
        store["small"] = "x"
        run_all(
            *[lambda: [len(store["large"]) for _ in range(3)] for _ in range(3)],
            *[lambda: [store["small"] for _ in range(2000)] for _ in range(3)],
            lambda: store.put("other", bytes(20 << 20)),
        )
        assert len(store["other"]) == 20 << 20


def test_python_runs_while_the_disk_works(path: Path) -> None:
    """A thread counts while another puts; with the GIL held through each flush it would hardly get on."""
    with kvwasi.open(path) as store:
        counted = 0
        done = threading.Event()

        def count() -> None:
            nonlocal counted
            while not done.is_set():
                counted += 1

        def put() -> None:
            before = counted
            progress = 0
            for n in range(200):
                store[f"{n}"] = "v"
                progress += counted > before
                before = counted
            done.set()
            assert progress > 20

        run_all(count, put)


@pytest.mark.parametrize("rounds", [20])
def test_closing_while_others_work(path: Path, rounds: int) -> None:
    for n in range(rounds):
        store = kvwasi.open(path)
        go = threading.Barrier(5)

        def work(call: Callable[[int], object], go: threading.Barrier = go) -> None:
            go.wait(30)
            try:
                for i in itertools.count():
                    call(i)
            except kvwasi.ClosedError:
                return

        def close(store: kvwasi.Store = store, go: threading.Barrier = go) -> None:
            go.wait(30)
            store.close()

        def put(i: int, store: kvwasi.Store = store) -> None:
            store[f"{i}"] = "v"

        def get(i: int, store: kvwasi.Store = store) -> None:
            store.get(f"{i}")

        def scan(i: int, store: kvwasi.Store = store) -> None:
            list(store.items())

        def change(i: int, store: kvwasi.Store = store) -> None:
            with store.transaction() as t:
                t[f"t{i}"] = bytes(100_000)

        run_all(
            close,
            lambda: work(put),
            lambda: work(get),
            lambda: work(scan),
            lambda: work(change),
        )
        with kvwasi.open(path) as store:
            assert store.check() == []
            assert store.stats().recovered_commits == 0, n
            store.clear()
