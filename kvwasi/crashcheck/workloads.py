"""What the databases are made to do: steps that cross every dangerous moment, the same for every engine.

A workload is a function from a random generator to steps. To add one for something new that the store can do,
write a function that yields :func:`does` steps and give it a line in ``WORKLOADS``::

    def counters(chance):
        for number in range(20):
            yield does(lambda store: store.increment("hits"), [(b"hits", b"%d" % (number + 1))])

A ``does`` step is one commit: what is called with the open store, and what it changes, as keys and new values
(None: deleted). What a table holds is a key that :func:`in_table` makes; the table itself is there if
``in_table(name)`` has the value ``b""``. Steps that commit nothing (``does`` without changes) look, hold
snapshots or raise :class:`UnexpectedContentsError`. The verbs of :class:`kvwasi.crashcheck.run.Run` do the
rest; ``backup`` and ``repair`` make copies that must be whole or absent, and there once a later commit is
durable.

What follows from it: power cuts in every mode at every event, failing flushes, and recovery cut again.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from kvwasi.crashcheck.engines import change
from kvwasi.crashcheck.history import Change, Model, UnexpectedContentsError, apply, in_table, is_in_table
from kvwasi.crashcheck.layers import defaults, duplicates, expiring, series
from kvwasi.crashcheck.steps import Step, Workload, does, key_of, some_change, value_of

__all__ = ["WORKLOADS", "steps_of"]


def single(chance: random.Random) -> Iterator[Step]:
    """Fifty puts, from a database that is not there yet."""
    for number in range(50):
        yield Step("commit", [(key_of(number), value_of(chance, 100))])
        if number % 10 == 9:
            yield Step("sync")


def mixed(chance: random.Random) -> Iterator[Step]:
    """Transactions of 1 to 300 changes, deletes, rollbacks, syncs, closing and opening again."""
    for number in range(40):
        many = chance.choice((1, 1, 1, 2, 3, 10, 30, 300))
        yield Step("commit", [some_change(chance, 60, (0, 1, 20, 100, 700)) for _ in range(many)])
        if number % 6 == 2:
            yield Step("sync")
        if number % 9 == 4:
            yield Step("roll_back", [some_change(chance, 60, (100, 3000)) for _ in range(20)])
        if number % 13 == 7:
            yield Step("durable_commit", [some_change(chance, 60, (100,))])
        if number % 15 == 8:
            yield Step("reopen")


def bulk(chance: random.Random) -> Iterator[Step]:
    """A transaction of ten thousand records between small ones."""
    yield Step("commit", [(key_of(1), b"before")])
    yield Step("commit", [(key_of(number), b"%d" % number) for number in range(10_000)])
    yield Step("commit", [(key_of(2), b"between")])
    yield Step("commit", [(key_of(number), None) for number in range(20, 10_000)])
    yield Step("sync")
    yield Step("commit", [(key_of(3), b"after")])


def large(chance: random.Random) -> Iterator[Step]:
    """Values around the limit of those that stand in the log, and above a sector."""
    for size in (65_000, 65_536, 65_537, 200_000, 300, 300_000, 65_537, 600_000, 70_000):
        yield Step("commit", [(key_of(chance.randrange(6)), value_of(chance, size))])
        if chance.random() < 0.3:
            yield Step("commit", [some_change(chance, 6, (10, 70_000)) for _ in range(3)])
        if chance.random() < 0.3:
            yield Step("sync")
    yield Step("reopen")
    yield Step("commit", [(key_of(number), None) for number in range(6)])
    yield Step("commit", [(key_of(7), value_of(chance, 100_000))])


def grow(chance: random.Random) -> Iterator[Step]:
    """Sectors that fill up, one after the other, by commits of some size."""
    for number in range(30):
        yield Step("commit", [(key_of(number % 7), value_of(chance, chance.randrange(20_000, 50_000)))])
        if number % 8 == 5:
            yield Step("sync")


def collect(chance: random.Random) -> Iterator[Step]:
    """Overwriting until sectors are emptied, what lives in them is moved, and they are used again."""
    for number in range(14):
        yield Step("commit", [(key_of(number), value_of(chance, 3000))])
        for _ in range(6):
            yield Step("commit", [(key_of(20 + chance.randrange(4)), value_of(chance, 50_000))])
        yield Step("reopen")  # with a checkpoint, because so much is to be replayed
    yield Step("trace")
    for number in range(28):
        keys = [20 + chance.randrange(4) for _ in range(1 + number % 2)]
        yield Step(
            "commit", [(key_of(key), value_of(chance, chance.randrange(20_000, 60_000))) for key in keys]
        )
        if number % 7 == 6:
            yield Step("sync")
        if number % 9 == 8:
            yield Step("reopen")


def sweep(chance: random.Random) -> Iterator[Step]:
    """The same with large values, whose sectors are emptied another way."""
    for number in range(15):
        yield Step(
            "commit", [(key_of(chance.randrange(3)), value_of(chance, chance.randrange(66_000, 150_000)))]
        )
        if number % 3 == 2:
            yield Step("commit", [(key_of(9), value_of(chance, 60_000)) for _ in range(5)])
            yield Step("reopen")
    yield Step("trace")
    for number in range(16):
        yield Step(
            "commit", [(key_of(chance.randrange(3)), value_of(chance, chance.randrange(66_000, 150_000)))]
        )
        if number % 5 == 4:
            yield Step("sync")
        if number % 8 == 7:
            yield Step("commit", [(key_of(9), value_of(chance, 60_000)) for _ in range(5)])
            yield Step("reopen")
    yield Step("commit", [(key_of(1), b"last")])


def checkpoints(chance: random.Random) -> Iterator[Step]:
    """So much log that checkpoints begin by themselves, among commits that change nodes meanwhile."""
    yield Step("commit", [(key_of(number), value_of(chance, 30)) for number in range(400)])
    for _ in range(17):
        yield Step("commit", [(key_of(chance.randrange(6)), value_of(chance, 60_000)) for _ in range(2)])
    yield Step("trace")
    for number in range(14):
        yield Step("commit", [(key_of(chance.randrange(6)), value_of(chance, 60_000))])
        yield Step("commit", [some_change(chance, 400, (10, 40)) for _ in range(1 + number)])
        if number % 5 == 4:
            yield Step("sync")


def compaction(chance: random.Random) -> Iterator[Step]:
    """Compaction among commits, with and without large values."""
    for number in range(5):
        for _ in range(4):
            yield Step("commit", [some_change(chance, 12, (10, 1000, 30_000, 70_000))])
        if number % 2:
            yield Step("sync")
        yield Step("compact")
    yield Step("commit", [(key_of(1), b"last")])
    yield Step("reopen")


def long_keys(chance: random.Random) -> Iterator[Step]:
    """Keys longer than a sector of the device, without values: a torn write cuts through them."""
    keys = [b"0/%d" % number + chance.randbytes(600 + 20 * number) for number in range(16)]
    for number in range(25):
        some = chance.sample(keys, 1 + number % 3)
        yield Step("commit", [(key, None if chance.random() < 0.3 else b"") for key in some])
        if number % 8 == 7:
            yield Step("sync")


def reopening(chance: random.Random) -> Iterator[Step]:
    """Little work between closing and opening."""
    for number in range(12):
        yield Step("reopen")
        for _ in range(number % 4):
            yield Step("commit", [some_change(chance, 9, (0, 100, 5000))])


def groups(chance: random.Random) -> Iterator[Step]:
    """Commits that wait for one flush together, as those of many threads do."""
    for _ in range(12):
        for _ in range(chance.randrange(1, 6)):
            yield Step("commit", [some_change(chance, 30, (10, 500, 9000))])
        yield Step("durable_commit", [some_change(chance, 30, (10, 500))])


def threads(chance: random.Random) -> Iterator[Step]:
    """Commits of three threads, each begun while the flush of another is under way."""
    for _ in range(10):
        for lane in range(3):
            yield Step("commit_in_thread", [(key_of(chance.randrange(9), lane), value_of(chance, 200))], lane)
        yield Step("join_threads")


def tables(chance: random.Random) -> Iterator[Step]:
    """Named tables that are made, changed together with each other, and dropped with all that is in them."""
    now: Model = {}
    for number in range(36):
        names = chance.sample((b"one", b"two", b"three"), 1 + number % 3)
        changes: list[Change] = [some_change(chance, 9, (10, 300))]
        for name in names:
            changes += [(in_table(name), b"")]
            changes += [
                (in_table(name, key_of(chance.randrange(9))), value_of(chance, 200)) for _ in range(3)
            ]
        if number % 6 == 5:
            changes = [(key, None) for key in now if is_in_table(key, names[0])]
            if changes:
                yield does(lambda store, name=names[0]: store.drop_table(name), changes)  # type: ignore[misc]
        else:
            yield Step("commit", changes)
        apply(changes, now)
        if number % 9 == 8:
            yield Step("sync")
        if number % 13 == 12:
            yield Step("reopen")


def verbs(chance: random.Random) -> Iterator[Step]:
    """Compare-and-set, counters and deleted ranges: each looks and changes in one commit.

    What a step leaves behind does not depend on what is there: the commit before it may have failed.
    """

    def count_to(store: Any, total: int) -> None:
        table = store.table("counters")
        table.increment("n", total - int(table.get("n", b"0")))

    for number in range(36):
        key, value = key_of(chance.randrange(12)), value_of(chance, 200)
        if number % 3 == 0:
            yield does(
                lambda store, key=key, value=value: store.put(key, value, expect=store.get(key)),  # type: ignore[misc]
                [(key, value)],
            )
        elif number % 3 == 1:
            changes = [(in_table(b"counters"), b""), (in_table(b"counters", b"n"), b"%d" % number)]
            yield does(lambda store, number=number: count_to(store, number), changes)  # type: ignore[misc]
        else:
            first = chance.randrange(10)
            bounds = {"start": key_of(first), "stop": key_of(first + 3)}
            yield does(
                lambda store, bounds=bounds: store.delete_range(**bounds),  # type: ignore[misc]
                [(key_of(one), None) for one in range(first, first + 3)],
            )
        if number % 9 == 8:
            yield Step("sync")


def savepoints(chance: random.Random) -> Iterator[Step]:
    """Transactions of which parts are taken back, large values and tables among them."""

    def partly(store: Any, kept: Sequence[Change], undone: Sequence[Change]) -> None:
        with store.transaction() as transaction:
            change(transaction, kept[: len(kept) // 2])
            with transaction.savepoint() as point:
                transaction.table("passing").put(b"k", bytes(70_000))
                change(transaction, undone)
                point.rollback()
            change(transaction, kept[len(kept) // 2 :])

    for number in range(18):
        kept = [(key_of(chance.randrange(30)), value_of(chance, 300)) for _ in range(2 + number)]
        undone = [
            (key_of(chance.randrange(30)), value_of(chance, chance.choice((10, 4000, 66_000))))
            for _ in range(4)
        ]
        yield does(lambda store, kept=kept, undone=undone: partly(store, kept, undone), kept)  # type: ignore[misc]
        if number % 7 == 6:
            yield Step("sync")


def snapshots(chance: random.Random) -> Iterator[Step]:
    """Snapshots that are held while what they show is overwritten, checkpointed and collected."""
    held: list[tuple[Any, Model]] = []

    def take(store: Any) -> None:
        held.append((store.snapshot(), dict(store.items())))

    def release(store: Any) -> None:
        for snapshot, expected in held:
            if dict(snapshot.items()) != expected:
                raise UnexpectedContentsError("a snapshot does not show what was there when it was taken")
            snapshot.close()
        held.clear()

    for number in range(4):
        yield Step("commit", [(key_of(30 + number), value_of(chance, 3000))])
        for _ in range(6):
            yield Step("commit", [(key_of(chance.randrange(4)), value_of(chance, 50_000))])
        yield Step("reopen")
    yield Step("trace")
    for number in range(48):
        if number % 8 == 0:
            yield does(take)
        yield Step("commit", [(key_of(chance.randrange(4)), value_of(chance, 56_000))])
        if number % 16 == 15:
            yield does(release)
            yield Step("reopen")
    yield does(release)


def views(chance: random.Random) -> Iterator[Step]:
    """Values that are looked at where they lie, while they are overwritten, collected and compacted."""
    held: list[tuple[Any, bytes]] = []

    def take(store: Any) -> None:
        for key, value in store.items():
            held.append((store.get(key, view=True), value))

    def release(store: Any) -> None:
        if any(view != value for view, value in held):
            raise UnexpectedContentsError("a view does not show what was there when it was taken")
        held.clear()

    for number in range(40):
        if number % 7 == 0:
            yield does(take)
        yield Step("commit", [(key_of(chance.randrange(5)), value_of(chance, chance.choice((300, 56_000))))])
        if number % 9 == 5:
            yield Step("commit", [(key_of(5), value_of(chance, 90_000))])
        if number % 16 == 11:
            yield Step("compact")
        if number % 12 == 11:
            yield does(release)
            yield Step("reopen")
    yield does(release)


def copies(chance: random.Random) -> Iterator[Step]:
    """Backups, and repairs into a new file, among commits: the copies are whole or not there."""
    for number in range(1, 25):
        yield Step("commit", [some_change(chance, 30, (10, 400, 20_000))])
        if number in (5, 11, 21):
            yield Step("backup")
        if number in (8, 14, 23):
            yield Step("increment")
        if number == 16:
            yield Step("repair")
        if number % 6 == 3:
            yield Step("sync")


def faults(chance: random.Random) -> Iterator[Step]:
    """A bit of everything, briefly: each of its calls fails in turn."""
    yield Step("commit", [(key_of(1), value_of(chance, 100))])
    yield Step("commit", [some_change(chance, 12, (10, 3000)) for _ in range(20)])
    yield Step("commit", [(key_of(2), value_of(chance, 70_000))])
    yield Step("sync")
    yield Step("roll_back", [some_change(chance, 12, (100, 66_000)) for _ in range(5)])
    for number in range(5):
        yield Step("commit", [(key_of(number), value_of(chance, 60_000))])
    yield Step("compact")
    yield Step("backup")
    yield Step("commit", [(in_table(b"one", key_of(1)), value_of(chance, 100)), (in_table(b"one"), b"")])
    yield Step("durable_commit", [(key_of(3), value_of(chance, 100))])
    yield Step("reopen")
    yield Step("commit", [(key_of(2), None)])
    yield Step("increment")
    yield Step("commit", [(key_of(4), value_of(chance, 300))])


def small(chance: random.Random) -> Iterator[Step]:
    """A small database that was written, changed and closed: what damage is done to."""
    for _ in range(12):
        yield Step("commit", [some_change(chance, 40, (10, 100, 400)) for _ in range(6)])
    yield Step("compact")
    yield Step("commit", [(key_of(40), value_of(chance, 66_000))])
    yield Step("commit", [(key_of(41), b"last")])


def tiny(chance: random.Random) -> Iterator[Step]:
    """As little as has a log, an index and a superblock of a later checkpoint: every bit of it is flipped."""
    yield Step("commit", [(key_of(number), value_of(chance, 30)) for number in range(8)])
    yield Step("commit", [(key_of(1), None)])
    yield Step("compact")
    yield Step("commit", [(key_of(2), b"again")])
    yield Step("commit", [(key_of(3), None), (key_of(9), value_of(chance, 50))])


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("single", single),
        Workload("mixed", mixed),
        Workload("bulk", bulk),
        Workload("large", large),
        Workload("grow", grow),
        Workload("collect", collect, engines=("kvwasi",)),
        Workload("sweep", sweep, engines=("kvwasi",)),
        Workload("checkpoints", checkpoints, engines=("kvwasi",)),
        Workload("compaction", compaction, engines=("kvwasi",)),
        Workload("long_keys", long_keys, engines=("kvwasi",)),
        Workload("reopening", reopening),
        Workload("groups", groups),
        Workload("threads", threads, lanes=3, engines=("kvwasi",)),
        Workload("tables", tables, engines=("kvwasi",)),
        Workload("verbs", verbs, engines=("kvwasi",)),
        Workload("defaults", defaults, engines=("kvwasi",)),
        Workload("duplicates", duplicates, engines=("kvwasi",)),
        Workload("expiring", expiring, engines=("kvwasi",)),
        Workload("series", series, engines=("kvwasi",)),
        Workload("savepoints", savepoints, engines=("kvwasi",)),
        Workload("snapshots", snapshots, engines=("kvwasi",)),
        Workload("views", views, engines=("kvwasi",)),
        Workload("copies", copies, engines=("kvwasi",)),
        Workload("faults", faults, cut=False),
        Workload("small", small, cut=False),
        Workload("tiny", tiny, cut=False),
    )
}


def steps_of(workload: Workload, seed: int) -> list[Step]:
    """All steps, the same for the same seed everywhere."""
    return list(workload.steps(random.Random(f"{workload.name}/{seed}")))
