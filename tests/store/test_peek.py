"""Looking into a database that another process writes."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kvwasi
from kvwasi import peeking

ACCOUNTS, EACH = 100, 1000

# Moves money between accounts, in commits that overwrite all the time: checkpoints, collection, compaction.
WRITER = """
import random, sys, time, kvwasi
path, mode, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
chance, end, number = random.Random(mode), time.monotonic() + seconds, 0
with kvwasi.open(path, sync=mode, sector_bytes=256 << 10) as store:
    print("begun", flush=True)
    while time.monotonic() < end:
        number += 1
        one, other, amount = *chance.sample(range(100), 2), chance.randrange(50)
        with store.transaction() as t:
            for which, change in ((one, -amount), (other, amount)):
                balance = int(t[b"account %d" % which].split()[0]) + change
                padding = b"x" * chance.choice((10, 3000, 60000))
                t[b"account %d" % which] = b"%d %s" % (balance, padding)
            t["commits"] = str(number)
        if number % 200 == 0:
            store.sync()
        if number % 1500 == 0:
            store.compact()
print(number)
"""


@pytest.mark.parametrize("mode", ["commit", "none"])
def test_every_look_is_one_moment(path: Path, mode: str) -> None:
    with kvwasi.open(path, sector_bytes=256 << 10) as store:
        store.put_many({b"account %d" % n: b"%d " % EACH for n in range(ACCOUNTS)})
        store["commits"] = "0"
    writer = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, path, mode, "3"], stdout=subprocess.PIPE, text=True
    )

    def balances(store: kvwasi.Store) -> tuple[int, int, int]:
        entries = dict(store.items())
        total = sum(int(value.split()[0]) for key, value in entries.items() if key.startswith(b"account"))
        return len(entries), total, int(entries[b"commits"])

    with writer:
        assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        looks = last = 0
        while writer.poll() is None:
            keys, total, commits = kvwasi.peek(path, balances)
            assert (keys, total) == (ACCOUNTS + 1, ACCOUNTS * EACH)
            assert commits >= last
            last, looks = commits, looks + 1
        made = int(writer.stdout.read())
    assert looks > 20 and 0 < last <= made
    assert kvwasi.peek(path, balances)[2] == made


def test_a_look_sees_what_is_not_on_disk_yet(store: kvwasi.Store, path: Path) -> None:
    store["a"] = "1"
    with store.transaction() as t:
        t["b"] = "not committed"
        assert kvwasi.peek(path, dict) == {b"a": b"1"}
    assert set(kvwasi.peek(path, dict)) == {b"a", b"b"}
    with pytest.raises(kvwasi.ReadOnlyError):
        kvwasi.peek(path, lambda seen: seen.put("c", "1"))
    with pytest.raises(ZeroDivisionError):
        kvwasi.peek(path, lambda seen: 1 // 0)
    store["c"] = "the store goes on"


def test_a_look_that_took_too_long_is_taken_again(store: kvwasi.Store, path: Path) -> None:
    store["n"] = "0"
    looks: list[bytes] = []

    def read(seen: kvwasi.Store) -> bytes:
        looks.append(seen["n"])
        if len(looks) < 3:
            store["n"] = str(len(looks))
            until = store.stats().checkpoint + 2
            while store.stats().checkpoint < until:
                store["much"] = bytes(60_000)
                store.sync()
            if len(looks) == 2:
                raise KeyError("what a look finds that does not count, does not count")
        return looks[-1]

    assert kvwasi.peek(path, read) == b"2"
    assert len(looks) == 3


def test_a_writer_that_is_always_faster(
    store: kvwasi.Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store["k"] = "v"
    monkeypatch.setattr(peeking, "_newest_sequence", lambda file: None)
    with pytest.raises(kvwasi.DatabaseBusyError, match="faster"):
        kvwasi.peek(path, dict, timeout=0.05)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 5000)
    cases: list[tuple[Any, type[Exception]]] = [
        ("none", kvwasi.NoSuchDatabaseError),
        ("no/directory", kvwasi.NoSuchDatabaseError),
        ("junk", kvwasi.NotADatabaseError),
        (".", kvwasi.NotADatabaseError),
    ]
    for name, error in cases:
        with pytest.raises(error):
            kvwasi.peek(tmp_path / name, dict)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["junk"], ["junk", "junk-lock"])


def test_damage_is_told_at_once_when_nobody_writes(store: kvwasi.Store, path: Path) -> None:
    store.put_many({f"{n}": "v" * 100 for n in range(5000)})
    store.close()
    data = bytearray(path.read_bytes())
    for slot in (0, 4096):
        data[slot + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(kvwasi.CorruptionError):
        kvwasi.peek(path, dict, timeout=60)


def test_many_looks_at_once(store: kvwasi.Store, path: Path) -> None:
    store.put_many({f"{n}": "v" for n in range(100)})
    found: list[int] = []

    def look() -> None:
        found.extend(kvwasi.peek(path, len) for _ in range(10))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(200):
        store["99"] = str(n)
    for thread in threads:
        thread.join()
    assert found == [100] * 40


def test_a_compacted_file_is_as_it_was(store: kvwasi.Store, path: Path) -> None:
    store["n"] = "0"

    def read(seen: kvwasi.Store) -> bytes:
        store["n"] = "1"
        store.compact()
        return seen["n"]

    assert kvwasi.peek(path, read) == b"0"
    assert kvwasi.peek(path, lambda seen: seen["n"]) == b"1"
