"""SIGKILL at every storage call of a workload, and while many threads commit: see :mod:`.situations`."""

import os
import random
import signal
import threading
from pathlib import Path

from kvwasi.crashcheck.engines import change
from kvwasi.crashcheck.newfiles import watch_new_files
from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict, watch_new_hosts

__all__ = ["killed_at_every_call", "killed_beside_readers", "killed_while_many_write"]


class _Killer:
    """Ends the process before storage call ``at``."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def before(self, call: StorageCall) -> Verdict:
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        return GO_ON

    def after(self, result: Result) -> None:
        """Nothing."""


def killed_at_every_call(place: Path, step: int = 1) -> str:
    """SIGKILL before each storage call: all that was acknowledged is there, one more commit whole or not."""
    import kvwasi

    shared, at = place / "told", 0
    while True:
        for entry in place.iterdir():
            entry.unlink()
        shared.write_bytes(b"")
        child = os.fork()
        if child == 0:
            killer = _Killer(at)
            with watch_new_hosts(killer), watch_new_files(killer):
                _acknowledged_work(place / "a.kv", shared)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        done = len(shared.read_bytes())
        if (place / "a.kv").exists():
            with kvwasi.open(place / "a.kv", "w") as store:
                found, problems = dict(store.items()), store.check()
        else:
            found, problems = {}, []
        if problems or found not in (_after(done), _after(done + 1)):
            return f"before call {at}: {done} commits acknowledged, {len(found)} keys there; {problems}"
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            return "" if os.waitstatus_to_exitcode(status) == 0 else f"ended by {status}"
        at += step


def _commits() -> list[dict[bytes, bytes | None]]:
    commits: list[dict[bytes, bytes | None]] = [
        {b"%d" % (number % 7): bytes([number]) * (1, 300, 60_000, 70_000)[number % 4]} for number in range(8)
    ]
    return [*commits, {b"1": None}, {b"more-%d" % number: b"x" for number in range(50)}, {b"2": None}]


def _after(commits: int) -> dict[bytes, bytes]:
    model: dict[bytes, bytes | None] = {}
    for changes in _commits()[:commits]:
        model |= changes
    return {key: value for key, value in model.items() if value is not None}


def _acknowledged_work(path: Path, told: Path) -> None:
    import kvwasi

    with open(told, "ab", buffering=0) as stream:
        store = kvwasi.open(path, sector_bytes=256 << 10)
        for number, changes in enumerate(_commits()):
            with store.transaction() as transaction:
                change(transaction, list(changes.items()))
            stream.write(b"x")
            if number % 5 == 4:
                store.compact()
            if number % 4 == 3:
                store.close()
                store = kvwasi.open(path)
        store.close()


def killed_while_many_write(place: Path) -> str:
    """SIGKILL at a random moment of threads that commit together."""
    import kvwasi

    child = os.fork()
    if child == 0:
        store = kvwasi.open(place / "a.kv", sector_bytes=256 << 10)

        def write(lane: int) -> None:
            for number in range(10**6):
                store.put(b"%d" % lane, b"%d" % number)

        threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
        for thread in threads:
            thread.start()
        threads[0].join(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with kvwasi.open(place / "a.kv") as store:
        return "; ".join(map(str, store.check()))


def killed_beside_readers(place: Path, rounds: int = 60, seed: int = 1) -> str:
    """Writers killed one after another beside readers that stay: each shows what it did.

    A writer that opens the file knows nothing of what those refer to that stand on older checkpoints than it
    finds.
    """
    import kvwasi

    chance, path, shared = random.Random(seed), place / "a.kv", place / "told"
    kvwasi.open(path, sector_bytes=256 << 10).close()
    shared.write_bytes(b"0")
    readers: list[tuple[kvwasi.Store, int]] = []
    try:
        for _ in range(rounds):
            if len(readers) < 3:
                reader = kvwasi.open(path, "r")
                readers.append((reader, int(reader.get(b"n", b"0"))))
            else:
                reader, _ = readers.pop(chance.randrange(3))
                if chance.random() < 0.5:
                    reader.close()
                else:
                    reader.refresh()
                    readers.append((reader, int(reader.get(b"n", b"0"))))
            told, last = int(shared.read_bytes()), readers[-1][1]
            if not reader.closed and not told <= last <= told + 1:
                return f"{told} commits acknowledged, a reader sees {last}"
            child = os.fork()
            if child == 0:
                with watch_new_hosts(_Killer(chance.randrange(chance.choice((10, 100, 900))))):
                    _commit_on(path, shared)
                os._exit(1)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
                return "the writer ended by itself"
            for reader, number in readers:
                if dict(reader.items()) != _after_numbered(number):
                    return f"a reader does not show commit {number} any more"
    finally:
        for reader, _ in readers:
            reader.close()
    return _reclaimed(path, int(shared.read_bytes()))


def _commit_on(path: Path, shared: Path) -> None:
    import kvwasi

    told = os.open(shared, os.O_WRONLY)
    with kvwasi.open(path, "w", sync="none") as store:
        number = int(store.get(b"n", b"0"))
        while True:
            number += 1
            with store.transaction() as transaction:
                changes = [(b"n", b"%d" % number), (b"key-%d" % (number % 12), _numbered(number))]
                change(transaction, changes)
            os.pwrite(told, b"%d" % number, 0)
            if number % 9 == 0:
                store.sync()


def _numbered(number: int) -> bytes | None:
    """What commit ``number`` puts; None: it deletes."""
    return None if number % 7 == 0 else b"%d " % number + bytes(number * 37 % 6 * 15_000)


def _after_numbered(number: int) -> dict[bytes, bytes]:
    last = range(max(number - 11, 1), number + 1)
    found = {b"key-%d" % (one % 12): _numbered(one) for one in last}
    counter = {b"n": b"%d" % number} if number else {}
    return counter | {key: value for key, value in found.items() if value is not None}


def _reclaimed(path: Path, told: int) -> str:
    """The readers are gone: nothing is kept for them once it is asked for again."""
    import kvwasi

    with kvwasi.open(path, "w", sync="none") as store:
        number = int(store[b"n"])
        if not told <= number <= told + 1 or dict(store.items()) != _after_numbered(number):
            return f"{told} commits acknowledged, then {number} there"
        kept = store.stats().kept_checkpoints
        return f"{kept} checkpoints are kept for nobody" if kept else "; ".join(map(str, store.check()))
