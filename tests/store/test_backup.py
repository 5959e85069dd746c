"""A backup is one moment of the store, whole or not there at all."""

import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import kvwasi

PAIRS = [(b"%06d" % n, b"v%d" % n * 10) for n in range(12_000)]


def everything(reads: Any) -> dict[str, list[tuple[bytes, bytes]]]:
    return {"": list(reads.items())} | {name: list(reads.table(name).items()) for name in reads.tables()}


def left_over(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path.parent) if name.startswith("."))


@pytest.fixture
def full(store: kvwasi.Store) -> kvwasi.Store:
    store.put_many(PAIRS)
    store.table("t").put_many(PAIRS[::3])
    store.table("empty")["k"] = "v"
    store.table("empty").clear()
    store.table("large").update({f"{n}": os.urandom(3_000_000) for n in range(5)})
    store["empty value"] = ""
    return store


def test_everything_is_there(full: kvwasi.Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.kv"
    written = full.backup(copy)
    assert (written.path, written.tables) == (str(copy), 3)
    assert (written.keys, written.file_bytes) == (12_001 + 4000 + 5, copy.stat().st_size)
    assert left_over(copy) == []
    with kvwasi.open(copy, "w") as other:
        assert everything(other) == everything(full)
        assert other.check() == []
        assert other.stats().recovered_commits == 0
        assert other.stats().sector_bytes == full.stats().sector_bytes
        other["more"] = "v"
    assert "more" not in full


def test_writers_go_on(full: kvwasi.Store, tmp_path: Path) -> None:
    """Whatever they do, each copy is a moment at which two counters in two tables agree."""
    stop = threading.Event()
    counted = 0

    def write() -> None:
        nonlocal counted
        while not stop.is_set() and counted < 1_000_000:
            counted += 1
            with full.transaction() as t:
                t["a counter"] = f"{counted}"
                t.table("z counter")["n"] = f"{counted}"
                t[b"%06d" % (counted % 12_000)] = b"changed %d" % counted

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for n in range(3):
            full.backup(tmp_path / f"{n}.kv")
            with kvwasi.open(tmp_path / f"{n}.kv", "r") as copy:
                one, other = copy.get("a counter"), copy.table("z counter").get("n")
                assert one == other
                seen.append(int(one or 0))
                assert copy.check() == []
    finally:
        stop.set()
        writer.join(60)
    assert seen == sorted(seen)
    assert full.stats().snapshots == 0


def test_it_does_not_see_or_wait_for_a_transaction(full: kvwasi.Store, tmp_path: Path) -> None:
    before = everything(full)
    with full.transaction() as t:
        t["new"] = "v"
        t.drop_table("t")
        full.backup(tmp_path / "copy.kv")
    with kvwasi.open(tmp_path / "copy.kv", "r") as copy:
        assert everything(copy) == before


def test_large_values_are_not_held(full: kvwasi.Store, tmp_path: Path) -> None:
    """The memory that Python asks for does not grow with the values."""
    full.put_many({"large": os.urandom(48 << 20), "k" * 1024: os.urandom(65_537)})
    tracemalloc.start()
    full.backup(tmp_path / "copy.kv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20
    with kvwasi.open(tmp_path / "copy.kv", "r") as copy:
        assert copy["large"] == full["large"]
        assert copy["k" * 1024] == full["k" * 1024]
        assert copy.check() == []


def test_what_is_there_stays(full: kvwasi.Store, tmp_path: Path) -> None:
    place = tmp_path / "copy.kv"
    place.write_bytes(b"mine")
    with pytest.raises(kvwasi.DatabaseExistsError) as caught:
        full.backup(place)
    assert isinstance(caught.value, FileExistsError)
    assert caught.value.filename == str(place)
    assert place.read_bytes() == b"mine"
    full.backup(place, overwrite=True)
    with kvwasi.open(place, "r") as copy:
        before = len(full)
        full["later"] = "v"
        full.backup(place, overwrite=True)
        assert len(copy) == before  # a reader goes on with the file that it has
        assert copy.refresh() and copy["later"] == b"v"
    with kvwasi.open(place), pytest.raises(kvwasi.DatabaseLockedError):
        full.backup(place, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(kvwasi.DatabaseLockedError):
            full.backup(full.path, overwrite=overwrite)
    assert left_over(place) == []


def test_no_place_for_it(full: kvwasi.Store, tmp_path: Path) -> None:
    with pytest.raises(kvwasi.NoSuchDatabaseError):
        full.backup(tmp_path / "absent" / "copy.kv")
    with pytest.raises(kvwasi.NotADatabaseError):
        full.backup(tmp_path)


@pytest.mark.parametrize("large", [False, True])
def test_a_damaged_value_is_not_copied(path: Path, large: bool) -> None:
    with kvwasi.open(path) as store:
        store.put_many({"a": "fine", "b": "unmistakable value" * (10_000 if large else 1), "c": "fine"})
    image = path.read_bytes()
    path.write_bytes(image.replace(b"unmistakable", b"unmistAkable", 1))
    copy = path.with_name("copy.kv")
    with kvwasi.open(path, "r") as store, pytest.raises(kvwasi.CorruptionError):
        store.backup(copy)
    assert not copy.exists()
    assert left_over(path) == []


def test_a_failure_leaves_nothing(
    full: kvwasi.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "copy.kv"
    place.write_bytes(b"mine")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            with pytest.raises(kvwasi.StorageError) as caught:
                full.backup(place, overwrite=True)
        assert caught.value.errno == 28
        assert place.read_bytes() == b"mine"
        assert left_over(place) == []


def test_of_a_read_only_store(full: kvwasi.Store, tmp_path: Path) -> None:
    before = everything(full)
    full.close()
    with kvwasi.open(full.path, "r") as store:
        store.backup(tmp_path / "copy.kv")
    with kvwasi.open(tmp_path / "copy.kv") as copy:
        assert everything(copy) == before
