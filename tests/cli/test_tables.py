"""Tables on the command line: plain ones, those with several values a key, those whose entries expire."""

import json
import time
from pathlib import Path

import pytest

import kvwasi


@pytest.fixture
def filled(kv, tmp_path: Path) -> Path:
    """A database with a table of each kind."""
    path = tmp_path / "a.kv"
    with kvwasi.open(path) as store:
        store.table("plain")["x"] = "y"
        store.table("tags", dupsort=True).put_many([("photo", "sea"), ("photo", "blue"), ("song", "blue")])
        store.table("sessions", expires=True).put("ada", "token", ttl=3600)
    return path


def test_all_tables_are_named(kv, filled: Path) -> None:
    assert kv("tables", "a.kv").stdout == b"plain\nsessions\texpires\ntags\tdupsort\n"
    told = [json.loads(line) for line in kv("tables", "a.kv", "--json").stdout.splitlines()]
    assert told == [
        {"table": "plain", "keys": 1},
        {"table": "sessions", "kind": "expires", "entries": 1},
        {"table": "tags", "kind": "dupsort", "entries": 3},
    ]


def test_several_values_a_key(kv, filled: Path) -> None:
    tags = ("--table", "tags")
    assert kv("get", "a.kv", *tags, "photo").stdout == b"blue"
    assert kv("get", "a.kv", *tags, "photo", "--all").stdout == b"blue\nsea\n"
    kv("put", "a.kv", *tags, "photo", "zoo")
    kv("put", "a.kv", *tags, "photo", "apes", "--no-overwrite", code=1)
    assert kv("list", "a.kv", *tags).stdout == b"photo\nsong\n"
    assert (
        kv("list", "a.kv", *tags, "--values", "-r").stdout
        == b"song\tblue\nphoto\tzoo\nphoto\tsea\nphoto\tblue\n"
    )
    assert kv("list", "a.kv", *tags, "--count").stdout == b"2\n"
    assert kv("list", "a.kv", *tags, "--count", "--values", "--prefix", "ph").stdout == b"3\n"
    assert kv("list", "a.kv", *tags, "--count", "--values", "-n", "2").stdout == b"2\n"
    kv("delete", "a.kv", *tags, "photo", "--value", "sea")
    kv("delete", "a.kv", *tags, "photo", "--value", "sea", code=1)
    lines = kv("get", "a.kv", *tags, "photo", "--all", "--json").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["blue", "zoo"]
    kv("delete", "a.kv", *tags, "photo")
    kv("get", "a.kv", *tags, "photo", code=1)


def test_entries_that_expire(kv, filled: Path) -> None:
    sessions = ("--table", "sessions")
    assert kv("get", "a.kv", *sessions, "ada").stdout == b"token"
    kv("put", "a.kv", *sessions, "root", "key")
    kv("put", "a.kv", *sessions, "eve", "soon gone", "--ttl", "50ms")
    kv("put", "a.kv", *sessions, "ada", "new", "--expect", "token", "--ttl", "1h")
    kv("put", "a.kv", *sessions, "ada", "newer", "--no-overwrite", code=1)
    time.sleep(0.1)
    kv("get", "a.kv", *sessions, "eve", code=1)
    assert kv("list", "a.kv", *sessions, "--values").stdout == b"ada\tnew\nroot\tkey\n"
    with kvwasi.open(filled, "r") as store:
        table = store.table("sessions", expires=True)
        assert table.ttl("root") is None
        assert 3000 < (table.ttl("ada") or 0) <= 3600
    kv("delete", "a.kv", *sessions, "root")
    assert kv("list", "a.kv", *sessions, "--count").stdout == b"1\n"


def test_a_kind_is_made_and_dropped(kv, filled: Path) -> None:
    kv("put", "a.kv", "--table", "words", "--kind", "dupsort", "a", "1")
    kv("put", "a.kv", "--table", "words", "a", "2")  # what there is of that name
    assert kv("get", "a.kv", "--table", "words", "a", "--all").stdout == b"1\n2\n"
    kv("put", "a.kv", "--table", "words", "--kind", "plain", "a", "3")  # each kind has names of its own
    assert kv("get", "a.kv", "--table", "words", "a").stdout == b"3"
    kv("drop-table", "a.kv", "words", "--kind", "dupsort")
    assert kv("tables", "a.kv").stdout == b"plain\nsessions\texpires\ntags\tdupsort\nwords\n"
    for name in ("words", "tags", "sessions", "plain"):
        kv("drop-table", "a.kv", name)
    kv("drop-table", "a.kv", "tags", code=1)
    assert kv("tables", "a.kv").stdout == b""


def test_names_that_only_a_plain_table_can_have(kv, filled: Path) -> None:
    name = "n" * 1023
    kv("get", "a.kv", "--table", name, "k", code=1)
    kv("put", "a.kv", "--table", name, "k", "v")
    assert kv("get", "a.kv", "--table", name, "k").stdout == b"v"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("put", "k", "v", "--ttl", "1h"), "--ttl needs a --table"),
        (("put", "k", "v", "--table", "t", "--kind", "dupsort", "--ttl", "1h"), "--ttl needs a --table"),
        (("put", "k", "v", "--table", "t", "--ttl", "0s"), "expired at once"),
        (("put", "k", "v", "--table", "t", "--ttl", "soon"), "soon"),
        (("put", "k", "v", "--table", "t", "--ttl", "99999999999999d"), "is too long"),
        (("put", "k", "v", "--kind", "plain"), "--kind is that of a --table"),
        (("put", "photo", "v", "--table", "tags", "--expect", "sea"), "several values"),
        (("delete", "x", "--table", "plain", "--value", "y"), "several values"),
        (("incr", "n", "--table", "tags"), "kind dupsort"),
        (("dump", "--table", "sessions"), "kind expires"),
    ],
)
def test_what_does_not_go_together(kv, filled: Path, arguments: tuple[str, ...], told: str) -> None:
    command, *rest = arguments
    done = kv(command, "a.kv", *rest, code=2)
    assert told in done.stderr.decode()
    assert b"\n" not in done.stderr.rstrip(b"\n")
