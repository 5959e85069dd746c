"""Readers, writers, snapshots, cursors and compaction at once, in a small cache and small sectors."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvwasi

ROUNDS = 40
KEYS = 3000
TABLES = ("", "one", "two")


def table(reads: Any, name: str) -> Any:
    return reads.table(name) if name else reads


def value(generation: int, key: int) -> bytes:
    return b"%d:" % generation + b"x" * (key % 400)


class Stress:
    """Each transaction moves some keys of all tables to its generation, or deletes them in all: whoever looks
    at one moment sees the same keys and generations in every table.
    """

    def __init__(self, store: kvwasi.Store, seed: int) -> None:
        self.store = store
        self.seed = seed
        self.failures: list[BaseException] = []
        self.written: dict[bytes, bytes] = {}

    def write(self, chance: random.Random) -> None:
        """The only writer of the tables: what it has committed is what must be there in the end."""
        for generation in range(ROUNDS):
            keys = chance.sample(range(KEYS), chance.randrange(1, 400))
            doomed = chance.sample(range(KEYS), chance.randrange(200))
            change = {b"%06d" % key: value(generation, key) for key in keys}
            with self.store.transaction() as t:
                for name in TABLES:
                    target = table(t, name)
                    with t.savepoint() as point:
                        target.put_many(dict.fromkeys(change, b"never seen"))
                        point.rollback()
                    target.put_many(change)
                    for key in doomed:
                        target.delete(b"%06d" % key)
                if generation % 7 == 6:
                    t.rollback()
                    continue
            self.written.update(change)
            for key in doomed:
                self.written.pop(b"%06d" % key, None)

    def write_alone(self, chance: random.Random) -> None:
        """Commits of one record, large values among them, in a table of their own."""
        target = self.store.table("alone")
        for n in range(ROUNDS * 8):
            target[b"%03d" % chance.randrange(50)] = b"%d" % n * chance.choice([1, 100, 20_000])
            if n % 9 == 0:
                target.delete(b"%03d" % chance.randrange(50))

    def look(self, chance: random.Random) -> None:
        for _ in range(ROUNDS):
            with self.store.snapshot() as snap:
                there = set(snap.tables())
                seen = [dict(table(snap, name)) for name in TABLES if not name or name in there]
                assert all(one == seen[0] for one in seen)
                assert b"never seen" not in seen[0].values()
                some = [b"%06d" % chance.randrange(KEYS) for _ in range(100)]
                assert snap.get_many(some) == [seen[0].get(key) for key in some]
                assert len(snap) == len(seen[0])

    def move(self, chance: random.Random) -> None:
        for _ in range(ROUNDS):
            with self.store.cursor() as cursor:
                cursor.seek(b"%06d" % chance.randrange(KEYS))
                forwards = [key for key, _ in cursor]
                backwards = [key for key, _ in reversed(cursor)]
                assert backwards[: len(forwards)] == forwards[::-1]
                assert backwards == sorted(backwards, reverse=True)

    def read(self, chance: random.Random) -> None:
        for _ in range(ROUNDS * 20):
            key = chance.randrange(KEYS)
            found = table(self.store, chance.choice(TABLES)).get(b"%06d" % key)
            assert found is None or found == value(int(found.split(b":")[0]), key)

    def tidy(self, chance: random.Random) -> None:
        for n in range(6):
            if n % 3 == 0:
                self.store.compact()
            elif n % 3 == 1:
                assert self.store.check() == []
            else:
                self.store.stats()
                self.store.sync()

    def run(self) -> None:
        calls = [
            self.write,
            self.write_alone,
            self.look,
            self.look,
            self.move,
            self.read,
            self.read,
            self.tidy,
        ]
        threads = [
            threading.Thread(target=self._guarded, args=(call, random.Random(self.seed * 100 + n)))
            for n, call in enumerate(calls)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
            assert not thread.is_alive(), "a thread hangs"
        if self.failures:
            raise self.failures[0]

    def _guarded(self, call: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            call(chance)
        except BaseException as error:
            self.failures.append(error)


@pytest.mark.parametrize("sync", ["commit", "none", "interval"])
def test_all_at_once(path: Path, sync: Any) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    options: Any = {"sync": sync, "interval_ms": 1, "sector_bytes": 256 << 10, "cache_bytes": 4 << 20}
    with kvwasi.open(path, **options) as store:
        stress = Stress(store, seed)
        stress.run()
        stats = store.stats()
        assert (stats.snapshots, stats.cursors, stats.snapshot_age_seconds) == (0, 0, 0)
        for name in TABLES:
            assert dict(table(store, name)) == stress.written
    with kvwasi.open(path, "r") as store:
        for name in TABLES:
            assert dict(table(store, name)) == stress.written
        assert store.check() == []
