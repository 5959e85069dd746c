"""Workloads of what lies upon tables: defaults, duplicates, entries that expire, time series."""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from kvwasi.crashcheck.engines import everything
from kvwasi.crashcheck.history import Change, Model, apply, in_table
from kvwasi.crashcheck.steps import Step, does, key_of, some_change, value_of
from kvwasi.defaults import TABLE, VERSION, complete, reset
from kvwasi.duplicates import encode_pair
from kvwasi.expiring import ExpiringTable
from kvwasi.names import reserved_name
from kvwasi.store import Store

__all__ = ["defaults", "duplicates", "expiring", "series"]


def _reset(store: Store, given: dict[bytes, bytes], version: int) -> None:
    with store.transaction() as transaction:
        reset(transaction, given, version)


def defaults(chance: random.Random) -> Iterator[Step]:
    """Defaults that are completed as programs get newer, and that everything is reset to, once and again."""
    own: Model = {}
    for version in range(1, 13):
        given = {key_of(chance.randrange(30)): value_of(chance, 300) for _ in range(version)}
        noted = [(in_table(TABLE), b""), (in_table(TABLE, VERSION), b"%d" % version)]
        changes: list[Change] = [(key, value) for key, value in given.items() if key not in own]
        do: Callable[[Store, dict[bytes, bytes], int], None] = complete
        if version % 4 == 0:
            changes = [(key, given.get(key)) for key in own | given]
            do = _reset
        yield does(
            lambda store, do=do, given=given, version=version: do(store, given, version),  # type: ignore[misc]
            [*changes, *noted],
        )
        apply(changes, own)
        for _ in range(2):
            changes = [some_change(chance, 30, (10, 500))]
            yield Step("commit", changes)
            apply(changes, own)
        if version % 5 == 0:
            yield Step("sync")


def duplicates(chance: random.Random) -> Iterator[Step]:
    """A table with several values a key: pairs added and removed, one and many, and all of a key."""
    name = reserved_name("dupsort", b"tags")
    pairs: set[tuple[bytes, bytes]] = set()
    for number in range(30):
        key = b"%d\0" % chance.randrange(5)
        many = [chance.randbytes(chance.randrange(1, 60)) for _ in range(12)]
        before = set(pairs)
        verb, arguments = "put_many", ([(key, value) for value in many],)
        pairs |= set(arguments[0])
        if number % 3 == 1 and before:
            verb, arguments = "delete", chance.choice(sorted(before))  # type: ignore[assignment]
            pairs = before - {arguments}
        elif number % 3 == 2:
            verb, arguments = "delete", (key,)  # type: ignore[assignment]
            pairs = {pair for pair in before if pair[0] != key}
        changes: list[Change] = [(in_table(name, encode_pair(*pair)), None) for pair in before - pairs]
        changes += [(in_table(name, encode_pair(*pair)), b"") for pair in pairs - before]
        if number == 0:
            changes.append((in_table(name), b""))
        yield does(
            lambda store, verb=verb, arguments=arguments: getattr(  # type: ignore[misc]
                store.table("tags", dupsort=True), verb
            )(*arguments),
            sorted(changes),
        )
        if number % 10 == 9:
            yield Step("sync")


def expiring(chance: random.Random) -> Iterator[Step]:
    """A table whose entries expire, under a clock that each step sets: put, touched, deleted, collected."""
    entries, due = (reserved_name(kind, b"sessions") for kind in ("expires", "due"))
    model: dict[bytes, tuple[bytes, int]] = {}  # value and end, of what is stored, expired or not
    before: Model = {}
    for number in range(36):
        now = number * 10**9
        key, value, ttl = key_of(chance.randrange(12)), value_of(chance, 60), chance.randrange(1, 9)

        def do(store: Any, now: int = now, key: bytes = key, value: bytes = value, ttl: int = ttl) -> None:
            ExpiringTable(store, "sessions", clock=lambda: now).put(key, value, ttl=ttl)

        model[key] = value, now + ttl * 10**9
        collected = sorted((end, old) for old, (_, end) in model.items() if end <= now)[:8]
        for _, old in collected:
            del model[old]
        after: Model = {in_table(entries): b"", in_table(due): b""}
        for one, (stored, end) in model.items():
            after[in_table(entries, one)] = end.to_bytes(8, "big") + stored
            after[in_table(due, end.to_bytes(8, "big") + one)] = b""
        clock = in_table(due, b"\xff")
        if collected:
            after[clock] = now.to_bytes(8, "big")
        elif clock in before:
            after[clock] = before[clock]
        changed = [one for one in before | after if before.get(one) != after.get(one)]
        yield does(do, [(one, after.get(one)) for one in sorted(changed)])
        before = after
        if number % 12 == 11:
            yield Step("sync")


def series(chance: random.Random) -> Iterator[Step]:
    """Time series: appends, one and many, into blocks and out of them; statuses, retention, cleaning.

    What each leaves behind is found out by doing the same to a store of its own.
    """
    import kvwasi

    kept = kvwasi.Retention(count=400)
    with (
        tempfile.TemporaryDirectory() as place,
        kvwasi.open(os.path.join(place, "shadow.kv"), sync="none") as shadow,
    ):
        before: Model = {}
        last = {b"a": -1, b"b": -1}
        for number in range(60):
            name = chance.choice((b"a", b"a", b"b"))
            verb = chance.choice(("append", "append", "append_many", "set_status"))
            last_time = last[name]
            if verb == "set_status":
                when, status = chance.randrange(max(last_time, 1)), chance.randrange(4)
                arguments: tuple[Any, ...] = (when, kvwasi.Status(status))
            else:
                many = 1 if verb == "append" else chance.choice((3, 60, 200, 300))
                times = [last_time + 1 + 3 * n for n in range(many)]
                values = [float(at) if name == b"a" else chance.randbytes(at % 40) for at in times]
                last[name] = times[-1]
                arguments = (values[0], times[0]) if verb == "append" else (values, times)

            def do(store: Any, name: bytes = name, verb: str = verb, arguments: Any = arguments) -> None:
                getattr(store.series(name, retention=kept), verb)(*arguments)

            if number in (25, 50):

                def do(store: Any, name: bytes = name) -> None:  # type: ignore[misc]
                    store.series(name, retention=kept).clean()

            do(shadow)
            after = dict(everything(shadow))
            changes = [(key, after.get(key)) for key in before.keys() | after.keys()]
            yield does(do, sorted(change for change in changes if before.get(change[0]) != change[1]))
            before = after
            if number % 15 == 14:
                yield Step("sync")
            if number == 40:
                yield Step("reopen")
