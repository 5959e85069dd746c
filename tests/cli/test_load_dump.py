"""What dump writes, load reads: through both formats, from files, pipes and directories."""

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

AWKWARD = {b"plain": b"text", b"empty": b"", b"\xff\x00key": bytes(range(256)), "é\n\\".encode(): b"\\5c\t\n"}


def as_json_lines(entries: dict[bytes, bytes]) -> bytes:
    from kvwasi.formats import jsonl

    return b"".join(map(jsonl.encode_line, entries.items()))


@pytest.mark.parametrize("form", ["jsonl", "mdb", "mdb-print"])
def test_round_trip(kv, form: str, tmp_path: Path) -> None:
    kv("load", "a.kv", stdin=as_json_lines(AWKWARD))
    kv("dump", "a.kv", "--format", form, "-o", "dumped")
    assert kv("dump", "a.kv", "--format", form).stdout == (tmp_path / "dumped").read_bytes()
    kv("load", "b.kv", "dumped")
    copied = kv("dump", "b.kv").stdout
    assert copied == as_json_lines(dict(sorted(AWKWARD.items())))


@pytest.mark.parametrize("form", ["jsonl", "mdb", "mdb-print"])
def test_tables_are_kept(kv, form: str) -> None:
    kv("load", "a.kv", stdin=as_json_lines(AWKWARD))
    kv("load", "a.kv", "--table", "t", stdin=as_json_lines({b"only": b"in t"}))
    kv("load", "a.kv", "--table", b"raw\xff", stdin=as_json_lines(AWKWARD))
    kv("load", "a.kv", "--table", "empty", stdin=as_json_lines({b"k": b"v"}))
    kv("delete", "a.kv", "--table", "empty", "k")
    whole = kv("dump", "a.kv").stdout
    for batch in ("1", "10000", "0"):
        kv("load", f"{batch}.kv", "--batch", batch, stdin=kv("dump", "a.kv", "--format", form).stdout)
        assert kv("dump", f"{batch}.kv").stdout == whole
    assert kv("tables", "0.kv").stdout == b"empty\nraw\xff\nt\n"
    one = kv("dump", "a.kv", "--table", "t", "--format", form).stdout
    assert kv("load", "c.kv", "--table", "other", stdin=one).stderr == b"1 entry loaded\n"
    assert kv("tables", "c.kv").stdout == b"other\n"
    assert kv("get", "c.kv", "--table", "other", "only").stdout == b"in t"


def test_lines_say_which_table(kv) -> None:
    lines = b'{"table": "made"}\n{"key": "k", "value": "1"}\n{"value": "2", "key": "k", "table": "t"}\n'
    kv("load", "a.kv", "-t", "rest", stdin=lines)
    assert kv("tables", "a.kv").stdout == b"made\nrest\nt\n"
    assert (kv("get", "a.kv", "-t", "rest", "k").stdout, kv("get", "a.kv", "-t", "t", "k").stdout) == (
        b"1",
        b"2",
    )
    assert kv("list", "a.kv").stdout == b""


def test_dump_and_load_of_nothing(kv) -> None:
    kv("load", "a.kv", stdin=b"")
    assert kv("dump", "a.kv").stdout == b""
    kv("load", "b.kv", stdin=kv("dump", "a.kv", "--format", "mdb").stdout)
    assert kv("list", "b.kv").stdout == b""


@pytest.mark.skipif(not shutil.which("mdb_load"), reason="LMDB's mdb_load is absent")
@pytest.mark.parametrize("form", ["mdb", "mdb-print"])
def test_mdb_load_takes_a_dump(kv, form: str, tmp_path: Path) -> None:
    import lmdb

    kv("load", "a.kv", stdin=as_json_lines(AWKWARD))
    kv("dump", "a.kv", "--format", form, "-o", "dumped")
    subprocess.run(["mdb_load", "-n", "-f", "dumped", "lmdb"], check=True, cwd=tmp_path)
    path = str(tmp_path / "lmdb")
    with lmdb.open(path, subdir=False, readonly=True) as environment, environment.begin() as transaction:
        assert dict(transaction.cursor()) == AWKWARD


def test_directory_tree(kv, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_bytes(b"\x00A")
    (tmp_path / "tree" / "sub" / "b").write_bytes(b"B")
    (tmp_path / "tree" / "link").symlink_to("a")
    result = kv("load", "tree/own.kv", "tree", "--json")
    assert json.loads(result.stdout) == {"entries": 2, "skipped": 1}
    kv("load", "tree/own.kv", "tree")  # the database itself stays out
    assert kv("list", "tree/own.kv").stdout == b"a\nsub/b\n"
    assert kv("get", "tree/own.kv", "a").stdout == b"\x00A"


def test_an_error_names_the_line_and_what_is_kept(kv) -> None:
    lines = as_json_lines({b"%d" % number: b"v" for number in range(10)}) + b"{}\n"
    result = kv("load", "a.kv", "--batch", "4", stdin=lines, code=3)
    assert b'standard input: line 11: "key" is missing; 8 entries before it are loaded' in result.stderr
    assert kv("list", "a.kv").stdout.split() == [b"%d" % number for number in range(8)]


def test_all_or_nothing(kv) -> None:
    kv("put", "a.kv", "old", "v")
    lines = as_json_lines({b"%d" % number: b"v" for number in range(10)})
    result = kv("load", "a.kv", "--batch", "0", stdin=lines + b"{}\n", code=3)
    assert b"nothing is loaded" in result.stderr
    assert kv("list", "a.kv").stdout == b"old\n"
    kv("load", "a.kv", "--batch", "0", stdin=lines)
    assert len(kv("list", "a.kv").stdout.split()) == 11


def test_a_key_that_is_too_long_is_an_error_of_the_data(kv) -> None:
    kv("load", "a.kv", stdin=as_json_lines({b"k" * 1025: b""}), code=3)
    kv("load", "a.kv", stdin=as_json_lines({b"": b""}), code=3)
    kv("load", "a.kv", stdin=as_json_lines({b"k" * 1024: b""}))


def test_a_wrong_source_makes_no_database(kv, tmp_path: Path) -> None:
    kv("load", "a.kv", "absent", code=1)
    assert not (tmp_path / "a.kv").exists()


def test_a_progress_bar_on_a_terminal_only(kv, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(as_json_lines({b"%d" % number: b"v" for number in range(100)}))
    assert kv("load", "a.kv", "in", "--batch", "10").stderr == b"100 entries loaded\n"
    ours, theirs = pty.openpty()
    kv("load", "a.kv", "in", "--batch", "10", stderr=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"100 entries" in shown
    assert b"100%" in shown
