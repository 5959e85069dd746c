"""Wrong input of many kinds: one line that says what is wrong, and the exit code that README gives for it."""

from pathlib import Path

import pytest

import kvwasi


def test_a_repair_that_cannot_be_made(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    (tmp_path / "there.kv").write_bytes(b"kept")
    assert b"there.kv: there is a file already" in kv("repair", "a.kv", "there.kv", code=1).stderr
    (tmp_path / "elsewhere").mkdir()
    assert b"the new file is to be made in" in kv("repair", "a.kv", "elsewhere/b.kv", code=2).stderr
    assert (tmp_path / "there.kv").read_bytes() == b"kept"
    kv("repair", "absent.kv", "b.kv", code=1)


def test_a_limit_beyond_all_numbers(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    for more, shown in ((), b"k\n"), (("--values",), b"k\tv\n"), (("--count",), b"1\n"):
        assert kv("list", "a.kv", *more, "-n", "9" * 30).stdout == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("watch", "a.kv", "--interval", "nan"), b"at most 86400 seconds"),
        (("watch", "a.kv", "--interval", "inf"), b"at most 86400 seconds"),
        (("torture", "there", "--seconds", "nan"), b"a number of seconds"),
        (("torture", "there", "--seconds", "inf"), b"a number of seconds"),
        (("crashtest", "--keep", "there"), b"--keep needs --reproduce"),
        (("bench", "--plot", "a.png"), b"a picture is an .svg file"),
        (("run", "a.kv", "--env", "=x"), b"the variable's name is missing"),
        (("run", "a.kv", "--env", ""), b"the variable's name is missing"),
        (("put", "a.kv", "k", "-5"), b"before an argument that begins with a dash comes --"),
    ],
)
def test_options_that_no_run_takes(kv, tmp_path: Path, arguments: tuple[str, ...], said: bytes) -> None:
    kv("put", "a.kv", "k", "v")
    assert said in kv(*arguments, code=2).stderr
    assert not (tmp_path / "there").exists() and not (tmp_path / "a.png").exists()


def test_what_is_not_there_or_is_something_else(kv, tmp_path: Path) -> None:
    for command in ("compact", "watch", "stats", "check", "get"):
        more = ("k",) if command == "get" else ()
        assert b"absent.kv: no such database" in kv(command, "absent.kv", *more, code=1).stderr
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "noise").write_bytes(bytes(range(128, 256)))
    for name in ("text", "noise"):
        assert b": no WebAssembly module, nor the text of one: " in kv("run", name, code=3).stderr
    kv("put", "a.kv", "k", "--", "-5")
    assert kv("get", "a.kv", "k").stdout == b"-5"


def test_no_table_is_hidden_by_one_that_expires(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v", "--table", "t")
    refused = kv("put", "a.kv", "k", "w", "--table", "t", "--ttl", "1h", code=2).stderr
    assert b"there is a table t of the kind plain; --kind expires makes another one" in refused
    assert kv("tables", "a.kv").stdout == b"t\n"
    kv("put", "a.kv", "k", "w", "--table", "t", "--ttl", "1h", "--kind", "expires")
    kv("put", "a.kv", "k", "x", "--table", "t", "--ttl", "2h", "--kind", "expires")
    with kvwasi.open(tmp_path / "a.kv") as store:
        assert store.table("t")["k"] == b"v" and store.table("t", expires=True)["k"] == b"x"
