"""The store for asyncio: its answers, shared flushes, a loop that is never blocked, and cancellation."""

import asyncio
import gc
import random
import threading
import time
from pathlib import Path

import pytest
from running import run

import kvwasi
import kvwasi.aio
from kvwasi.aio import AsyncStore


def test_the_verbs(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        for entries in (store, store.table("t")):
            assert await entries.put("a", "1") and not await entries.put("a", "2", overwrite=False)
            assert not await entries.put("A", "0", append=True)
            assert await entries.put("a", "2", expect="1") and not await entries.put("a", "3", expect=None)
            await entries.put_many({"b": "3", "c": "4"})
            await entries.put_many([(bytearray(b"d"), "5")])
            assert (await entries.get("a"), await entries.get("z"), await entries.get("z", 0)) == (
                b"2",
                None,
                0,
            )
            assert await entries.get_many(["a", "z"]) == [b"2", None]
            view = await entries.get("a", view=True)
            assert isinstance(view, memoryview) and view == b"2"
            view.release()
            assert await entries.contains("a") and not await entries.contains("z")
            assert [key async for key in entries] == [b"a", b"b", b"c", b"d"]
            assert [item async for item in entries.items(start="b", reverse=True)] == [
                (b"d", b"5"),
                (b"c", b"4"),
                (b"b", b"3"),
            ]
            assert [value async for value in entries.values(limit=1)] == [b"2"]
            assert (await entries.count(), await entries.count(start="c")) == (4, 2)
            assert (await entries.first(), await entries.last()) == ((b"a", b"2"), (b"d", b"5"))
            assert (await entries.increment("n"), await entries.increment("n", 4)) == (1, 5)
            assert (await entries.pop("n"), await entries.pop("n", "gone")) == (b"5", "gone")
            assert (await entries.pop_first(), await entries.pop_last()) == ((b"a", b"2"), (b"d", b"5"))
            assert not await entries.delete("b", expect="no") and await entries.delete("b")
            assert await entries.delete_range(stop="z") == 1
            await entries.put("x", "y")
            await entries.clear()
            assert await entries.first() is None
        assert await store.tables() == ["t"]
        await store.drop_table("t")
        assert await store.tables() == [] and await store.check() == []
        assert (await store.stats()).keys == 0
        await store.sync()
        await store.compact()

    run(path, body)


def test_errors_are_those_of_the_store(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        await store.put("word", "x")
        for call, error in (
            (store.put("", "v"), kvwasi.KeyEmptyError),
            (store.increment("word"), kvwasi.NotANumberError),
            (store.put("k", 1), TypeError),  # type: ignore[arg-type]
            (store.table("none", create=False).get("k"), kvwasi.NoSuchTableError),
            (store.drop_table("none"), kvwasi.NoSuchTableError),
            (store.get("k" * 2000), kvwasi.KeyTooLargeError),
        ):
            with pytest.raises(error):
                await call
        results = await asyncio.gather(
            *(store.put(key, "v") for key in ("a", "", "b")), return_exceptions=True
        )  # one that fails leaves the others of its commit alone
        assert results[0] is results[2] is True and isinstance(results[1], kvwasi.KeyEmptyError)
        with pytest.raises(kvwasi.KeyTooLargeError):
            await store.put_many([("c", "1"), ("k" * 2000, "2")])
        assert [key async for key in store] == [b"a", b"b", b"word"]

    run(path, body)


def test_transactions(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async with store.transaction() as t:
            await t.put("a", "1")
            await t.table("t").put("b", "2")
            assert (await t.get("a"), await t.tables()) == (b"1", ["t"])
            assert await store.get("a") is None
            waiting = asyncio.create_task(store.put("a", "of the store"))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await waiting
        assert await store.get("a") == b"of the store"
        with pytest.raises(ZeroDivisionError):
            async with store.transaction(sync="none") as t:
                await t.clear()
                raise ZeroDivisionError
        assert await store.count() == 1
        with pytest.raises(kvwasi.ClosedError):
            await t.put("k", "v")
        with pytest.raises(kvwasi.ClosedError):
            await store.transaction().put("k", "v")
        async with store.transaction() as t:
            await t.drop_table("t")
            assert [key async for key in t] == [b"a"]

    run(path, body)


def test_snapshots_and_series(path: Path, tmp_path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        await store.put_many({f"{n:05}": "v" for n in range(2000)})
        async with store.snapshot() as snap:
            await store.clear()
            await store.table("t").put("k", "v")
            assert await snap.count() == 2000 and len([key async for key in snap]) == 2000
            with pytest.raises(kvwasi.NoSuchTableError):
                await snap.table("t").get("k")
        with pytest.raises(kvwasi.ClosedError):
            await store.snapshot().get("k")
        async with store.snapshot() as snap:
            assert await snap.table("t").get("k") == b"v"
            with pytest.raises(kvwasi.ReadOnlyError):
                await snap.table("t").put("k", "w")
            with pytest.raises(kvwasi.ReadOnlyError, match="cannot be changed"):
                await snap.series("s").append(1)
            assert await snap.series("s").count() == 0
        series = store.series("s", retention=kvwasi.Retention(count=10_000))
        assert await series.append(1.5, 10) == 10
        assert await series.append_many([2.5] * 9999, range(20, 10_019)) == 9999
        assert await series.set_status(20, kvwasi.Status.DELETED)
        assert (await series.count(), await series.first()) == (9999, (10, 1.5))
        assert (await series.get(20)).status == kvwasi.Status.DELETED
        assert len([item async for item in series]) == 9999
        assert [item async for item in series.items(stop=30, reverse=True)][-1] == (10, 1.5)
        assert (await series.to_numpy(start=21))[0][0] == 21
        async with store.transaction() as t:
            await t.series("s").clean()
            assert await t.series("s").last() is None
        written = await store.backup(tmp_path / "copy.kv")
        assert written.tables == 1

    run(path, body)


def test_concurrent_puts_share_their_flushes(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        before = (await store.stats()).commits
        for turn in range(10):
            await asyncio.gather(*(store.put(f"{turn}/{n}", "v") for n in range(100)))
        assert await store.count() == 1000
        assert (await store.stats()).commits - before < 100

    run(path, body)


def test_many_increments_at_once(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        sums = await asyncio.gather(*(store.increment("n") for _ in range(500)))
        assert sorted(sums) == list(range(1, 501))

    run(path, body, sync="none")


def test_the_loop_is_never_blocked(path: Path) -> None:
    """While another thread holds the writing turn, and while a compaction runs, the loop goes on."""

    async def body(store: AsyncStore) -> None:
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            with store.store.transaction() as t:
                t["held"] = "1"
                holding.set()
                release.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        ticks = 0
        writing = asyncio.gather(store.put("k", "v"), store.increment("n"), store.compact())
        for _ in range(50):  # a call that waited in the loop would wait for ever
            await asyncio.sleep(0)
            ticks += 1
        assert ticks == 50 and not writing.done()
        release.set()
        await writing
        thread.join()
        assert await store.get("k") == b"v"

    run(path, body)


def test_a_cancelled_wait_for_a_transaction_leaves_nothing_open(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        async def enter() -> None:
            async with store.transaction() as t:
                await t.put("never", "1")

        async with store.transaction() as t:
            waiting = [asyncio.create_task(enter()) for _ in range(3)]
            await asyncio.sleep(0.01)
            for task in waiting[:2]:
                task.cancel()
            await asyncio.gather(*waiting[:2], return_exceptions=True)
            await t.put("a", "1")
        await waiting[2]
        await store.put("b", "1")  # nobody holds the turn
        assert [key async for key in store] == [b"a", b"b", b"never"]

    run(path, body)


def test_a_transaction_that_is_dropped_is_rolled_back(path: Path) -> None:
    async def body(store: AsyncStore) -> None:
        transaction = store.transaction()
        await transaction.__aenter__()
        await transaction.put("k", "v")
        del transaction
        gc.collect()
        await asyncio.wait_for(store.put("other", "1"), 30)
        assert [key async for key in store] == [b"other"]

    run(path, body)


def test_random_cancellations_against_a_model(path: Path) -> None:
    """Whatever is cancelled when, each change is there wholly or not at all, and what returned is there."""
    chance = random.Random(7)

    async def body(store: AsyncStore) -> None:
        returned: set[int] = set()

        async def change(number: int) -> None:
            pair = {f"{number:04}/a": "x", f"{number:04}/b": "y"}
            if number % 3 == 0:
                await store.put_many(pair)
            elif number % 3 == 1:
                async with store.transaction() as t:
                    for key, value in pair.items():
                        await t.put(key, value)
            else:
                async with store.transaction() as t:
                    await t.put_many(pair)
                    async with asyncio.timeout(5):
                        await t.increment("count")
            returned.add(number)

        for start in range(0, 300, 20):
            tasks = [asyncio.create_task(change(number)) for number in range(start, start + 20)]
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.002)))
                chance.choice(tasks).cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one is None or isinstance(one, asyncio.CancelledError) for one in results)
        keys = [key.decode() async for key in store.keys(stop="c")]
        there = {int(key[:4]) for key in keys}
        assert len(keys) == 2 * len(there) and returned <= there and len(returned) < 300
        assert int(await store.get("count", b"0")) == sum(number % 3 == 2 for number in there)

    run(path, body, sync="none")


def test_several_loops_one_after_the_other(path: Path) -> None:
    async def use(store: AsyncStore, number: int) -> None:
        await store.put(str(number), "v")
        assert await store.count() == number + 1

    store = asyncio.run(_opened(path))
    for number in range(3):
        asyncio.run(use(store, number))
    asyncio.run(store.close())
    asyncio.run(store.close())
    assert store.closed and store.store.closed


async def _opened(path: Path) -> AsyncStore:
    return await kvwasi.aio.open(path)


def test_close_does_what_waits_and_refuses_the_rest(path: Path) -> None:
    async def main() -> None:
        store = await kvwasi.aio.open(path)
        writes = [asyncio.create_task(store.put(f"{n}", "v")) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert all(await asyncio.gather(*writes))
        for call in (store.put("k", "v"), store.get("k"), store.stats()):
            with pytest.raises(kvwasi.ClosedError):
                await call
        with pytest.raises(kvwasi.ClosedError):
            async with store.transaction():
                pass

    asyncio.run(main())
    with kvwasi.open(path) as store:
        assert len(store) == 50


def test_opening_fails_as_it_does_plainly(path: Path) -> None:
    async def main() -> None:
        with pytest.raises(kvwasi.NoSuchDatabaseError):
            await kvwasi.aio.open(path, "r")
        with pytest.raises(ValueError, match="sync"):
            async with kvwasi.aio.open(path, sync="never"):
                pass
        async with kvwasi.aio.open(path) as store:
            with pytest.raises(kvwasi.DatabaseLockedError):
                await kvwasi.aio.open(path)
            async with kvwasi.aio.open(path, "r") as reader:
                await store.put("k", "v")
                assert await reader.get("k") is None
                assert await reader.refresh() and await reader.get("k") == b"v"

    asyncio.run(main())


def test_one_that_is_dropped_is_closed(path: Path) -> None:
    store = asyncio.run(_opened(path))
    asyncio.run(_put(store))
    plain = store.store
    with pytest.warns(ResourceWarning, match="unclosed kvwasi store"):
        del store
        gc.collect()
    for _ in range(1000):
        if plain.closed:
            break
        time.sleep(0.01)
    assert plain.closed


async def _put(store: AsyncStore) -> None:
    await store.put("k", "v")
