"""What load cannot put, it says with the file and the line; what it puts is never in pieces."""

import json
from pathlib import Path

import lmdb
import pytest

import kvwasi

AHEAD = b"".join(b'{"key": "%05d", "value": ""}\n' % number for number in range(30))


def as_line(key: str | None, value: str = "", table: str | None = None) -> bytes:
    members = {"table": table, "key": key, "value": value if key is not None else None}
    found = {name: member for name, member in members.items() if member is not None}
    return json.dumps(found).encode() + b"\n"


def make(path: Path, kind: str, number: int) -> None:
    with kvwasi.open(path) as store:
        if kind == "series":
            store.series("s").append_many([number * 1.5 for _ in range(50)], list(range(number, number + 50)))
        else:
            store.table("s", expires=True).put("k", str(number), ttl=1000 * number if kind == "due" else None)


@pytest.mark.parametrize("source", ["a.jsonl", "-"])
@pytest.mark.parametrize("batch", ["0", "4", "10000"])
@pytest.mark.parametrize("kind", ["series", "due", "expires"])
def test_series_and_tables_that_expire_are_not_merged(
    kv, tmp_path: Path, kind: str, batch: str, source: str
) -> None:
    make(tmp_path / "a.kv", kind, 1)
    make(tmp_path / "b.kv", kind, 2)
    before = kv("dump", "b.kv").stdout
    dumped = AHEAD + kv("dump", "a.kv").stdout
    (tmp_path / "a.jsonl").write_bytes(dumped)
    told = kv("load", "b.kv", source, "--batch", batch, stdin=dumped, code=3).stderr
    file = b"standard input" if source == "-" else b"a.jsonl"
    what = b"series" if kind == "series" else b"expiring table"
    start = b"kvwasi: %b: line 31: the %b 's' is there already: load into a database without it; " % (
        file,
        what,
    )
    assert told.startswith(start)
    if source == "-" and batch == "4":  # a pipe is read once
        assert told == start + b"28 entries before it are loaded\n"
    else:
        assert told == start + b"nothing is loaded\n"
        assert kv("dump", "b.kv").stdout == before


def test_an_empty_one_may_be_there(kv, tmp_path: Path) -> None:
    make(tmp_path / "a.kv", "series", 1)
    make(tmp_path / "a.kv", "due", 1)
    with kvwasi.open(tmp_path / "b.kv") as store:
        store.series("s").append(7, 1)
        store.series("s").clean()
        store.table("s", expires=True).put("k", "v", ttl=1e-9)
        assert store.table("s", expires=True).collect() == 1
        store.series("other").append(7, 1)
    whole = kv("dump", "a.kv").stdout
    kv("load", "b.kv", "--batch", "1", stdin=whole)
    with kvwasi.open(tmp_path / "b.kv") as store:
        assert list(store.series("s")) == [(time, 1.5) for time in range(1, 51)]
        assert dict(store.table("s", expires=True)) == {b"k": b"1"}
        assert list(store.series("other")) == [(1, 7)]


def test_one_of_another_name_may_be_there(kv, tmp_path: Path) -> None:
    make(tmp_path / "a.kv", "series", 1)
    make(tmp_path / "b.kv", "due", 1)
    kv("load", "b.kv", stdin=kv("dump", "a.kv").stdout)
    with kvwasi.open(tmp_path / "b.kv") as store:
        assert (len(store.series("s")), len(store.table("s", expires=True))) == (50, 1)


def test_duplicates_are_merged(kv, tmp_path: Path) -> None:
    for name, value in (("a.kv", "1"), ("b.kv", "2")):
        with kvwasi.open(tmp_path / name) as store:
            store.table("t", dupsort=True).put("k", value)
            store.table("t", dupsort=True).put("k\0", value)
    kv("load", "b.kv", stdin=kv("dump", "a.kv").stdout)
    with kvwasi.open(tmp_path / "b.kv") as store:
        pairs = list(store.table("t", dupsort=True).items())
    assert pairs == [(b"k", b"1"), (b"k", b"2"), (b"k\0", b"1"), (b"k\0", b"2")]


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1)])
def test_the_newer_defaults_have_been_applied(kv, tmp_path: Path, ours: int, theirs: int) -> None:
    for name, version in (("a.kv", theirs), ("b.kv", ours)):
        with kvwasi.open(tmp_path / name, defaults={f"k{version}": "v"}, defaults_version=version):
            pass
    kv("load", "b.kv", stdin=kv("dump", "a.kv").stdout)
    with kvwasi.open(tmp_path / "b.kv", defaults={"k3": ""}, defaults_version=2) as store:
        assert dict(store) == {b"k1": b"v", b"k2": b"v"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (as_line("k", "v", "\0x"), b"names of tables that begin with NUL are reserved: '\\x00x'"),
        (as_line(None, table="\0x\0y"), b"names of tables that begin with NUL are reserved"),
        (as_line("k", "v", "\0backup\0"), b"names of tables that begin with NUL are reserved"),
        (as_line("k", "v", "\0series"), b"names of tables that begin with NUL are reserved"),
        (as_line("a", "", "\0dupsort\0t"), b"a key that is no pair"),
        (as_line("\0\0v", "", "\0dupsort\0t"), b"a key that is no pair"),
        (as_line("a\0b\0\0v", "", "\0dupsort\0t"), b"a key that is no pair"),
        (as_line("a\0\0b", "v", "\0dupsort\0t"), b"has pairs for its keys, and no values"),
        (as_line("version", "x", "\0defaults\0"), b"no version of defaults"),
        (as_line("other", "1", "\0defaults\0"), b"no version of defaults"),
        (as_line(""), b"a key has at least one byte"),
        (as_line("k" * 1025), b"a key has at most 1024 bytes"),
        (as_line("", "v", "t"), b"a key has at least one byte"),
        (as_line("k", "v", ""), b"the name of a table has at least one byte"),
        (as_line(None, table=""), b"the name of a table has at least one byte"),
        (as_line("k", "v", "t" * 1025), b"the name of the table is too long"),
    ],
)
def test_what_a_store_cannot_take(kv, tmp_path: Path, line: bytes, problem: bytes) -> None:
    (tmp_path / "in").write_bytes(AHEAD + line + AHEAD)
    told = kv("load", "a.kv", "in", "--batch", "7", code=3).stderr
    assert told.startswith(b"kvwasi: in: line 31: ")
    assert problem in told
    assert told.endswith(b"; 28 entries before it are loaded\n")
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert (len(store), store.tables(), store.tables(dupsort=True)) == (28, [], [])


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"VERSION=3\nHEADER=END\n 6b\n 76\n \n 76\nDATA=END\n", 5, b"a key has at least one byte"),
        (b"VERSION=3\nHEADER=END\n %b\n 76\nDATA=END\n" % (b"6b" * 1025), 3, b"at most 1024 bytes"),
        (b"VERSION=3\ndatabase=\ntype=btree\nHEADER=END\nDATA=END\n", 2, b"the name of a table has at least"),
        (b"VERSION=3\ndatabase=\0x\nHEADER=END\nDATA=END\n", 2, b"reserved"),
        (
            b"VERSION=3\ndatabase=t\ndupsort=1\nHEADER=END\n 6b\n %b\nDATA=END\n" % (b"76" * 1022),
            5,
            b"at most 1022 bytes together",
        ),
    ],
)
def test_the_text_of_mdb_dump_likewise(kv, text: bytes, line: int, problem: bytes) -> None:
    told = kv("load", "a.kv", stdin=text, code=3).stderr
    assert told.startswith(b"kvwasi: standard input: line %d: " % line)
    assert problem in told


def test_a_key_is_named_where_there_are_no_lines(kv, tmp_path: Path) -> None:
    deep = tmp_path / "tree" / "/".join(["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    told = kv("load", "a.kv", "tree", code=3).stderr
    assert told.startswith(b"kvwasi: tree: a key has at most 1024 bytes: 'ddd")
    assert told.endswith(b"/file'; nothing is loaded\n")


def test_another_order_of_keys_is_told(kv, tmp_path: Path) -> None:
    text = b"".join(
        b"VERSION=3\ndatabase=%b\n%bHEADER=END\n 6b\n 76\nDATA=END\n" % database
        for database in [
            (b"plain", b"integerkey=0\n"),
            (b"numbers", b"integerkey=1\n"),
            (b"ends", b"reversekey=1\n"),
            (b"several", b"dupsort=1\ndupfixed=1\nintegerdup=1\n"),
        ]
    )
    (tmp_path / "in").write_bytes(text + b"VERSION=3\nreversekey=1\nHEADER=END\nDATA=END\n")
    there = b"there; here they are ordered byte by byte\n"
    assert kv("load", "a.kv", "in").stderr.splitlines(keepends=True) == [
        b"in: keys of 'numbers' were ordered as integers " + there,
        b"in: keys of 'ends' were ordered backwards " + there,
        b"in: values of 'several' were ordered as integers " + there,
        b"in: keys of the main database were ordered backwards " + there,
        b"4 entries loaded\n",
    ]


def test_another_order_of_keys_in_lmdb_is_told(kv, tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "e"), max_dbs=4) as environment:
        environment.open_db(b"plain")
        environment.open_db(b"ends", reverse_key=True)
        numbers = environment.open_db(b"numbers", integerkey=True)
        with environment.begin(write=True, db=numbers) as transaction:
            for number in (1, 256):
                transaction.put(number.to_bytes(8, "little"), b"")
    there = b"there; here they are ordered byte by byte\n"
    told = kv("load", "a.kv", "lmdb:e", "--json")
    assert json.loads(told.stdout) == {"entries": 2, "skipped": 0}
    assert told.stderr.splitlines(keepends=True) == [
        b"lmdb:e: keys of 'ends' were ordered backwards " + there,
        b"lmdb:e: keys of 'numbers' were ordered as integers " + there,
    ]


@pytest.mark.parametrize("form", ["auto", "jsonl", "mdb"])
def test_a_database_is_no_source(kv, tmp_path: Path, form: str) -> None:
    kv("put", "a.kv", "k", "v")
    problem = b"is a kvwasi database: use backup, or dump and load\n"
    assert kv("load", "b.kv", "a.kv", "--format", form, code=3).stderr == b"kvwasi: a.kv " + problem
    piped = kv("load", "b.kv", stdin=(tmp_path / "a.kv").read_bytes(), code=3).stderr
    assert piped == b"kvwasi: standard input " + problem
    assert not (tmp_path / "b.kv").exists()


@pytest.mark.parametrize(
    ("source", "message", "code"),
    [
        ("lmdb:none", b"none: there is no such LMDB environment\n", 1),
        ("lmdb:directory", b"directory: there is no such LMDB environment\n", 1),
        ("lmdb:text", b"text: MDB_INVALID: ", 3),
        ("sqlite:none?table=t", b"none: there is no such SQLite database\n", 1),
        ("dbm:none", b"none: there is no database of dbm\n", 1),
        ("dbm:text", b"text: no known kind of dbm\n", 3),
        ("lmdb", b"lmdb: No such file or directory\n", 1),
        ("sqlite", b"sqlite: No such file or directory\n", 1),
    ],
)
def test_what_is_not_there(kv, tmp_path: Path, source: str, message: bytes, code: int) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "text").write_bytes(b"text" * 5000)
    assert kv("load", "a.kv", source, code=code).stderr.startswith(b"kvwasi: " + message)
    assert not (tmp_path / "a.kv").exists()


def test_what_is_damaged_further_on_is_no_bug(kv, tmp_path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("CREATE TABLE t (key, value)")
    connection.execute("INSERT INTO t VALUES ('a', '1'), (CAST(X'ff' AS TEXT), '2')")
    connection.commit()
    connection.close()
    assert b"s.db: Could not decode" in kv("load", "a.kv", "sqlite:s.db?table=t", code=3).stderr


def test_dump_of_one_table_says_what_it_writes(kv) -> None:
    kv("put", "a.kv", "-t", "t", "k", "v")
    assert kv("dump", "a.kv", "-t", "t").stdout == b'{"key": "k", "value": "v"}\n'
    assert b'with "table" in those of a table, but not with --table' in b" ".join(
        kv("dump", "--help").stdout.split()
    )


@pytest.mark.parametrize("key", [b"a", b"\0\0v", b"a\0b\0\0v"])
def test_what_lies_there_already_and_is_no_pair_is_damage(tmp_path: Path, key: bytes) -> None:
    from kvwasi.table import Table

    with kvwasi.open(tmp_path / "a.kv") as store:
        Table(store, b"\0dupsort\0t")[key] = b""
        with pytest.raises(kvwasi.CorruptionError, match="no pair"):
            list(store.table("t", dupsort=True).items())


def test_no_plain_table_is_made_beside_one_of_another_kind(kv) -> None:
    kv("put", "a.kv", "--table", "t", "--kind", "dupsort", "k", "v")
    refused = kv("load", "a.kv", "--table", "t", stdin=as_line("k", "w"), code=2).stderr
    assert b"the table t is of the kind dupsort" in refused
    assert kv("tables", "a.kv").stdout == b"t\tdupsort\n"
