"""Exit codes and the one line: whatever goes wrong, no traceback."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MANY = b"".join(b'{"key": "%06d", "value": "%s"}\n' % (number, b"v" * 100) for number in range(2000))

HOLD = "import kvwasi, sys; store = kvwasi.open(sys.argv[1]); print(flush=True); input()"


@pytest.fixture
def database(kv, tmp_path: Path) -> Path:
    kv("put", "a.kv", "k", "v")
    return tmp_path / "a.kv"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["put"],
        ["put", "a.kv"],
        ["put", "a.kv", "k"],
        ["put", "a.kv", "k", "v", "--file", "f"],
        ["put", "a.kv", "k", "v", "--nonsense"],
        ["put", "a.kv", "-k", "hex", "0", "v"],
        ["put", "a.kv", "-k", "base64", "a", "v"],
        ["get", "a.kv", "k", "-k", "octal"],
        ["list", "a.kv", "--limit", "-1"],
        ["load", "a.kv", "--batch", "x"],
        ["dump", "a.kv", "--format", "xml"],
        ["run"],
    ],
)
def test_usage(kv, arguments: list[str], tmp_path: Path) -> None:
    kv(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_print_the_help(command: str) -> None:
    result = subprocess.run([command], capture_output=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"Commands:" in result.stderr


@pytest.mark.parametrize("name", ["get k", "delete k", "list", "dump", "stats", "check", "compact"])
def test_a_missing_database(kv, name: str, tmp_path: Path) -> None:
    command, *rest = name.split()
    assert b"a.kv" in kv(command, "a.kv", *rest, code=1).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["get k", "put k v", "list", "load", "dump", "stats", "check", "compact"])
def test_what_is_no_database(kv, name: str, tmp_path: Path) -> None:
    command, *rest = name.split()
    (tmp_path / "text").write_bytes(b"this is no database\n" * 500)
    before = (tmp_path / "text").read_bytes()
    kv(command, "text", *rest, code=3)
    assert (tmp_path / "text").read_bytes() == before
    kv(command, ".", *rest, code=3)


def test_missing_and_unfit_files(kv, tmp_path: Path) -> None:
    assert b"absent: No such file" in kv("put", "a.kv", "k", "--file", "absent", code=1).stderr
    assert b"Is a directory" in kv("put", "a.kv", "k", "--file", ".", code=3).stderr
    assert not (tmp_path / "a.kv").exists()
    kv("put", "a.kv", "k", "v")
    assert b"Is a directory" in kv("get", "a.kv", "k", "--file", ".", code=3).stderr
    kv("put", "no/such/directory/a.kv", "k", "v", code=1)
    assert b"malformed" not in kv("load", "a.kv", "absent", code=1).stderr


def test_keys_beyond_the_limits(kv) -> None:
    kv("put", "a.kv", "", "v", code=3)
    kv("put", "a.kv", "k" * 1025, "v", code=3)


def test_permission_denied(kv, command: str, database: Path) -> None:
    database.chmod(0)
    prefix = []
    if os.geteuid() == 0:  # root may read everything: run without the capabilities that say so
        setpriv = shutil.which("setpriv") or pytest.skip("needs setpriv to test as root")
        prefix = [setpriv, "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    result = subprocess.run([*prefix, command, "get", database, "k"], capture_output=True, timeout=60)
    assert result.returncode == 3
    assert result.stderr == f"kvwasi: {database}: Permission denied\n".encode()


def test_locked_names_the_holder(kv, database: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=database.parent,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert str(holder.pid).encode() in kv("put", "a.kv", "k", "v", code=4).stderr
        assert str(holder.pid).encode() in kv("compact", "a.kv", code=4).stderr
        assert kv("get", "a.kv", "k").stdout == b"v"  # what only reads goes beside a writer
        assert kv("list", "a.kv").stdout != b""
        assert kv("dump", "a.kv").stdout != b""
        kv("check", "a.kv")
        kv("backup", "a.kv", "b.kv")
        assert kv("list", "a.kv", "--count").stdout == b"1\n"
        assert b'"keys": 1' in kv("stats", "a.kv", "--json").stdout
        holder.communicate(b"\n", timeout=60)
    kv("put", "a.kv", "k", "v")


def shell(command: str, script: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script, "bash", command], cwd=directory, capture_output=True, timeout=60
    )


def test_closed_streams(command: str, database: Path) -> None:
    result = shell(command, '"$1" put a.kv k - <&-', database.parent)
    assert (result.returncode, result.stderr) == (3, b"kvwasi: standard input is closed\n")
    result = shell(command, '"$1" get a.kv k >&-', database.parent)
    assert (result.returncode, result.stderr) == (3, b"kvwasi: standard output is closed\n")
    assert shell(command, '"$1" get a.kv absent 2>&-', database.parent).returncode == 1
    # with all three closed the database must not become one of them
    assert shell(command, '"$1" put a.kv k2 v2 <&- >&- 2>&-', database.parent).returncode == 0
    assert shell(command, '"$1" get a.kv k2', database.parent).stdout == b"v2"


@pytest.mark.parametrize("name", ["get a.kv k", "list a.kv", "dump a.kv", "stats a.kv --json"])
def test_a_full_disk_under_the_output(kv, command: str, name: str, database: Path) -> None:
    result = shell(command, f'"$1" {name} > /dev/full', database.parent)
    assert (result.returncode, result.stderr) == (3, b"kvwasi: standard output: No space left on device\n")
    kv("load", "a.kv", stdin=MANY)  # more than a buffer holds
    if not name.startswith("stats"):
        result = shell(command, f'"$1" {name} > /dev/full', database.parent)
        assert (result.returncode, result.stderr) == (
            3,
            b"kvwasi: standard output: No space left on device\n",
        )
    assert b"/dev/full: No space left" in kv("dump", "a.kv", "-o", "/dev/full", code=3).stderr
    assert b"/dev/full: No space left" in kv("get", "a.kv", "k", "-f", "/dev/full", code=3).stderr


def test_the_output_is_not_the_database(kv, database: Path) -> None:
    before = database.read_bytes()
    database.with_name("link").symlink_to("a.kv")
    for name in ("a.kv", "link"):
        assert b"the database itself" in kv("dump", "a.kv", "-o", name, code=2).stderr
        assert b"the database itself" in kv("get", "a.kv", "k", "-f", name, code=2).stderr
    assert database.read_bytes() == before


def test_a_reader_that_goes_away(kv, command: str, database: Path) -> None:
    kv("load", "a.kv", stdin=MANY)
    result = shell(command, '"$1" dump a.kv | head -n 1; exit ${PIPESTATUS[0]}', database.parent)
    assert result.returncode == 128 + signal.SIGPIPE
    assert result.stderr == b""
    assert result.stdout.count(b"\n") == 1


def test_interrupted(command: str, database: Path) -> None:
    process = subprocess.Popen(
        [command, "load", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background job ignores it
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(MANY)  # more than a pipe holds: once this is written the command is reading
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    result = subprocess.run([command, "check", str(database)], capture_output=True, timeout=60)
    assert result.returncode == 0
