"""Tables of each kind, savepoints and series for asyncio, and that nothing of the plain API is missing."""

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest
from running import run

import kvwasi
import kvwasi.aio
import kvwasi.aio.tables
from kvwasi.aio import AsyncStore
from kvwasi.duplicates import DuplicatesReads


async def all_of(iterator: Any) -> list[Any]:
    return [item async for item in iterator]


def test_tables_with_several_values_a_key(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        tags = store.table("tags", dupsort=True)
        assert tags.name == "tags" and await tags.first() is None
        await tags.put_many([("photo", "sea"), (bytearray(b"photo"), "blue"), ("song", "blue")])
        assert await tags.put("song", "blue") and not await tags.put("song", "blue", dupdata=False)
        assert not await tags.put("song", "loud", overwrite=False)
        assert not await tags.put("a", "b", append=True) and await tags.put("tale", "old", append=True)
        assert await tags.get("photo") == b"blue" and await tags.get("none", 0) == 0
        assert await tags.get_all("photo", reverse=True) == [b"sea", b"blue"]
        assert await tags.has("photo", "sea") and not await tags.has("song", "sea")
        assert await tags.contains("song") and not await tags.contains("son")
        assert (await tags.count("photo"), await tags.count("none"), await tags.count()) == (2, 0, 4)
        assert await all_of(tags) == [b"photo", b"song", b"tale"]
        assert await all_of(tags.keys(start="q", reverse=True)) == [b"tale", b"song"]
        assert await all_of(tags.items(prefix="p")) == [(b"photo", b"blue"), (b"photo", b"sea")]
        assert (await tags.first(), await tags.last()) == ((b"photo", b"blue"), (b"tale", b"old"))
        assert await store.tables(dupsort=True) == ["tags"] and await store.tables() == []

        async with store.snapshot() as snapshot:
            assert await tags.delete("photo", "sea") and not await tags.delete("photo", "sea")
            assert await tags.delete_range(start="t") == 1 and await tags.delete("song")
            then = snapshot.table("tags", dupsort=True)
            assert await then.count() == 4 and await all_of(then.keys()) == [b"photo", b"song", b"tale"]
            with pytest.raises(kvwasi.ReadOnlyError, match="a snapshot cannot be changed"):
                await then.put("a", "b")
        assert await all_of(tags.items()) == [(b"photo", b"blue")]

        async with store.transaction() as t:
            await t.table("tags", dupsort=True).clear()
            assert await t.table("tags", dupsort=True).count() == 0
        await store.drop_table("tags", dupsort=True)
        assert await store.tables(dupsort=True) == []
        with pytest.raises(kvwasi.NoSuchTableError):
            await store.table("tags", create=False, dupsort=True).get("photo")

    run(path, body)


def test_tables_whose_entries_expire(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000 * 10**9]

    class Clock:
        time_ns = staticmethod(lambda: now[0])

    monkeypatch.setattr(kvwasi.aio.tables, "time", Clock)

    async def body(store: AsyncStore) -> None:
        sessions = store.table("sessions", expires=True)
        assert await sessions.put("ada", "1", ttl=10) and await sessions.put("bob", "2", ttl=20)
        assert await sessions.put("root", "3") and not await sessions.put("ada", "4", overwrite=False)
        assert await sessions.put("ada", "5", ttl=10, expect="1")
        assert (await sessions.ttl("ada"), await sessions.ttl("root")) == (10, None)
        assert await sessions.get("ada") == b"5" and await sessions.count() == 3
        async with store.snapshot() as snapshot:
            assert await all_of(snapshot.table("sessions", expires=True).keys()) == [b"ada", b"bob", b"root"]

        now[0] += 10 * 10**9
        assert not await sessions.contains("ada") and await sessions.get("ada", "gone") == "gone"
        assert await sessions.count() == 2 and await all_of(sessions.values()) == [b"2", b"3"]
        now[0] -= 5 * 10**9  # a clock that is set back brings nothing back
        assert not await sessions.contains("ada") and await sessions.ttl("bob") == 10
        with pytest.raises(kvwasi.KeyNotFoundError):
            await sessions.ttl("ada")
        now[0] += 5 * 10**9

        async with store.transaction() as t:
            inside = t.table("sessions", expires=True)
            assert await inside.touch("root", 5) and not await inside.touch("ada", 5)
            assert await all_of(inside.items(stop="c")) == [(b"bob", b"2")] and await inside.count() == 2
        now[0] += 5 * 10**9
        assert await sessions.collect() == 1  # the write in the transaction has collected the other one
        assert await all_of(sessions) == [b"bob"]
        assert await sessions.delete("bob") and not await sessions.delete("bob")
        await sessions.put_many({"x": "1", "y": "2"}, ttl=9)
        assert (await sessions.ttl("y"), await sessions.pop("y"), await sessions.pop("y", 0)) == (9, b"2", 0)
        await sessions.put("z", "1")
        await sessions.clear()
        assert await sessions.count() == 0
        assert await store.tables(expires=True) == ["sessions"]
        await store.drop_table("sessions", expires=True)
        assert await store.check() == [] and await store.tables(expires=True) == []

    run(path, body)


def test_a_table_has_one_kind(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        wrong: Any = store.table
        with pytest.raises(ValueError, match="either"):
            wrong("t", dupsort=True, expires=True)
        with pytest.raises(ValueError, match="either"):
            await store.tables(dupsort=True, expires=True)

    run(path, body)


def test_savepoints(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.transaction() as t:
            await t.put("a", "1")
            async with t.savepoint() as kept:
                await t.put("b", "2")
                async with t.savepoint() as undone:
                    await t.put("c", "3")
                    await undone.rollback()
                with pytest.raises(kvwasi.ClosedError):
                    await undone.rollback()
                await kept.release()
            with pytest.raises(RuntimeError):
                async with t.savepoint():
                    await t.put("a", "9")
                    raise RuntimeError
            with pytest.raises(kvwasi.ClosedError, match="async with"):
                await t.savepoint().rollback()
        assert await all_of(store.items()) == [(b"a", b"1"), (b"b", b"2")]
        with pytest.raises(kvwasi.ClosedError):
            async with t.savepoint():
                pass

    run(path, body)


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_savepoint_is_undone_and_the_transaction_goes_on(path: Path, turns: int) -> None:
    """Cancelled before it begins, while it begins, within its block or at its end: all of it or nothing."""

    async def body(store: AsyncStore) -> None:
        async with store.transaction() as t:
            await t.put("a", "1")

            async def part() -> None:
                async with t.savepoint():
                    await t.put("b", "2")
                    await t.put("c", "3")

            for _ in range(70):  # more than may be open at a time
                task = asyncio.ensure_future(part())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                keys = await all_of(t.keys())
                assert keys in ([b"a"], [b"a", b"b", b"c"]), keys
                await t.delete_range(start="b")
            await t.put("z", "26")
        assert await all_of(store.keys()) == [b"a", b"z"]

    run(path, body)


@pytest.mark.parametrize("fails", ["outer", "inner"])
def test_savepoints_of_two_tasks_end_in_order_or_say_so(path: Path, fails: str) -> None:
    """One that began within another task's cannot be told apart from it when that ends first."""

    async def body(store: AsyncStore) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()
        async with store.transaction() as t:

            async def outer() -> None:
                async with t.savepoint():
                    await t.put("a", "1")
                    await begun.wait()
                    if fails == "outer":
                        raise RuntimeError(fails)

            async def inner() -> None:
                async with t.savepoint():
                    await t.put("b", "2")
                    begun.set()
                    await ended.wait()
                    if fails == "inner":
                        raise RuntimeError(fails)

            first, second = asyncio.ensure_future(outer()), asyncio.ensure_future(inner())
            await asyncio.wait([first])
            ended.set()
            await asyncio.wait([second])
            assert isinstance(first.exception(), RuntimeError if fails == "outer" else type(None))
            assert isinstance(second.exception(), kvwasi.ClosedError)
            await t.put("c", "3")
        assert await all_of(store.keys()) == ([b"c"] if fails == "outer" else [b"a", b"b", b"c"])

    run(path, body)


def test_a_block_whose_transaction_has_ended_keeps_its_own_error(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        inside = asyncio.Event()
        async with store.transaction() as t:

            async def part() -> None:
                async with t.savepoint():
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.ensure_future(part())
            await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(kvwasi.ClosedError):
            await t.put("a", "1")

    run(path, body)


def test_nothing_is_taken_behind_the_end_of_a_transaction(path: Path) -> None:
    """What another thread's loop submits behind the commit would never be answered."""

    async def body(store: AsyncStore) -> None:
        async with store.transaction() as t:
            lease = t._open_lease()
            await t.put("a", "1")
        with pytest.raises(kvwasi.ClosedError, match="has ended"):
            await lease.submit(lambda transaction: transaction.put("b", "2"))
        assert await all_of(store.keys()) == [b"a"]

    run(path, body)


def test_readers_do_not_wait_for_what_waits_for_writers(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.transaction() as t:
            await t.put("volume", "9")
            waiting = [asyncio.ensure_future(store.reset_to_defaults()) for _ in range(9)]
            waiting += [asyncio.ensure_future(store.compact()) for _ in range(5)]
            assert await asyncio.wait_for(store.get("volume"), 60) == b"5"
        await asyncio.gather(*waiting)
        assert await store.get("volume") == b"5"

    run(path, body, defaults={"volume": "5"})


def test_the_rest_of_series_and_of_the_store(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        series = store.series("s", retention=kvwasi.Retention(count=1000))
        assert series.name == "s" and await series.kind() is None
        await series.append_many(range(5), range(5))
        assert await series.kind() == "int" and (await series.retention()).count == 1000
        await series.set_status(3, kvwasi.Status.DELETED)
        assert [entry.value async for entry in series.entries(1, 4)] == [1, 2, 3]
        assert await all_of(series.items(1, reverse=True)) == [(4, 4), (2, 2), (1, 1)]
        assert await series.trim() == 0 and await store.series_names() == ["s"]
        async with store.snapshot() as snapshot:
            assert await snapshot.series_names() == ["s"] and await snapshot.tables() == []
            assert await snapshot.series("s").count() == 4
            with pytest.raises(kvwasi.ReadOnlyError, match="a snapshot cannot be changed"):
                await snapshot.series("s").append(9)
        await store.drop_series("s")
        assert await store.series_names() == []
        await store.put("volume", "9")
        await store.reset_to_defaults()
        assert await store.get("volume") == b"5"

    run(path, body, defaults={"volume": "5"})


PLAIN_ONLY = {
    kvwasi.Store: {
        *("cursor", "views"),  # an await for each move would be slower than a range
        *("read_only", "sync_mode", "path", "closed"),  # `store.store` has them
    },
    kvwasi.Transaction: {"cursor", "views", "commit", "rollback", "active", "write", "close"},
    kvwasi.Table: {"cursor", "views"},
    kvwasi.Snapshot: {"cursor", "views", "close", "closed"},
    kvwasi.DuplicatesTable: {"cursor"},
    kvwasi.ExpiringTable: set[str](),
    kvwasi.Series: set[str](),
}
OF_MAPPINGS = {"update", "setdefault", "popitem"}  # an `await` cannot be in them


@pytest.mark.parametrize(
    ("plain", "awaited"),
    [
        (kvwasi.Store, kvwasi.aio.AsyncStore),
        (kvwasi.Transaction, kvwasi.aio.AsyncTransaction),
        (kvwasi.Snapshot, kvwasi.aio.AsyncSnapshot),
        (kvwasi.Table, kvwasi.aio.AsyncTable),
        (kvwasi.DuplicatesTable, kvwasi.aio.AsyncDuplicatesTable),
        (kvwasi.ExpiringTable, kvwasi.aio.AsyncExpiringTable),
        (kvwasi.Series, kvwasi.aio.AsyncSeries),
        (kvwasi.Savepoint, kvwasi.aio.AsyncSavepoint),
    ],
)
def test_nothing_of_the_plain_api_is_missing(plain: type, awaited: type) -> None:
    def public(of: type) -> set[str]:
        return {name for name in dir(of) if not name.startswith("_")}

    missing = public(plain) - public(awaited) - PLAIN_ONLY.get(plain, set()) - OF_MAPPINGS
    assert missing - {"active"} == set()
    assert issubclass(kvwasi.DuplicatesTable, DuplicatesReads)
    for name in public(plain) & public(awaited):
        made, wanted = getattr(awaited, name), getattr(plain, name)
        if inspect.isfunction(made) and inspect.isfunction(wanted):
            options = set(inspect.signature(wanted).parameters)
            mine = set(inspect.signature(made).parameters)
            if not {"bounds", "more", "options"} & mine:
                assert options - mine <= {"with_views", "write"}, name
