"""Repair: what is salvaged is right, and the report says what is missing."""

import random
from pathlib import Path

import pytest

import kvwasi

SECTOR = 256 << 10


@pytest.fixture
def entries(path: Path) -> dict[bytes, bytes]:
    """A database with small and large values, closed; its contents."""
    chance = random.Random(5)
    contents = {b"key%05d" % i: chance.randbytes(chance.randrange(200)) for i in range(3000)}
    contents[b"large"] = chance.randbytes(300_000)
    with kvwasi.open(path, sector_bytes=SECTOR, sync="none") as store:
        store.put_many(contents)
        store["gone"] = "x"
        del store["gone"]
    return contents


def salvage(path: Path) -> tuple[kvwasi.RepairReport, dict[bytes, bytes]]:
    before = path.read_bytes()
    target = path.with_name("new.kv")
    report = kvwasi.repair(path, target)
    assert path.read_bytes() == before
    with kvwasi.open(target, "r") as store:
        assert store.check() == []
        found = dict(store.items())
    assert report.records == len(found)
    return report, found


def damage(path: Path, offset: int, length: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(byte ^ 0x40 for byte in data[offset : offset + length])
    path.write_bytes(data)


def test_a_healthy_database_is_copied(path: Path, entries: dict[bytes, bytes]) -> None:
    report, found = salvage(path)
    assert found == entries
    assert not report.lost and report.index_used and report.problems == []


@pytest.mark.parametrize("key", [b"key01234", b"large"])
def test_a_damaged_value_is_lost_and_named(path: Path, entries: dict[bytes, bytes], key: bytes) -> None:
    damage(path, path.read_bytes().rindex(entries[key]) + 3)
    report, found = salvage(path)
    del entries[key]
    assert found == entries
    assert report.lost and report.values_lost == 1
    assert [problem.key for problem in report.problems] == [key]


def test_a_damaged_record_is_lost(path: Path, entries: dict[bytes, bytes]) -> None:
    damage(path, path.read_bytes().rindex(b"key01234" + entries[b"key01234"]) - 20)
    report, found = salvage(path)
    del entries[b"key01234"]
    assert found == entries
    assert report.lost


def test_without_superblocks_the_log_is_read(path: Path, entries: dict[bytes, bytes]) -> None:
    for slot in (0, 4096):
        damage(path, slot)
    report, found = salvage(path)
    assert found == entries
    assert report.lost and report.may_reappear and not report.index_used


def test_without_the_pages_of_the_index_the_log_is_read(path: Path, entries: dict[bytes, bytes]) -> None:
    data = path.read_bytes()
    for start in range(8192, len(data), SECTOR):
        if data[start + 8 : start + 14] == b"kveS\x03\x00":
            damage(path, start + 4096, min(SECTOR, len(data) - start) - 4096)
    report, found = salvage(path)
    assert found == entries
    assert report.lost and not report.index_used


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_file_keeps_what_is_there(path: Path, entries: dict[bytes, bytes], share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    report, found = salvage(path)
    assert found.items() <= entries.items()
    assert report.lost and len(found) > 0


def test_a_zeroed_sector(path: Path, entries: dict[bytes, bytes]) -> None:
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + SECTOR] = bytes(SECTOR)
    path.write_bytes(data)
    report, found = salvage(path)
    assert found.items() <= entries.items()
    assert report.lost


def test_refusals(path: Path, entries: dict[bytes, bytes], tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        kvwasi.repair(path, path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match="new file"):
        kvwasi.repair(path, tmp_path / "sub" / "new.kv")
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(kvwasi.NotADatabaseError):
        kvwasi.repair(path, tmp_path / "new.kv")
    assert not (tmp_path / "new.kv").exists()
