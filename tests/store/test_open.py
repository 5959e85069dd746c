"""Opening: flags, arguments, what may lie at the path, the lock between processes."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import kvwasi
from kvwasi import opening


def test_flags(path: Path) -> None:
    for flag in ("r", "w"):
        with pytest.raises(kvwasi.NoSuchDatabaseError) as caught:
            kvwasi.open(path, flag)  # type: ignore[arg-type]
        assert isinstance(caught.value, FileNotFoundError)
        assert list(path.parent.iterdir()) == []  # not even a lock is left
    with kvwasi.open(path, "c") as store:
        store["k"] = "1"
    with kvwasi.open(path, "w") as store:
        store["k"] += b"2"
    with kvwasi.open(path, "c") as store:
        assert dict(store) == {b"k": b"12"}
    with kvwasi.open(path, "n") as store:
        assert len(store) == 0
        store["n"] = "1"
    with kvwasi.open(path) as store:
        assert dict(store) == {b"n": b"1"}


def test_read_only(path: Path) -> None:
    with kvwasi.open(path) as store:
        store["k"] = "1"
    before = path.read_bytes()
    with kvwasi.open(path, "r") as store:
        assert store.read_only
        assert "read-only" in repr(store)
        assert dict(store) == {b"k": b"1"}
        for call in (
            lambda: store.put("k", "2"),
            lambda: store.put("k", bytes(100_000)),
            lambda: store.delete("k"),
            lambda: store.put_many([("a", "b")]),
            lambda: store.pop("k"),
            store.clear,
            store.transaction,
            store.compact,
        ):
            with pytest.raises(kvwasi.ReadOnlyError):
                call()
        store.sync()
        assert store.check() == []
        assert store.stats().keys == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"flag": "x"},
        {"flag": "rw"},
        {"flag": ""},
        {"sync": "always"},
        {"interval_ms": 0},
        {"interval_ms": 10**9},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"sector_bytes": 1000},
        {"sector_bytes": 128 << 10},
        {"sector_bytes": 128 << 20},
        {"sector_bytes": -1},
    ],
)
def test_arguments_are_checked(path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        kvwasi.open(path, **arguments)  # type: ignore[arg-type]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("sector_bytes", [256 << 10, 1 << 20, 4 << 20])
def test_sector_bytes(path: Path, sector_bytes: int) -> None:
    with kvwasi.open(path, sector_bytes=sector_bytes) as store:
        store["k"] = "v"
        assert store.stats().sector_bytes == sector_bytes
    with kvwasi.open(path, sector_bytes=0) as store:  # counts only when the database is made
        assert store.stats().sector_bytes == sector_bytes


@pytest.mark.parametrize("name", ["with space.kv", "ünïcode☃.kv", ".hidden", "a" * 200])
def test_names(tmp_path: Path, name: str) -> None:
    given = os.fsencode(tmp_path / name)
    for _ in range(2):
        with kvwasi.open(given) as store:
            store["k"] = "v"
            store.compact()
    assert os.path.exists(given)
    with kvwasi.open(tmp_path / name, "r") as store:
        assert store["k"] == b"v"


@pytest.mark.parametrize("name", [b"not\xffutf8.kv", b"a" * 254])
def test_impossible_names(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(kvwasi.StorageError):  # WASI's paths are UTF-8; and the lock's name is longer
        kvwasi.open(os.path.join(os.fsencode(tmp_path), name))
    assert [entry for entry in os.listdir(tmp_path) if not entry.endswith("-lock")] == []


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with kvwasi.open("my.kv") as store:
        store["k"] = "v"
        monkeypatch.chdir("/")
        store["l"] = "w"
        assert store.path == str(tmp_path / "my.kv")
    assert (tmp_path / "my.kv").is_file()


def test_a_symbolic_link_is_followed(tmp_path: Path, path: Path) -> None:
    with kvwasi.open(path) as store:
        store["k"] = "v"
    link = tmp_path / "elsewhere" / "link.kv"
    link.parent.mkdir()
    link.symlink_to(path)
    with kvwasi.open(link) as store:
        assert store["k"] == b"v"
        with pytest.raises(kvwasi.DatabaseLockedError, match="this process"):
            kvwasi.open(path)
    assert sorted(os.listdir(link.parent)) == ["link.kv"]


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device", "dangling", "loop"])
def test_special_files(tmp_path: Path, kind: str, flag: str) -> None:
    path = tmp_path / "special"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.symlink_to(path)
    with pytest.raises(kvwasi.KvError) as caught:
        kvwasi.open(path, flag)  # type: ignore[arg-type]
    assert isinstance(caught.value, kvwasi.NotADatabaseError | kvwasi.StorageError)
    assert str(path) in str(caught.value)
    assert not os.path.exists(f"{path}-lock")
    assert not (tmp_path / "nowhere").exists()


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(kvwasi.NoSuchDatabaseError, match="no such directory"):
        kvwasi.open(tmp_path / "nowhere" / "my.kv")
    (tmp_path / "file").touch()
    with pytest.raises(kvwasi.KvError):
        kvwasi.open(tmp_path / "file" / "my.kv")


@pytest.mark.parametrize("content", [b"x", b"\0" * 100_000, b"SQLite format 3\0" + bytes(5000), b"kvwasi"])
@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_foreign_files_are_left_alone(path: Path, content: bytes, flag: str) -> None:
    path.write_bytes(content)
    with pytest.raises((kvwasi.NotADatabaseError, kvwasi.CorruptionError)):
        kvwasi.open(path, flag)  # type: ignore[arg-type]
    assert path.read_bytes() == content


def test_n_replaces_a_foreign_file(path: Path) -> None:
    path.write_bytes(b"foreign")
    with kvwasi.open(path, "n") as store:
        store["k"] = "v"
    with kvwasi.open(path, "r") as store:
        assert store["k"] == b"v"


def test_locked_in_this_process(path: Path) -> None:
    with kvwasi.open(path) as store:
        store["k"] = "v"
        hard_link = path.with_name("hard.kv")
        os.link(path, hard_link)
        for place in (path, path.parent / "." / "my.kv", hard_link):
            for flag in ("w", "c", "n"):
                with pytest.raises(kvwasi.DatabaseLockedError) as caught:
                    kvwasi.open(place, flag)  # type: ignore[arg-type]
                assert caught.value.pids == (os.getpid(),)
                assert "this process" in str(caught.value)
        store.compact()  # another file now
        with pytest.raises(kvwasi.DatabaseLockedError):
            kvwasi.open(path)
        assert store["k"] == b"v"


def test_readers_share(path: Path) -> None:
    kvwasi.open(path).close()
    with kvwasi.open(path, "r") as one, kvwasi.open(path, "r") as two:
        assert len(one) == len(two) == 0
        with kvwasi.open(path) as store, kvwasi.open(path, "r") as three:
            store["k"] = "v"
            assert len(one) == len(two) == len(three) == 0
    kvwasi.open(path).close()


_HOLD = """
import sys, kvwasi
store = kvwasi.open(sys.argv[1], sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("theirs", "ours"), [("c", "c"), ("c", "w"), ("w", "n"), ("n", "n")])
def test_locked_by_another_process(path: Path, theirs: str, ours: str) -> None:
    kvwasi.open(path).close()
    command = [sys.executable, "-c", _HOLD, str(path), theirs]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(kvwasi.DatabaseLockedError) as caught:
            kvwasi.open(path, ours)  # type: ignore[arg-type]
        assert caught.value.pids == (holder.pid,)
        assert f"process {holder.pid}" in str(caught.value)
        assert caught.value.path == str(path)
        holder.kill()
        holder.wait(30)
        with kvwasi.open(path, ours) as store:  # type: ignore[arg-type]
            assert len(store) == 0
    assert stat.S_ISREG(Path(f"{path}-lock").stat().st_mode)


_HOLD_ALONE = """
import fcntl, os, sys
file = os.open(sys.argv[1] + "-lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ours", ["r", "w"])
def test_a_program_that_knows_no_readers_beside_a_writer(path: Path, ours: str) -> None:
    """An earlier version, or the C library, that writes: it is alone."""
    kvwasi.open(path).close()
    command = [sys.executable, "-c", _HOLD_ALONE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(kvwasi.DatabaseLockedError) as caught:
            kvwasi.open(path, ours)  # type: ignore[arg-type]
        assert caught.value.pids == (holder.pid,)
        holder.kill()
    with kvwasi.open(path, ours) as store:  # type: ignore[arg-type]
        with Path(f"{path}-lock").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert len(store) == 0


def test_a_database_that_is_repaired_is_not_written(path: Path) -> None:
    kvwasi.open(path).close()
    lock = opening.acquire(path, "r", still=True)
    with pytest.raises(kvwasi.DatabaseLockedError, match="this process"):
        kvwasi.open(path)
    kvwasi.open(path, "r").close()
    lock.release()
    with kvwasi.open(path), pytest.raises(kvwasi.DatabaseLockedError):
        opening.acquire(path, "r", still=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_directory(path: Path) -> None:
    with kvwasi.open(path) as store:
        store["k"] = "v"
    Path(f"{path}-lock").unlink()
    path.parent.chmod(0o500)
    try:
        with kvwasi.open(path, "r") as store:
            assert store["k"] == b"v"
        with pytest.raises(kvwasi.StorageError) as caught:
            kvwasi.open(path)
        assert isinstance(caught.value, OSError)
    finally:
        path.parent.chmod(0o700)
