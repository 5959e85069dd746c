"""Time series through the public API."""

import pickle
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy
import pytest

import kvwasi
from kvwasi import Retention, Status
from kvwasi.series import _codec
from kvwasi.series.view import View
from kvwasi.table import Table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.kv"


@pytest.fixture
def store(path: Path) -> Any:
    with kvwasi.open(path, sync="none") as store:
        yield store


def blocks(store: kvwasi.Store, name: str) -> list[int]:
    """How many entries each block has."""
    with store.snapshot() as snapshot:
        view = snapshot.series(name)._snapshot_view(snapshot)
        assert view is not None
        return [_codec.Header(data).count for data in view.table.values(start=b"\2", stop=b"\3")]


@pytest.mark.parametrize("values", [[b"a", b"", b"ccc"], [1.5, -0.0, 3.0], [1, -(1 << 63), (1 << 63) - 1]])
def test_what_is_appended_is_read(store: kvwasi.Store, values: list[Any]) -> None:
    series = store.series("s")
    assert (series.kind, list(series), len(series), series.first(), series.last()) == (
        None,
        [],
        0,
        None,
        None,
    )
    for time, value in enumerate(values):
        assert series.append(value, ts=time * 10) == time * 10
    expected = [(time * 10, value) for time, value in enumerate(values)]
    assert list(series) == expected
    assert list(reversed(series)) == expected[::-1]
    assert (series.first(), series.last(), len(series)) == (expected[0], expected[-1], 3)
    assert series.get(10) == (10, values[1], Status.WRITTEN)
    assert series.get(11) is None
    assert series.kind == type(values[0]).__name__
    assert store.series_names() == ["s"] and store.tables() == [] and series.name == "s"


def test_text_is_stored_as_utf8(store: kvwasi.Store) -> None:
    store.series("log").append("grün", 1)
    assert store.series("log").last() == (1, "grün".encode())


def test_times_are_now_unless_said(store: kvwasi.Store) -> None:
    series = store.series("s")
    before = datetime.now(UTC)
    first = series.append(1)
    assert series.append_many([2, 3]) == 2
    times = [time for time, _ in series]
    assert times[0] == first and times[2] == times[1] + 1
    assert list(series.items(start=before)) == list(series)
    assert list(series.items(start=datetime.now(UTC) + timedelta(hours=1))) == []
    moment = datetime(2200, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    at = series.append(4, ts=moment)
    assert at == int(moment.replace(microsecond=0).timestamp()) * 10**9 + 678_901_000
    assert series.get(moment) == (at, 4, Status.WRITTEN)


@pytest.mark.parametrize("time", [-1, 1 << 63, datetime(2020, 1, 1), "now", 1.5])
def test_impossible_times(store: kvwasi.Store, time: Any) -> None:
    series = store.series("s")
    for call in (
        lambda: series.append(1, ts=time),
        lambda: series.append_many([1], [time]),
        lambda: series.get(time),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert len(series) == 0 and store.series_names() == []


@pytest.mark.parametrize("many", [0, 600])
def test_times_increase(store: kvwasi.Store, many: int) -> None:
    series = store.series("s")
    series.append_many(range(many + 1), range(many + 1))
    for at in (many, many - 1) if many else (many,):
        with pytest.raises(kvwasi.TimeOrderError, match="is not after") as caught:
            series.append(1, ts=at)
        assert (caught.value.time, caught.value.last) == (at, many)
    with pytest.raises(kvwasi.TimeOrderError) as caught:
        series.append_many([1, 2, 3], [many + 1, many + 3, many + 2])
    assert (caught.value.time, caught.value.last) == (many + 2, many + 3)
    assert len(series) == many + 1
    assert series.append(7, ts=0, on_conflict="bump") == many + 1
    assert series.append_many([8, 9, 10], [0, 0, 10_000], on_conflict="bump") == 3
    assert [time for time, _ in series.items(start=many + 1)] == [many + 1, many + 2, many + 3, 10_000]
    with pytest.raises(ValueError, match="error or bump"):
        series.append(1, on_conflict="overwrite")  # type: ignore[arg-type]


def test_the_last_time_there_is(store: kvwasi.Store) -> None:
    series = store.series("s")
    end = (1 << 63) - 1
    series.append(1, ts=end)
    assert series.get(end) == (end, 1, Status.WRITTEN) and series.count(start=end) == 1
    for on_conflict in ("error", "bump"):
        with pytest.raises((kvwasi.TimeOrderError, ValueError)):
            series.append(1, ts=end, on_conflict=on_conflict)  # type: ignore[arg-type]
        with pytest.raises(kvwasi.TimeOrderError):
            series.append_many([1], [end], on_conflict=on_conflict)  # type: ignore[arg-type]


def test_values_are_of_one_kind(store: kvwasi.Store) -> None:
    store.series("f").append(1.5, 1)
    store.series("f").append(2, 2)
    assert store.series("f").last() == (2, 2.0)
    store.series("i").append(1, 1)
    for name, wrong in (("f", b"x"), ("i", 1.5), ("i", 1 << 63), ("f", None)):
        with pytest.raises((TypeError, ValueError)):
            store.series(name).append(wrong, 3)
        with pytest.raises((TypeError, ValueError)):
            store.series(name).append_many([wrong], [3])
    store.series("b").append(b"x", 1)
    with pytest.raises(TypeError):
        store.series("b").append(1, 2)
    with pytest.raises(TypeError):
        store.series("new").append(object(), 2)
    assert store.series_names() == ["b", "f", "i"]


def test_entries_move_into_blocks(store: kvwasi.Store, path: Path) -> None:
    series = store.series("s")
    for time in range(5200):
        series.append(time, ts=time)
    assert blocks(store, "s") == [4096, 1024]
    assert list(series) == [(time, time) for time in range(5200)]
    assert series.append_many(range(5200, 20_000), range(5200, 20_000)) == 14_800
    assert list(series.items(start=5190, stop=5210)) == [(time, time) for time in range(5190, 5210)]
    assert list(series.items(4090, 8200, reverse=True)) == [
        (time, time) for time in reversed(range(4090, 8200))
    ]
    assert blocks(store, "s").count(4096) >= 3
    assert store.check() == []


def test_what_is_appended_at_once_becomes_a_block(store: kvwasi.Store) -> None:
    series = store.series("s")
    series.append_many(range(31), range(31))
    assert blocks(store, "s") == []
    series.append_many(range(31, 100), range(31, 100))
    assert blocks(store, "s") == [99]
    assert list(series) == [(time, time) for time in range(100)]


def test_large_values_do_not_wait_for_many(store: kvwasi.Store) -> None:
    series = store.series("s")
    for time in range(20):
        series.append(bytes([time]) * 20_000, ts=time)
    assert len(blocks(store, "s")) > 10
    series.append(bytes(70_000), ts=20)
    series.append(b"last", ts=21)
    assert [len(value) for _, value in series] == [20_000] * 20 + [70_000, 4]


@pytest.mark.parametrize("count", [3, 2000])
def test_statuses(store: kvwasi.Store, count: int) -> None:
    series = store.series("s")
    series.append_many(range(count), range(count))
    series.append(-1, ts=count)
    assert series.set_status(0, Status.DELETED) and series.set_status(1, Status.USER1)
    assert series.set_status(count, Status.USER2)
    assert not series.set_status(count + 1, Status.USER1) and not store.series("none").set_status(
        0, Status.USER1
    )
    assert series.set_status(1, Status.USER1)
    assert series.get(0) == (0, 0, Status.DELETED)
    assert [series.count(status=status) for status in (None, *Status)] == [count, count - 2, 1, 1, 1]
    assert series.count(1, 3) == 2 and series.count(0, 1) == 0 and series.count(3, 1) == 0
    assert list(series.items(3, 1)) == [] and series.count(3, 1, status=Status.WRITTEN) == 0
    assert list(series.items(status=Status.USER1)) == [(1, 1)]
    assert list(series.entries(stop=2)) == [(0, 0, Status.DELETED), (1, 1, Status.USER1)]
    assert series.first() == (1, 1) and series.last() == (count, -1)
    assert list(series.items(status=Status.USER2, reverse=True)) == [(count, -1)]
    times, values = series.to_numpy()
    assert times.tolist() == [*range(1, count + 1)] and values.tolist() == [*range(1, count), -1]
    with pytest.raises(ValueError, match="4"):
        series.set_status(0, 4)  # type: ignore[arg-type]
    for time in range(count):
        series.append(time, ts=count + 1 + time)
    assert series.count(status=Status.USER2) == 1  # it went into a block with its status
    assert series.set_status(0, Status.WRITTEN) and series.first() == (0, 0)


def test_arrays(store: kvwasi.Store) -> None:
    floats, ints = store.series("f"), store.series("i")
    assert [array.tolist() for array in floats.to_numpy()] == [[], []]
    times = numpy.arange(10_000, dtype=numpy.int64) * 7
    values = numpy.sin(times)
    assert floats.append_many(values, times) == 10_000
    ints.append_many((values * 1000).astype(numpy.int64), times.astype("datetime64[ns]"))
    for start, stop in ((None, None), (0, 1), (70, 63_000), (5, 5), (69_993, 69_994), (100_000, None)):
        found_times, found = floats.to_numpy(start, stop)
        chosen = (times >= (start or 0)) & (times < (10**9 if stop is None else stop))
        assert (found_times == times[chosen]).all() and (found == values[chosen]).all()
        assert floats.count(start, stop) == chosen.sum() == len(found)
    assert ints.to_numpy()[1].dtype == numpy.int64 and found.dtype == numpy.float64
    found_times[:] = 0  # their own memory
    with pytest.raises(TypeError, match="bytes"):
        store.series("b").append(b"x", 1)
        store.series("b").to_numpy()


def test_a_transaction_changes_several_at_once(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        t.series("a").append(1, 1)
        t.series("b").append_many([1.5, 2.5], [1, 2])
        t["k"] = "v"
        assert list(t.series("a")) == [(1, 1)] and t.series_names() == ["a", "b"]
    with pytest.raises(ZeroDivisionError), store.transaction() as t:
        t.series("a").append(2, 2)
        t.drop_series("b")
        raise ZeroDivisionError
    with store.transaction() as t:
        series = t.series("a")
        with t.savepoint() as part:
            assert t.series("new").append(5, 1) == 1
            part.rollback()
        made = t.series("new")
        for time in range(2, 1200):
            series.append(time, ts=time)
            made.append(float(time), ts=time)
    assert [len(store.series(name)) for name in ("a", "b", "new")] == [1199, 2, 1198]
    assert store.series("new").kind == "float"
    with pytest.raises(kvwasi.ClosedError):
        series.append(1, 10_000)


def test_a_series_made_in_a_transaction_that_failed_begins_anew(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        with t.savepoint() as part:
            series = t.series("s")
            series.append(1, 5)
            part.rollback()
        series = t.series("s")
        assert series.append(2.5, 3) == 3
    assert list(store.series("s")) == [(3, 2.5)]


def test_snapshots_see_one_moment(store: kvwasi.Store) -> None:
    series = store.series("s")
    series.append_many(range(1000), range(1000))
    with store.snapshot() as snapshot:
        iterator = iter(series)
        assert next(iterator) == (0, 0)
        series.clean()
        series.append(5, ts=3)
        then = snapshot.series("s")
        assert (len(then), then.last(), snapshot.series_names()) == (1000, (999, 999), ["s"])
        assert not hasattr(then, "append")
        assert len(list(iterator)) == 999
        assert list(snapshot.series("none")) == [] and snapshot.series("none").count() == 0
    assert list(series) == [(3, 5)]


def test_clean_and_drop(store: kvwasi.Store) -> None:
    series = store.series("s")
    series.append_many([0.5] * 2000, range(2000))
    series.clean()
    assert (len(series), series.last(), series.kind) == (0, None, "float")
    series.append(1.5, ts=1)
    store.drop_series("s")
    assert store.series_names() == []
    with pytest.raises(kvwasi.NoSuchTableError, match="no series 's'"):
        store.drop_series("s")
    with pytest.raises(kvwasi.NoSuchTableError):
        series.append(1.5, ts=2)
    store.series("s").append(b"now bytes", ts=1)
    assert store.series("s").kind == "bytes"


def test_it_is_there_after_reopening_and_in_copies(store: kvwasi.Store, path: Path, tmp_path: Path) -> None:
    store.series("s", retention=Retention(count=10_000)).append_many(range(3000), range(3000))
    store.series("s").set_status(7, Status.USER1)
    expected = list(store.series("s").entries())
    store.backup(tmp_path / "copy.kv")
    store.close()
    kvwasi.repair(path, tmp_path / "repaired.kv")
    for name in ("my.kv", "copy.kv", "repaired.kv"):
        with kvwasi.open(tmp_path / name) as again:
            series = again.series("s")
            assert list(series.entries()) == expected
            assert series.retention == Retention(count=10_000)
            assert series.append(1, ts=5000) == 5000
            with pytest.raises(kvwasi.TimeOrderError):
                series.append(1, ts=5000)


def test_a_read_only_store(store: kvwasi.Store, path: Path) -> None:
    store.series("s").append(1, 1)
    store.close()
    with kvwasi.open(path, "r") as reading:
        assert list(reading.series("s")) == [(1, 1)]
        with pytest.raises(kvwasi.ReadOnlyError):
            reading.series("s").append(2, 2)
        with pytest.raises(kvwasi.ReadOnlyError):
            reading.series("other").append(2, 2)


def test_a_series_that_is_read_goes_to_other_processes(store: kvwasi.Store, path: Path) -> None:
    store.series("s\N{DEGREE SIGN}").append_many([1.5, 2.5], [10, 20])
    with kvwasi.open(path, "r") as reader:
        again = pickle.loads(pickle.dumps(reader.series("s\N{DEGREE SIGN}")))
        assert list(again.items()) == [(10, 1.5), (20, 2.5)] and again.name == "s\N{DEGREE SIGN}"
        again._of.close()


# retention


@pytest.mark.parametrize("limit", [1, 5, 100, 3000, 20_000])
@pytest.mark.parametrize("step", [1, 700])
def test_retention_by_count(store: kvwasi.Store, limit: int, step: int) -> None:
    series = store.series("s", retention=Retention(count=limit))
    for start in range(0, 12_000 if step > 1 else 3000, step):
        if step == 1:
            series.append(start, ts=start)
        else:
            series.append_many(range(start, start + step), range(start, start + step))
        total = start + step
        kept = len(series)
        assert min(total, limit) <= kept <= min(total, limit + limit // 8 + 1024 + step)
        assert series.last() == (total - 1, total - 1)
    assert list(series) == [(n, n) for n in range(total - kept, total)]
    assert len(store.series("s", retention=Retention(count=limit))) == kept


def test_retention_by_bytes(store: kvwasi.Store) -> None:
    series = store.series("s", retention=Retention(bytes=200_000))
    for start in range(0, 200_000, 1000):
        series.append_many([float(n) for n in range(start, start + 1000)], range(start, start + 1000))
    assert 200_000 <= 8 * len(series) <= 300_000
    assert store.stats().live_bytes < 500_000


def test_retention_by_age(store: kvwasi.Store) -> None:
    second = 10**9
    series = store.series("s", retention=Retention(age=timedelta(seconds=100)))
    for n in range(300):
        series.append(n, ts=n * second)
    assert series.first() == (199 * second, 199)
    series.append(-1, ts=10_000 * second)
    assert len(series) < 102 - 60  # in steps
    assert series.trim() > 0
    assert list(series) == [(10_000 * second, -1)]
    more = store.series("more", retention=Retention(age=timedelta(seconds=2)))
    for n in range(5000):
        more.append(n, ts=n * 10**6)
    assert 2000 <= len(more) <= 2000 + 4096


def test_retention_that_is_changed(store: kvwasi.Store) -> None:
    series = store.series("s")
    series.append_many(range(100_000), range(100_000))
    assert series.retention == Retention()
    again = store.series("s", retention=Retention(count=1000))
    assert again.retention == Retention(count=1000)
    again.trim()
    assert 1000 <= len(again) <= 1000 + 4096
    assert again.trim() == 0
    assert series.append(5, ts=10**6) == 10**6


@pytest.mark.parametrize("limits", [{"count": 0}, {"bytes": 0}, {"age": timedelta(0)}, {"count": -1}])
def test_impossible_retentions(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="retention"):
        Retention(**limits)


# others


def test_threads_append_to_the_same_series(store: kvwasi.Store) -> None:
    taken: list[int] = []

    def work(which: int) -> None:
        series = store.series("s")
        taken.extend(series.append(which, ts=0, on_conflict="bump") for _ in range(500))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2000))
    assert [time for time, _ in store.series("s")] == list(range(2000))
    values = [value for _, value in store.series("s")]
    assert [values.count(n) for n in range(4)] == [500] * 4


def test_a_count_reads_few_blocks(store: kvwasi.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    series = store.series("s")
    series.append_many(numpy.zeros(1_000_000), numpy.arange(1_000_000))
    read = 0
    real = _codec.Header

    def counting(data: bytes) -> Any:
        nonlocal read
        read += 1
        return real(data)

    monkeypatch.setattr(_codec, "Header", counting)
    assert series.count(12_345, 987_654) == 975_309
    assert read <= 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\0", b"{"),
        (b"\0", b"[]"),
        (b"\0", b'{"values": "complex"}'),
        (b"\2" + bytes(8), b"junk"),
        (b"\3" + b"\xff" * 8, b"\4" + bytes(8)),
        (b"\1" + bytes(8), b"junk"),
    ],
)
def test_what_is_damaged_is_told(store: kvwasi.Store, key: bytes, value: bytes) -> None:
    series = store.series("s")
    series.append_many([0.5] * 1000, range(1000))
    Table(store, series._table_name)[key] = value
    with pytest.raises(kvwasi.CorruptionError):
        again = store.series("s")
        list(again.entries())
        again.count()
        again.append(1.0)


def test_a_view_of_what_is_not_there(store: kvwasi.Store) -> None:
    with store.transaction() as t:
        assert View(Table(t, b"\0series\0none")).rank(5) == 0
    assert store.series_names() == []
