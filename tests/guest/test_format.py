"""FORMAT.md describes the file: its example is what the engine writes, a reader made from it works."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import series_reader
import xxhash
from format_reader import Database
from plain_driver import PlainDatabase

import kvwasi

GUEST = Path(__file__).parents[2] / "guest-db"
FORMAT = GUEST / "FORMAT.md"
MANY = 50_000
Content = dict[bytes, bytes]
Write = Callable[[kvwasi.Store], None]


# --- the worked example ---


def lines(name: str, data: bytes, start: int, length: int) -> list[str]:
    """A part as FORMAT.md shows it: 16 bytes a line with their file offset, no zeros at its end."""
    part = data[start : start + length]
    shown = -(-len(part.rstrip(b"\0")) // 16) * 16
    rows = range(0, shown, 16)
    return [f"{name}:", *(f"{start + at:06x}  {part[at : at + 16].hex(' ')}" for at in rows)]


def examples(directory: Path) -> tuple[bytes, bytes]:
    """The file after one put, and after two thousand more and the checkpoint of a close."""
    database = PlainDatabase(directory, "example.kv", random_seed=2026)
    database.put(b"hello", b"world")
    small = (directory / "example.kv").read_bytes()
    for _ in range(2000):
        database.put(b"hello", b"world", durable=False)
    database.close()
    return small, (directory / "example.kv").read_bytes()


def hexdump(directory: Path) -> str:
    small, large = examples(directory)
    newest = Database(directory / "example.kv").super
    shown = [
        *lines("superblock 0", small, 0, 256),
        *lines("sector 0", small, 8192, 64),
        *lines("record", small, 8192 + 128, 56),
        *lines(f"superblock {newest.sequence % 2}", large, newest.sequence % 2 * 4096, 256),
    ]
    start = newest.root_page * 4096
    heap = int.from_bytes(large[start + 4 : start + 6], "little")
    shown += lines("node", large, start, 24)  # up to its sum, which covers unused bytes
    shown += lines("its slot", large, start + 96, 8) + lines("its heap", large, start + heap, 4096 - heap)
    return "\n".join(shown + lines("map", large, newest.map_page * 4096, 4096))


def test_worked_example_is_what_the_engine_writes(tmp_path: Path) -> None:
    found = re.search(r"```hexdump\n(.*?)\n```", FORMAT.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == hexdump(tmp_path)


def test_sums_of_the_example_follow_the_text(tmp_path: Path) -> None:
    data, _ = examples(tmp_path)
    assert int.from_bytes(data[:8], "little") == xxhash.xxh64_intdigest(data[8:256], 0)
    identity = int.from_bytes(data[56:64], "little")
    assert int.from_bytes(data[8192:8200], "little") == xxhash.xxh64_intdigest(data[8200:8256], identity)
    assert data[8192:8256] == data[8256:8320]


# --- the reader ---


def assert_same(path: Path) -> Database:
    """The reader lists a closed file as the engine does."""
    found = Database(path)
    with kvwasi.open(path, "r") as store:
        assert found.items == dict(store)
        tables = {name: dict(store.table(name)) for name in store.tables()}
    assert {name.decode(): items for name, items in found.tables.items()} == tables
    return found


def content(count: int, seed: int = 1, longest: int = 60) -> Content:
    rng = random.Random(seed)
    keys = [b"%s/%08d" % (rng.choice([b"a", b"long-common-prefix", b"z" * 40]), n) for n in range(count)]
    return {key: rng.randbytes(rng.randrange(longest)) for key in keys}


def write_empty(store: kvwasi.Store) -> None:
    pass


def write_few(store: kvwasi.Store) -> None:
    store.put_many(content(20))
    store["one"] = "more"


def write_many(store: kvwasi.Store) -> None:
    store.put_many(content(MANY))


def write_deleted(store: kvwasi.Store) -> None:
    store.put_many(content(MANY))
    with store.transaction() as txn:
        for key in list(content(MANY))[:-100]:
            del txn[key]


def write_large(store: kvwasi.Store) -> None:
    rng = random.Random(2)
    for n in range(12):
        store[b"large%d" % (n % 5)] = rng.randbytes(65_530 + n * 200_000)
        store[b"longest" * 140 + b"%d" % n] = rng.randbytes(65_536)


def write_tables(store: kvwasi.Store) -> None:
    for name in ("one", "two", "gone"):
        store.table(name).put_many(content(MANY // 10, len(name)))
    store.table("empty")
    store.drop_table(
        "gone"
    )  # which has left pages that nothing referred to, where full leaves stood beside emptied ones
    store.table("after").put_many(content(10))


def write_compacted(store: kvwasi.Store) -> None:
    write_deleted(store)
    write_tables(store)
    store.compact()
    store["after"] = "it"


SHAPES = [
    write_empty,
    write_few,
    write_many,
    write_deleted,
    write_large,
    write_tables,
    write_compacted,
]


@pytest.mark.parametrize("write", SHAPES)
def test_the_reader_lists_what_the_engine_lists(
    tmp_path: Path, write: Callable[[kvwasi.Store], None]
) -> None:
    path = tmp_path / "some.kv"
    with kvwasi.open(path, sync="none") as store:
        write(store)
        live = dict(store)
        shutil.copy(path, tmp_path / "tail.kv")  # no checkpoint of a close, no durable tail
    if write in (write_few, write_empty, write_many, write_deleted, write_large):
        assert Database(tmp_path / "tail.kv").items == live
    found = assert_same(path)
    assert (found.super.map_page != 0) == (write not in (write_empty, write_few))
    assert_same(tmp_path / "tail.kv")


def test_time_series_are_as_the_text_says(tmp_path: Path) -> None:
    path, rng = tmp_path / "some.kv", random.Random(4)
    with kvwasi.open(path, sync="none", defaults={"a": "1"}, defaults_version=12) as store:
        for name, value in (("floats", rng.random), ("ints", lambda: rng.randrange(-9, 9)), ("bytes", None)):
            series = store.series(name, retention=kvwasi.Retention(count=100_000))
            at = 0
            for count in (1, 3000, 200, 1, 6000):
                steps = [5] * count if count == 3000 else [rng.randrange(1, 10**12) for _ in range(count)]
                times = [at := at + step for step in steps]
                values = [value() if value else rng.randbytes(rng.randrange(9)) for _ in times]
                series.append_many(values, times)
            series.set_status(times[0], kvwasi.Status.DELETED)
            series.set_status(times[-1], kvwasi.Status.USER2)
        expected = {name: list(store.series(name).entries()) for name in store.series_names()}
    tables = Database(path).tables
    assert tables.pop(b"\0defaults\0") == {b"version": b"12"}
    assert set(tables) == {b"\0series\0" + name.encode() for name in expected}
    for name, entries in expected.items():
        table = tables[b"\0series\0" + name.encode()]
        assert list(series_reader.entries(table)) == [tuple(entry) for entry in entries]
        note = json.loads(table[b"\0"])
        assert note == {
            "version": 1,
            "values": name.removesuffix("s") if name != "bytes" else name,
            "count": 100_000,
        }


def test_moved_records_and_sectors_used_again(tmp_path: Path) -> None:
    path, expected = tmp_path / "some.kv", {}
    rng = random.Random(3)
    with kvwasi.open(path, sync="none", sector_bytes=256 << 10) as store:
        for turn in range(40):
            some = {b"%d" % rng.randrange(400): rng.randbytes(rng.randrange(6000)) for _ in range(300)}
            store.put_many(some)
            expected |= some
            store.sync()
            if turn % 10 == 9:
                shutil.copy(path, tmp_path / "open.kv")
                assert Database(tmp_path / "open.kv").items == expected
        assert store.stats().erases > 0
    assert assert_same(path).items == expected


def test_savepoints_and_rollbacks_in_the_tail(tmp_path: Path) -> None:
    path = tmp_path / "some.kv"
    with kvwasi.open(path) as store:
        store["first"] = "1"
        with store.transaction() as txn:
            for turn in range(6):
                txn[f"outer{turn}"] = b"x" * 400
                inner = txn.savepoint()
                with inner:
                    for n in range(1000):
                        txn[f"inner{turn}/{n}"] = b"y" * 200
                    txn.table(f"table{turn}")[b"k"] = b"v"
                    if turn % 2:
                        inner.rollback()
        with pytest.raises(ZeroDivisionError), store.transaction() as txn:
            txn.put_many(content(5000))
            raise ZeroDivisionError
        store["last"] = "2"
        live = dict(store)
        shutil.copy(path, tmp_path / "tail.kv")
    data = (tmp_path / "tail.kv").read_bytes()
    found = Database(tmp_path / "tail.kv")
    assert found.items == live and found.replayed > 0
    assert sorted(found.tables) == [b"table0", b"table2", b"table4"]
    assert found.undone > 0, len(data)
    assert_same(path)


def test_small_commits_of_a_plain_host(tmp_path: Path) -> None:
    database = PlainDatabase(tmp_path, "some.kv")
    expected = {}
    for i in range(300):
        key, value = b"key%d" % (i * 7 % 90), b"v%d" % i * (i % 40)
        database.put(key, value)
        expected[key] = value
        if i % 11 == 3:
            database.delete(key)
            del expected[key]
    assert Database(tmp_path / "some.kv").items == expected
    assert database.keys() == sorted(expected)
    database.close()
    again = PlainDatabase(tmp_path, "some.kv")  # goes on in place
    again.put(b"more", b"!")
    assert Database(tmp_path / "some.kv").items == expected | {b"more": b"!"}
    del again  # neither synced nor closed: the next opening rewrites what is not proven into a fresh sector
    PlainDatabase(tmp_path, "some.kv").put(b"and", b"more")
    assert Database(tmp_path / "some.kv").items == expected | {b"more": b"!", b"and": b"more"}


@pytest.mark.parametrize("part", ["node", "map", "superblock"])
def test_the_reader_notices_damage(tmp_path: Path, part: str) -> None:
    path = tmp_path / "some.kv"
    with kvwasi.open(path, sync="none") as store:
        write_many(store)
    found = Database(path).super
    data = bytearray(path.read_bytes())
    at = {"node": found.root_page * 4096 + 2000, "map": found.map_page * 4096 + 40, "superblock": 100}[part]
    for start in [at, 4096 + at] if part == "superblock" else [at]:
        data[start] ^= 1
    path.write_bytes(data)
    with pytest.raises((AssertionError, ValueError)):
        Database(path)


# --- the tables of offsets ---

TABLES = {  # prefix of the constants: where FORMAT.md's table begins, names that only one of the two has
    "SB": ("## Superblock", set()),
    "SH": ("## Sectors", set()),
    "PG": ("**Nodes**", {"used", "count", "heap", "dead", "prefix", "first", "hints", "slots"}),
    "MP": ("**The space map**", {"page", "sum", "data"}),
    "ME": ("| offset in the entry", set()),
    "RH": ("## Records", set()),
}


@pytest.mark.parametrize("prefix", TABLES)
def test_the_tables_have_the_offsets_of_the_code(prefix: str) -> None:
    begin, others = TABLES[prefix]
    table = re.search(
        re.escape(begin) + r".*?(^\| \d.*?)^(?!\|)", FORMAT.read_text(), re.MULTILINE | re.DOTALL
    )
    assert table is not None
    rows = re.findall(r"^\| (\d+) \| [\d *count]+ \| (\w+) ", table[1], re.MULTILINE)
    source = (GUEST / "src" / "format.h").read_text()
    defined = re.findall(rf"^#define KV_{prefix}_(\w+) +(\d+)(?!\w)", source, re.MULTILINE)
    constants = {(int(at), name.lower()) for name, at in defined if not name.startswith("RESERVED")}
    assert len(constants) > 3
    different = constants ^ {(int(at), name) for at, name in rows}
    assert {name for _, name in different} == others
