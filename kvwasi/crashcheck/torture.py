"""Real writers on a real disk, killed with SIGKILL at random moments: nothing acknowledged may be lost.

A writer is a process whose threads commit, each to keys of its own, and tell through a pipe what was
acknowledged. Its supervisor kills it somewhere, opens the database and compares: for each thread it must be
as after the last acknowledged commit, or as after the one that was under way. Then the next writer goes on
from there, so openings, recoveries, compactions and closes are killed, too.
"""

import multiprocessing
import os
import random
import select
import signal
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

from kvwasi.crashcheck.engines import Database, Mode, change
from kvwasi.crashcheck.engines import Kvwasi as Engine
from kvwasi.crashcheck.history import Change, History, Model, in_table, is_in_table

__all__ = ["Commit", "LossError", "Score", "commits", "compare", "series", "torture"]

KILLS_IN_A_SERIES = 20
"""On one database."""
COMMITS_MAX = 400
"""Of a thread, before its writer closes the database by itself."""
STANDSTILL_S = 60.0
_ACKNOWLEDGED = struct.Struct("<II")  # thread, number of its commit


class LossError(Exception):
    """A database does not hold what it must after a kill."""


@dataclass
class Score:
    """What was survived."""

    kills: int = 0
    commits: int = 0

    def add(self, other: "Score") -> None:
        """Sum up."""
        self.kills += other.kills
        self.commits += other.commits


@dataclass(frozen=True)
class Commit:
    """A transaction on the keys of a lane, and on a table of its own.

    Attributes:
        undone: changes that a savepoint takes back within it.
        drop: a table that is dropped first, if it is there.
    """

    changes: Sequence[Change]
    undone: Sequence[Change] = ()
    drop: bytes = b""

    def effect(self, model: Model) -> list[Change]:
        """What it changes in what is there."""
        dropped = (key for key in model if self.drop and is_in_table(key, self.drop))
        return [*((key, None) for key in dropped), *self.changes]

    def make(self, database: Database) -> None:
        """Make it."""
        if self.undone or self.drop:
            database.act(self._in_transaction)
        else:
            database.commit(self.changes)

    def _in_transaction(self, store: Any) -> None:
        with store.transaction() as transaction:
            if self.drop and self.drop.decode() in transaction.tables():
                transaction.drop_table(self.drop)
            if self.undone:
                with transaction.savepoint() as point:
                    transaction.table("passing").put(b"k", bytes(100_000))
                    change(transaction, self.undone)
                    point.rollback()
            change(transaction, self.changes)


def commits(seed: int, lane: int) -> Iterator[Commit]:
    """An endless sequence of transactions of a lane, the same for the same seed."""
    chance = random.Random(f"{seed}/{lane}")
    table = b"%d" % lane

    def value() -> bytes:
        size = chance.choice((0, 10, 100, 1000, 5000, 60_000, 65_536, 65_537, 200_000))
        return chance.randbytes(8) * (size // 8)

    def one() -> Change:
        key = b"key-%03d" % chance.randrange(60)
        return b"%d/" % lane + key, value() if chance.random() < 0.75 else None

    def across() -> list[Change]:
        return [(in_table(table), b""), *((in_table(table, b"%d" % n), value()) for n in range(4)), one()]

    while True:
        kind = chance.random()
        if kind < 0.5:
            yield Commit([one()])
        elif kind < 0.75:
            yield Commit([one() for _ in range(chance.randrange(2, 20))])
        elif kind < 0.85:
            yield Commit(across())
        elif kind < 0.95:
            yield Commit([one(), *across()], undone=[one() for _ in range(5)])
        else:
            yield Commit([one()], drop=table)


def series(directory: str, seed: int, kills: int, threads: int) -> Score:
    """Kill writers of one database, ``kills`` times. Raises LossError.

    ``directory`` is made, and removed if all went well.
    """
    os.makedirs(directory)
    chance = random.Random(f"{seed}/series")
    score, contents = Score(), Model()
    for _ in range(kills):
        mode, writer_seed = chance.choice(Engine().modes), chance.randrange(1 << 30)
        acknowledged = _kill_one(directory, mode, writer_seed, threads, chance)
        contents = compare(directory, mode, contents, writer_seed, acknowledged)
        score.add(Score(1, sum(acknowledged)))
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)
    return score


def _write(directory: str, mode: Mode, seed: int, threads: int, tell: int) -> None:
    """The writer: commit until killed, or until each thread has made a number of commits."""
    database = Engine().open(directory, mode)
    limit = 10 if seed % 7 == 0 else COMMITS_MAX  # and so a close is killed now and then
    workers = [
        threading.Thread(target=_commit, args=(database, seed, lane, limit, tell)) for lane in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    database.close()


def _commit(database: Database, seed: int, lane: int, limit: int, tell: int) -> None:
    for number, commit in zip(range(1, limit + 1), commits(seed, lane), strict=False):
        commit.make(database)
        os.write(tell, _ACKNOWLEDGED.pack(lane, number))
        if lane == 0 and number % 25 == seed % 25:
            database.compact()


def _kill_one(directory: str, mode: Mode, seed: int, threads: int, chance: random.Random) -> list[int]:
    """Start a writer and kill it; how many commits of each thread it acknowledged."""
    reader, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            _write(directory, mode, seed, threads, tell)
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    told = bytearray()
    wanted = chance.choice((0, 0, 1, 2, 5, 10, 20, 60)) * _ACKNOWLEDGED.size
    while len(told) < wanted and (more := _read(reader, wanted - len(told))):
        told += more
    _spin(chance.random() ** 2 * 0.01)
    os.kill(child, signal.SIGKILL)
    while more := _read(reader, 1 << 16):
        told += more
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) not in (-signal.SIGKILL, 0):
        raise LossError(f"a writer ended with status {status}, seed {seed}")
    acknowledged = [0] * threads
    for lane, number in _ACKNOWLEDGED.iter_unpack(told):
        acknowledged[lane] = max(acknowledged[lane], number)
    return acknowledged


def _read(reader: int, length: int) -> bytes:
    ready, _, _ = select.select([reader], [], [], STANDSTILL_S)
    if not ready:
        raise LossError("a writer stands still")
    return os.read(reader, length)


def _spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def compare(directory: str, mode: Mode, before: Model, seed: int, acknowledged: Sequence[int]) -> Model:
    """The contents found, which must be those after what was acknowledged or one more commit of each thread.

    Raises LossError.
    """
    history = History(len(acknowledged))
    for lane, done in enumerate(acknowledged):
        history.add([(key, value) for key, value in before.items() if history.holds(key, lane)], lane)
        for _, commit in zip(range(done + 1), commits(seed, lane), strict=False):
            history.add(commit.effect(history.latest(lane)), lane)
    database = Engine().open(directory, mode)
    try:
        contents = dict(database.scan())
        problem = database.check()
    finally:
        database.close()
    window = tuple((1 + done, 2 + done) for done in acknowledged)
    problem = problem or history.wrong(contents, window)
    if problem:
        raise LossError(f"{directory} (sync={mode.name}): {problem}")
    return contents


def torture(
    directory: str,
    *,
    kills: int | None,
    seconds: float | None,
    processes: int,
    threads: int,
    seed: int,
) -> Score:
    """Run series, ``processes`` at a time, until so many kills or seconds.

    Raises LossError; the database then stays where it is.
    """
    from kvwasi.engine import module

    module.ensure_loaded()
    os.makedirs(directory, exist_ok=True)
    score, ends = Score(), None if seconds is None else time.monotonic() + seconds
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as executor:
        waiting: list[Any] = []
        for number in count():
            left = None if kills is None else kills - number * KILLS_IN_A_SERIES
            over = (left is not None and left <= 0) or (ends is not None and time.monotonic() > ends)
            if not over:
                place = os.path.join(directory, f"{seed}-{number}")
                size = min(KILLS_IN_A_SERIES, left or KILLS_IN_A_SERIES)
                waiting.append(executor.submit(series, place, seed + number, size, threads))
            while waiting and (over or len(waiting) > processes):
                score.add(waiting.pop(0).result())
            if over:
                break
    return score
