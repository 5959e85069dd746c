"""Snapshots: one moment, whatever happens meanwhile; and their end."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import kvwasi

PAIRS = [(b"%04d" % n, b"v%d" % n) for n in range(1000)]


def everything(reads: kvwasi.Store | kvwasi.Snapshot) -> dict[str, list[tuple[bytes, bytes]]]:
    return {"": list(reads.items())} | {name: list(reads.table(name).items()) for name in reads.tables()}


def test_one_moment(store: kvwasi.Store) -> None:
    store.put_many(PAIRS)
    store.table("t").put_many(PAIRS[:500])
    store["large"] = b"a" * 300_000
    before = everything(store)
    with store.snapshot() as snap:
        for key, _ in PAIRS[::2]:
            del store[key]
        store["0001"] = "changed"
        store["large"] = b"b" * 300_000
        store.table("t")["0001"] = "changed"
        store.table("new")["k"] = "v"
        assert everything(snap) == before
        assert snap["0000"] == b"v0"
        assert snap["0001"] == b"v1"
        assert snap["large"] == b"a" * 300_000
        assert snap.get("new") is None
        assert "0000" in snap
        assert "9" not in snap
        assert len(snap) == 1001
        assert snap.get_many(["0000", "9", "large"]) == [b"v0", None, b"a" * 300_000]
        assert snap.tables() == ["t"]
        table = snap.table("t")
        assert (len(table), table["0001"], table.get_many(["0002", "x"])) == (500, b"v1", [b"v2", None])
        assert list(snap.keys(prefix="000", reverse=True, limit=2)) == [b"0009", b"0008"]
        assert next(reversed(snap)) == b"large"
        with pytest.raises(kvwasi.NoSuchTableError, match="'new'"):
            snap.table("new")
        with pytest.raises(kvwasi.KeyNotFoundError):
            snap["9"]
        store.drop_table("t")
        assert everything(snap) == before
        store.compact()
        assert everything(snap) == before
        store.put_many(PAIRS)
        assert everything(snap) == before
    assert store.check() == []


def test_it_sees_no_transaction(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        t["k"] = "v"
        t.table("t")["k"] = "v"
        before = store.transaction(write=False)
        assert (len(before), before.tables()) == (0, [])
    assert (len(before), before.tables()) == (0, [])
    with store.snapshot() as after:
        assert (dict(after), after.tables()) == ({b"k": b"v"}, ["t"])
    before.close()


def test_it_cannot_be_written(store: kvwasi.Store) -> None:
    with store.snapshot() as snap:
        assert not hasattr(snap, "put")
        with pytest.raises(TypeError):
            snap["k"] = "v"  # type: ignore[index]


def test_many_at_once(store: kvwasi.Store) -> None:
    """Each has its own moment, whatever number the engine gives it."""
    snaps = []
    for n in range(200):
        store["n"] = f"{n}"
        store.table("t")[f"{n:04}"] = "x"
        snaps.append(store.snapshot())
    store["n"] = "last"
    assert store.stats().snapshots == 200
    for n, snap in enumerate(snaps):
        assert snap["n"] == b"%d" % n
        assert snap.get("m") is None
        assert snap.get_many(["m", "n"]) == [None, b"%d" % n]
        assert "n" in snap
        assert len(snap.table("t")) == n + 1
        assert snap.table("t").get(f"{n:04}") == b"x"
        assert snap.table("t").get(f"{n + 1:04}") is None
    for snap in snaps[::2]:
        snap.close()
    assert store.stats().snapshots == 100
    assert [snap["n"] for snap in snaps[1::2]] == [b"%d" % n for n in range(1, 200, 2)]


def test_there_is_a_limit(store: kvwasi.Store) -> None:
    snaps = [store.snapshot() for _ in range(1024)]
    with pytest.raises(kvwasi.TooManyIteratorsError):
        store.snapshot()
    del snaps
    gc.collect()
    store.snapshot().close()


_CALLS: dict[str, Callable[[kvwasi.Snapshot], object]] = {
    "count": lambda s: s.count(prefix="k"),
    "first": lambda s: s.first(),
    "last": lambda s: s.last(),
    "getitem": lambda s: s["k"],
    "get": lambda s: s.get("k"),
    "get_many": lambda s: s.get_many(["k"]),
    "contains": lambda s: "k" in s,
    "len": len,
    "bool": bool,
    "views": lambda s: list(s.views()),
    "iter": list,
    "reversed": lambda s: list(reversed(s)),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "cursor": lambda s: s.cursor().next(),
    "table": lambda s: s.table("t"),
    "tables": lambda s: s.tables(),
    "series": lambda s: list(s.series("s")),
    "series_names": lambda s: s.series_names(),
    "enter": lambda s: s.__enter__(),
}


def test_every_method_is_among_the_calls() -> None:
    public = {name for name in dir(kvwasi.Snapshot) if not name.startswith("_")} - {"close", "closed"}
    assert public <= set(_CALLS)


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in _CALLS.items()])
@pytest.mark.parametrize("whole", [False, True])
def test_use_after_close(path: Path, call: Callable[[kvwasi.Snapshot], object], whole: bool) -> None:
    with kvwasi.open(path, sync="none") as store:
        store["k"] = "v"
        store.table("t")["k"] = "v"
        snap = store.snapshot()
        table = snap.table("t")
        (store if whole else snap).close()
        snap.close()
        assert snap.closed
        with pytest.raises(kvwasi.ClosedError, match="closed"):
            call(snap)
        for name, reads in _CALLS.items():
            if name not in ("table", "tables", "series", "series_names", "enter"):
                with pytest.raises(kvwasi.ClosedError, match="closed"):
                    reads(table)  # type: ignore[arg-type]
        assert "closed" in repr(snap)


def test_an_iterator_ends_with_its_snapshot(store: kvwasi.Store) -> None:
    store.put_many(PAIRS)
    snap = store.snapshot()
    iterator = iter(snap)
    next(iterator)
    snap.close()
    with pytest.raises(kvwasi.ClosedError, match="snapshot is closed"):
        list(iterator)


def test_a_dropped_snapshot_is_closed(store: kvwasi.Store) -> None:
    store.put_many(PAIRS)
    snap = store.snapshot()
    iterator = iter(snap.table("t")) if "t" in snap.tables() else iter(snap)
    next(iterator)
    assert store.stats().snapshots == 1
    del snap
    gc.collect()
    assert store.stats().snapshots == 1  # the iterator has it
    del iterator
    gc.collect()
    assert store.stats().snapshots == 0
    assert store.stats().cursors == 0


def test_stats_tell_the_age(store: kvwasi.Store) -> None:
    assert store.stats().snapshot_age_seconds == 0
    first = store.snapshot()
    one = store.stats().snapshot_age_seconds
    second = store.snapshot()
    two = store.stats().snapshot_age_seconds
    assert 0 < one < two
    first.close()
    assert store.stats().snapshot_age_seconds > 0
    second.close()
    assert store.stats().snapshot_age_seconds == 0


def test_it_pins_what_it_needs(path: Path) -> None:
    with kvwasi.open(path, sync="none", sector_bytes=256 << 10) as store:
        big = {b"%03d" % n: bytes([n]) * 60_000 for n in range(100)}
        store.put_many(big)
        with store.snapshot() as snap:
            for _ in range(4):
                store.put_many({key: value[::-1] + b"x" for key, value in big.items()})
            assert dict(snap) == big
        assert store.stats().snapshots == 0


def test_in_a_read_only_store_and_a_child(path: Path) -> None:
    with kvwasi.open(path) as store:
        store["k"] = "v"
    store = kvwasi.open(path, "r")
    snap = store.snapshot()
    assert dict(snap) == {b"k": b"v"}
    child = os.fork()
    if child == 0:
        try:
            snap.close()
            snap.get("k")
        except kvwasi.ForkedError:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert snap["k"] == b"v"
    store.close()


def test_threads_see_one_moment_each(path: Path) -> None:
    """A writer keeps two keys and a table equal; no snapshot ever sees them differ."""
    failures: list[object] = []
    with kvwasi.open(path, sync="none") as store:
        store.put_many({"a": "0", "b": "0"})
        store.table("t")["c"] = "0"

        def read() -> None:
            for _ in range(150):
                with store.snapshot() as snap:
                    seen = {snap["a"], *snap.get_many(["b"]), snap.table("t")["c"]}
                    if len(seen) != 1:
                        failures.append(seen)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for n in range(300):
            with store.transaction() as t:
                t["a"] = t["b"] = t.table("t")["c"] = f"{n}"
        for reader in readers:
            reader.join(60)
    assert failures == []
