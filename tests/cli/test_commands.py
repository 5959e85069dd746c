"""Each command does what its help says, and nothing to bytes."""

import json
import os
from pathlib import Path

import pytest

from kvwasi.commands import upkeep

EVERY_BYTE = bytes(range(256))


def test_put_get_delete(kv) -> None:
    kv("put", "a.kv", "key", "value")
    assert kv("get", "a.kv", "key").stdout == b"value"
    kv("put", "a.kv", "key", "")
    assert kv("get", "a.kv", "key").stdout == b""
    kv("delete", "a.kv", "key")
    kv("get", "a.kv", "key", code=1)
    kv("delete", "a.kv", "key", code=1)


def test_values_are_bytes(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "stdin", "-", stdin=EVERY_BYTE)
    assert kv("get", "a.kv", "stdin").stdout == EVERY_BYTE
    (tmp_path / "in").write_bytes(EVERY_BYTE * 1000)  # above what lies inline in the log
    kv("put", "a.kv", "file", "--file", "in")
    kv("get", "a.kv", "file", "--file", "out")
    assert (tmp_path / "out").read_bytes() == EVERY_BYTE * 1000
    kv("put", "a.kv", b"raw\xff", b"\xfe")
    assert kv("get", "a.kv", b"raw\xff").stdout == b"\xfe"


@pytest.mark.parametrize(("form", "text"), [("hex", "00FF0a"), ("base64", "AP8K")])
def test_keys_in_hex_and_base64(kv, form: str, text: str) -> None:
    kv("put", "a.kv", "-k", form, text, "v")
    assert kv("get", "a.kv", "-k", "hex", "00ff0a").stdout == b"v"
    assert kv("list", "a.kv", "-k", form).stdout.lower() == text.lower().encode() + b"\n"
    kv("delete", "a.kv", "-k", form, text)
    assert kv("list", "a.kv").stdout == b""


def test_no_overwrite(kv) -> None:
    kv("put", "a.kv", "k", "first", "--no-overwrite")
    kv("put", "a.kv", "k", "second", "--no-overwrite", code=1)
    assert kv("get", "a.kv", "k").stdout == b"first"


def test_get_as_json(kv) -> None:
    kv("put", "a.kv", "k", "é")
    assert json.loads(kv("get", "a.kv", "k", "--json").stdout) == {"key": "k", "value": "é"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "a ab abc b ba"),
        (["--prefix", "ab"], "ab abc"),
        (["--start", "ab"], "ab abc b ba"),
        (["--stop", "b"], "a ab abc"),
        (["--start", "ab", "--stop", "b", "--reverse"], "abc ab"),
        (["--limit", "2"], "a ab"),
        (["-r", "-n", "2"], "ba b"),
        (["--limit", "0"], ""),
        (["--prefix", "61", "--key-format", "hex"], "61 6162 616263"),
    ],
)
def test_list_ranges(kv, options: list[str], expected: str) -> None:
    keys = ["b", "ab", "a", "ba", "abc"]
    lines = [json.dumps({"key": key, "value": key.upper()}) + "\n" for key in keys]
    kv("load", "a.kv", stdin="".join(lines).encode())
    assert kv("list", "a.kv", *options).stdout.decode().split() == expected.split()


def test_list_values(kv) -> None:
    kv("put", "a.kv", "k", "-", stdin=b"\xff")
    assert kv("list", "a.kv", "--values").stdout == b"k\t\xff\n"
    assert kv("list", "a.kv", "--values", "--value-format", "base64").stdout == b"k\t/w==\n"
    assert json.loads(kv("list", "a.kv", "--json").stdout) == {"key": "k"}
    assert json.loads(kv("list", "a.kv", "--json", "--values").stdout) == {"key": "k", "value_base64": "/w=="}


def test_stats(kv) -> None:
    kv("put", "a.kv", "k", "v")
    facts = json.loads(kv("stats", "a.kv", "--json").stdout)
    assert facts["keys"] == 1
    lines = {
        line.split()[0]: line.split(None, 2)[1:] for line in kv("stats", "a.kv").stdout.decode().splitlines()
    }
    assert lines["keys"][0] == "1"
    assert lines.keys() == facts.keys()
    assert lines["pinned_bytes"][1] == "(held for old snapshots, checkpoints and readers only)"
    assert upkeep._STATS_WORDS.keys() <= facts.keys()


def test_incr(kv) -> None:
    assert kv("incr", "a.kv", "n").stdout == b"1\n"
    assert kv("incr", "a.kv", "n", "--by", "-5").stdout == b"-4\n"
    assert kv("incr", "a.kv", "m", "--by", "2", "--default", "40", "-t", "t").stdout == b"42\n"
    assert kv("get", "a.kv", "n").stdout == b"-4"
    kv("put", "a.kv", "word", "x")
    assert b"no whole number" in kv("incr", "a.kv", "word", code=3).stderr
    assert b"64 bits" in kv("incr", "a.kv", "n", "--by", str(1 << 70), code=3).stderr


def test_tables(kv) -> None:
    kv("put", "a.kv", "k", "plain")
    kv("put", "a.kv", "k", "of users", "--table", "users")
    kv("put", "a.kv", "--table", b"raw\xff", "--no-overwrite", "k", "raw")
    kv("put", "a.kv", "--table", "users", "--no-overwrite", "k", "again", code=1)
    assert kv("get", "a.kv", "k").stdout == b"plain"
    assert kv("get", "a.kv", "-t", "users", "k").stdout == b"of users"
    assert kv("get", "a.kv", "-t", b"raw\xff", "k").stdout == b"raw"
    assert kv("list", "a.kv", "-t", "users", "--values").stdout == b"k\tof users\n"
    assert kv("tables", "a.kv").stdout == b"raw\xff\nusers\n"
    lines = kv("tables", "a.kv", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"table_base64": "cmF3/w==", "keys": 1},
        {"table": "users", "keys": 1},
    ]
    kv("delete", "a.kv", "-t", "users", "k")
    kv("delete", "a.kv", "-t", "users", "k", code=1)
    assert kv("list", "a.kv", "-t", "users").stdout == b""
    kv("drop-table", "a.kv", "users")
    assert kv("tables", "a.kv").stdout == b"raw\xff\n"
    for command in (["get", "a.kv", "k"], ["delete", "a.kv", "k"], ["list", "a.kv"], ["dump", "a.kv"]):
        assert b"no table 'users'" in kv(*command, "-t", "users", code=1).stderr
    assert b"no table 'users'" in kv("drop-table", "a.kv", "users", code=1).stderr


def test_check(kv) -> None:
    kv("put", "a.kv", "k", "v")
    assert kv("check", "a.kv").stdout == b""
    assert json.loads(kv("check", "a.kv", "--json").stdout) == {"ok": True, "problems": []}


def test_check_finds_a_damaged_value(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "sought after")
    path = tmp_path / "a.kv"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"sought", b"sOught"))
    assert path.read_bytes() != data
    kv("check", "a.kv", code=3)
    kv("get", "a.kv", "k", code=3)


def test_backup(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    kv("put", "a.kv", "-t", "t", "k", "v")
    facts = json.loads(kv("backup", "a.kv", "b.kv", "--json").stdout)
    size = (tmp_path / "b.kv").stat().st_size
    assert facts == {"keys": 2, "tables": 1, "file_bytes": size, "deleted": 0}
    assert kv("dump", "b.kv").stdout == kv("dump", "a.kv").stdout
    assert b"b.kv: there is a file already" in kv("backup", "a.kv", "b.kv", code=1).stderr
    kv("delete", "a.kv", "k")
    kv("backup", "a.kv", "b.kv", "--overwrite")
    assert kv("dump", "b.kv").stdout == kv("dump", "a.kv").stdout
    kv("backup", "a.kv", "absent/b.kv", code=1)
    kv("backup", "absent.kv", "c.kv", code=1)


def test_backup_since_another_and_restore(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    kv("put", "a.kv", "old", "v")
    kv("backup", "a.kv", "monday.kv")
    kv("put", "a.kv", "-t", "t", "k", "v")
    kv("delete", "a.kv", "old")
    written = kv("backup", "a.kv", "tuesday.kv", "--since", "monday.kv").stderr
    assert b", deleted: 1, tables: 1, bytes: " in written
    assert json.loads(kv("restore", "tuesday.kv", "b.kv", "--json").stdout)["keys"] == 2
    assert kv("dump", "b.kv").stdout == kv("dump", "a.kv").stdout
    kv("restore", "tuesday.kv", "b.kv", code=1)
    kv("restore", "tuesday.kv", "b.kv", "--overwrite")
    assert b"a.kv is no backup" in kv("restore", "a.kv", "c.kv", code=3).stderr
    assert b"a.kv is no backup" in kv("backup", "a.kv", "c.kv", "--since", "a.kv", code=3).stderr
    (tmp_path / "monday.kv").unlink()
    assert b"which is not there" in kv("restore", "tuesday.kv", "c.kv", code=3).stderr


def test_compact_gives_space_back(kv, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3 << 20))
    kv("put", "a.kv", "big", "--file", "big")
    kv("put", "a.kv", "small", "v")
    kv("delete", "a.kv", "big")
    facts = json.loads(kv("compact", "a.kv", "--json").stdout)
    assert facts["file_bytes"] == (tmp_path / "a.kv").stat().st_size
    assert facts["file_bytes"] < facts["file_bytes_before"] - (2 << 20)
    assert kv("list", "a.kv").stdout == b"small\n"


def test_repair(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "key", "value")
    assert b"1 records salvaged" in kv("repair", "a.kv", "b.kv").stdout
    assert kv("get", "b.kv", "key").stdout == b"value"
    data = bytearray((tmp_path / "a.kv").read_bytes())
    data[data.index(b"keyvalue") + 3] ^= 1
    (tmp_path / "a.kv").write_bytes(data)
    assert json.loads(kv("repair", "a.kv", "c.kv", "--json", code=3).stdout)["lost"] is True
    assert kv("list", "c.kv").stdout == b""
    kv("repair", "a.kv", "c.kv", code=1)
