"""FORMAT.md describes the file: its example is what the engine writes, a reader made from it works."""

import re
from pathlib import Path

import xxhash
from format_reader import Database
from plain_driver import PlainDatabase

FORMAT = Path(__file__).parents[2] / "guest-db" / "FORMAT.md"
PARTS = {"superblock 0": (0, 128), "sector 0": (8192, 64), "record": (8192 + 128, 56)}


def hexdump(data: bytes) -> str:
    """The three parts that FORMAT.md shows, 16 bytes a line with their file offset."""
    lines = []
    for name, (start, length) in PARTS.items():
        lines.append(f"{name}:")
        for at in range(start, start + length, 16):
            lines.append(f"{at:06x}  {data[at : min(at + 16, start + length)].hex(' ')}")
    return "\n".join(lines)


def example(directory: Path) -> bytes:
    database = PlainDatabase(directory, "example.kv", random_seed=2026)
    database.put(b"hello", b"world")
    return (directory / "example.kv").read_bytes()


def test_worked_example_is_what_the_engine_writes(tmp_path: Path) -> None:
    found = re.search(r"```hexdump\n(.*?)\n```", FORMAT.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == hexdump(example(tmp_path))


def test_sums_of_the_example_follow_the_text(tmp_path: Path) -> None:
    data = example(tmp_path)
    assert int.from_bytes(data[:8], "little") == xxhash.xxh64_intdigest(data[8:128], 0)
    identity = int.from_bytes(data[56:64], "little")
    assert int.from_bytes(data[8192:8200], "little") == xxhash.xxh64_intdigest(data[8200:8256], identity)
    assert data[8192:8256] == data[8256:8320]


def test_a_reader_made_from_the_text_reads_databases(tmp_path: Path) -> None:
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
    again = PlainDatabase(tmp_path, "some.kv")  # writes on in place, behind the close mark
    again.put(b"more", b"!")
    assert Database(tmp_path / "some.kv").items == expected | {b"more": b"!"}
    del again  # neither synced nor closed: the next opening rewrites what is not proven into a fresh sector
    PlainDatabase(tmp_path, "some.kv").put(b"and", b"more")
    assert Database(tmp_path / "some.kv").items == expected | {b"more": b"!", b"and": b"more"}
