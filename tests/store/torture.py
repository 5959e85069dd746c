"""Kill a writing process at random moments, and prove that what was acknowledged is there and nothing else.

A child makes commits, each told through a pipe when it is done. The parent kills it with SIGKILL somewhere,
opens the database, and compares: it must be as after the last acknowledged commit, or as after the one that
was under way. The next child goes on from there; so openings, recoveries and closes are killed too.

    python torture.py DIRECTORY [--kills N] [--seed N]
"""

import argparse
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kvwasi
from kvwasi.engine import module

Model = dict[bytes, bytes]
Commit = tuple[Callable[[kvwasi.Store], object], Callable[[Model], object]]
SYNC_MODES = ("commit", "none", "interval")


def commits(seed: int) -> Iterator[Commit]:
    """An endless history: for each commit, how to make it in a store, and in a dict."""
    chance = random.Random(seed)

    def key() -> bytes:
        return b"key-%03d" % chance.randrange(200)

    def value() -> bytes:
        size = chance.choice((0, 10, 100, 1000, 5000, 60_000, 65_536, 65_537, 200_000))
        return chance.randbytes(8) * (size // 8)

    while True:
        kind = chance.randrange(16)
        if kind < 6:
            k, v = key(), value()
            yield lambda s, k=k, v=v: s.put(k, v), lambda m, k=k, v=v: m.__setitem__(k, v)
        elif kind < 8:
            k = key()
            yield lambda s, k=k: s.delete(k), lambda m, k=k: m.pop(k, None)
        elif kind < 10:
            pairs = [(key(), value()) for _ in range(chance.randrange(1, 20))]
            yield lambda s, p=pairs: s.put_many(p), lambda m, p=pairs: m.update(p)
        elif kind < 11:
            doomed = [key() for _ in range(chance.randrange(1, 50))]

            def remove(store: Any, keys: list[bytes] = doomed) -> None:
                with store.transaction() as transaction:
                    transaction["passing"] = bytes(100_000)
                    for k in [*keys, "passing"]:
                        transaction.delete(k)

            yield remove, lambda m, keys=doomed: [m.pop(k, None) for k in keys]
        elif kind < 12:
            yield lambda s: s.compact(), lambda m: None
        elif kind < 15:
            pairs = [(key(), value()) for _ in range(chance.randrange(1, 10))]
            yield lambda s, p=pairs: across(s, p), lambda m, p=pairs: m.update(everywhere(p))
        else:
            yield drop, lambda m: [m.pop(k) for k in list(m) if k.startswith(b"two/")]


def everywhere(pairs: list[tuple[bytes, bytes]]) -> Model:
    """What `across` adds to the model, in which a key of a table has the table's name before it."""
    return {prefix + key: value for key, value in pairs for prefix in (b"", b"one/", b"two/")}


def across(store: kvwasi.Store, pairs: list[tuple[bytes, bytes]]) -> None:
    """The same into the store and two tables, with something that is undone in between."""
    with store.transaction() as transaction:
        transaction.put_many(pairs)
        with transaction.savepoint() as point:
            transaction.table("passing")["k"] = bytes(100_000)
            transaction.put_many((key, b"passing") for key, _ in pairs)
            point.rollback()
        transaction.table("one").put_many(pairs)
        transaction.table("two").put_many(pairs)


def drop(store: kvwasi.Store) -> None:
    """Drop one of these tables, if it is there."""
    if "two" in store.tables():
        store.drop_table("two")


def contents(store: kvwasi.Store) -> Model:
    """The store and its tables as one dict."""
    found = dict(store.items())
    for name in store.tables():
        found |= {name.encode() + b"/" + key: value for key, value in store.table(name).items()}
    return found


def write(path: Path, sync: Any, seed: int, acknowledge: int) -> None:
    """The child: commit until killed."""
    with kvwasi.open(path, sync=sync, interval_ms=1, sector_bytes=256 << 10) as store:
        for number, (make, _) in enumerate(commits(seed), 1):
            make(store)
            os.write(acknowledge, struct.pack("<I", number))
            if seed % 7 == 0 and number == 10:
                break  # and so a close is killed now and then


def kill_one(path: Path, sync: str, seed: int, chance: random.Random) -> int:
    """Run a child and kill it; how many commits it acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            write(path, sync, seed, writer)
        except BrokenPipeError:
            pass
        except BaseException as error:
            print(f"the child fails: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writer)
    wanted = chance.choice((0, 0, 1, 2, 5, 10, 20)) * 4
    told = b""
    while len(told) < wanted:
        more = os.read(reader, wanted - len(told))
        if not more:
            break
        told += more
    until = time.perf_counter() + chance.random() ** 2 * 0.01
    while time.perf_counter() < until:
        pass
    os.kill(child, signal.SIGKILL)
    while more := os.read(reader, 65_536):
        told += more
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) not in (-signal.SIGKILL, 0):
        raise AssertionError("the child failed")
    return len(told) // 4


def compare(path: Path, before: Model, seed: int, acknowledged: int) -> Model:
    """The contents found, which must be those after `acknowledged` commits or one more."""
    model = dict(before)
    history = commits(seed)
    for _ in range(acknowledged):
        next(history)[1](model)
    one_more = dict(model)
    next(history)[1](one_more)
    if not path.exists():
        if before or acknowledged:
            raise AssertionError("the database is gone")
        return {}  # killed before it was made
    with kvwasi.open(path, "w") as store:
        found = contents(store)
        problems = store.check()
        counted = len(store) + sum(len(store.table(name)) for name in store.tables())
    if problems:
        raise AssertionError(f"check finds {problems}")
    if counted != len(found) or found not in (model, one_more):
        wrong = {k for k in found.keys() | model.keys() if found.get(k) != model.get(k)}
        raise AssertionError(f"{len(wrong)} keys differ after {acknowledged} commits: {sorted(wrong)[:5]}")
    return found


def torture(directory: Path, kills: int, seed: int) -> int:
    """Returns how many commits were acknowledged in all."""
    chance = random.Random(seed)
    module.ensure_loaded()
    total = 0
    model: Model = {}
    path = directory / "0.kv"
    for number in range(kills):
        if number % 20 == 0:
            path = directory / f"{number}.kv"
            model = {}
        sync = chance.choice(SYNC_MODES)
        history = chance.randrange(1 << 30)
        try:
            acknowledged = kill_one(path, sync, history, chance)
            model = compare(path, model, history, acknowledged)
        except (AssertionError, kvwasi.KvError) as error:
            raise SystemExit(f"kill {number} of --seed {seed} (sync={sync}): {error!r}") from None
        total += acknowledged
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    acknowledged = torture(options.directory, options.kills, options.seed)
    print(f"{options.kills} kills, {acknowledged} commits acknowledged, all there and nothing else")
