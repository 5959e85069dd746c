"""What a descriptor is: stat, flags, rights, sizes, times, flushing, closing, renumbering, preopens."""

import os
import struct
import time
from pathlib import Path

import pytest
from wasi_guest import (
    APPEND,
    CREAT,
    DIRECTORY,
    DSYNC,
    NONBLOCK,
    PAGE,
    READ,
    ROOT,
    RSYNC,
    SYNC,
    SYNC_FLAG,
    WRITE,
    Guest,
    Mode,
)

REGULAR, FOLDER, CHARACTER, UNKNOWN = 4, 3, 2, 0
SEEK, TELL, READDIR, DATASYNC = 1 << 2, 1 << 5, 1 << 14, 1


def filestat_bytes(path: Path, kind: int) -> bytes:
    st = os.stat(path, follow_symlinks=False)
    times = (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    return struct.pack("<QQB7xQQQQQ", st.st_dev, st.st_ino, kind, st.st_nlink, st.st_size, *times)


def fdstat(guest: Guest, fd: int) -> tuple[int, int, int, int]:
    data = guest.result("fd_fdstat_get", fd, size=24)
    assert data[1] == 0
    assert data[4:8] == bytes(4)
    kind, flags, base, inheriting = struct.unpack("<BxH4xQQ", data)
    return kind, flags, base, inheriting


def test_filestat_is_the_systems(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"12345")
    os.link(root / "file", root / "second")
    os.utime(root / "file", ns=(1_234_567_890_123_456_789, 987_654_321_012_345_678))
    fd, result = guest.open("file"), guest.reserve(64)
    guest.check("fd_filestat_get", fd, result, writes={result: filestat_bytes(root / "file", REGULAR)})
    guest.check("fd_filestat_get", ROOT, result, writes={result: filestat_bytes(root, FOLDER)})


def test_filestat_errors(guest: Guest) -> None:
    guest.check("fd_filestat_get", 99, guest.reserve(64), errno="BADF")
    guest.check("fd_filestat_get", ROOT, 2 * PAGE - 63, errno="FAULT")


def test_mtime_follows_writes(guest: Guest, root: Path) -> None:
    """However a write goes to the file, who asks for its time sees that of the last write."""
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(5000))
    for ask in ("descriptor", "path", "sync", "close"):
        for i in range(50):  # several in one page, so that exclusive mode stores through its window
            guest.write(fd, b"x", at=i)
        old = root / "old"
        old.write_bytes(b"")  # a file system's clock, which is coarser than ours
        before = os.stat(old).st_mtime_ns
        time.sleep(0.02)
        for i in range(50):
            guest.write(fd, b"y", at=i)
        if ask == "descriptor":
            mtime = guest.filestat(fd).mtim
        elif ask == "path":
            mtime = guest.path_filestat("file").mtim
        else:
            guest.check(f"fd_{ask}", fd)
            mtime = os.stat(root / "file").st_mtime_ns
        assert mtime > before, ask


@pytest.mark.parametrize("fdflags", [0, APPEND])
def test_the_size_that_it_has(guest: Guest, root: Path, fdflags: int) -> None:
    """mtime moves all the same, and what somebody else has appended goes."""
    path = root / "file"
    path.write_bytes(bytes(5000))
    fd = guest.open("file", fdflags=fdflags)
    for ask in ("descriptor", "path", "close"):
        assert guest.read(fd, 1, at=0) == b"\0"
        os.utime(path, (1, 1))
        guest.check("fd_filestat_set_size", fd, 5000)
        if ask == "descriptor":
            assert guest.filestat(fd).mtim > 1_000_000_000
        elif ask == "path":
            assert guest.path_filestat("file").mtim > 1_000_000_000
        else:
            guest.check("fd_close", fd)
        assert os.stat(path).st_mtime > 1
    fd = guest.open("file", fdflags=fdflags)
    with path.open("ab") as file:
        file.write(b"more")
    guest.check("fd_filestat_set_size", fd, 5000)
    assert path.read_bytes() == bytes(5000)


def test_set_size(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"0123456789")
    fd = guest.open("file")
    guest.seek(fd, 8)
    guest.check("fd_filestat_set_size", fd, 4)
    assert (root / "file").read_bytes() == b"0123"
    assert guest.read(fd, 10) == b""
    guest.check("fd_filestat_set_size", fd, 9000)
    assert guest.read(fd, 10, at=0) == b"0123" + bytes(6)
    assert guest.seek(fd, 0, 1) == 8
    assert (root / "file").stat().st_size == 9000


def test_set_size_and_allocate_errors(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"x")
    reader, fd = guest.open("file", rights=READ), guest.open("file")
    guest.check("fd_filestat_set_size", reader, 0, errno="INVAL")
    guest.check("fd_filestat_set_size", fd, 1 << 63, errno="INVAL")
    guest.check("fd_filestat_set_size", ROOT, 0, errno="BADF")
    guest.check("fd_filestat_set_size", 99, 0, errno="BADF")
    guest.check("fd_allocate", reader, 0, 1, errno="BADF")
    guest.check("fd_allocate", fd, 0, 0, errno="INVAL")
    guest.check("fd_allocate", fd, 1 << 63, 1, errno="INVAL")
    guest.check("fd_allocate", fd, (1 << 63) - 1, 1, errno="FBIG")
    guest.check("fd_allocate", ROOT, 0, 1, errno="BADF")
    assert (root / "file").read_bytes() == b"x"


def test_allocate(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"abc")
    guest.check("fd_allocate", fd, 1, 1)
    assert (root / "file").read_bytes() == b"abc"
    guest.check("fd_allocate", fd, 2, 5000)
    assert (root / "file").read_bytes() == b"abc" + bytes(4999)
    assert guest.read(fd, 10, at=4999) == bytes(3)


ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8


@pytest.mark.parametrize("flags", [0, ATIM, MTIM, ATIM | MTIM, ATIM_NOW, MTIM_NOW, ATIM | MTIM_NOW])
@pytest.mark.parametrize("how", ["fd", "path"])
def test_set_times(guest: Guest, root: Path, flags: int, how: str) -> None:
    (root / "file").write_bytes(b"")
    os.utime(root / "file", ns=(1_000, 2_000))
    fd = guest.open("file")
    atim, mtim = 1_111_111_111_222_222_222, 9_000_000_000_000_000_001
    if how == "fd":
        guest.check("fd_filestat_set_times", fd, atim, mtim, flags)
    else:
        guest.check("path_filestat_set_times", ROOT, 1, *guest.path("file"), atim, mtim, flags)
    st = os.stat(root / "file")
    recent = time.time_ns() - 10_000_000_000
    for value, old, wanted, set_, now in (
        (st.st_atime_ns, 1_000, atim, ATIM, ATIM_NOW),
        (st.st_mtime_ns, 2_000, mtim, MTIM, MTIM_NOW),
    ):
        if flags & now:
            assert value > recent
        else:
            assert value == (wanted if flags & set_ else old)


@pytest.mark.parametrize("flags", [ATIM | ATIM_NOW, MTIM | MTIM_NOW, 16, 255])
def test_contradicting_times(guest: Guest, root: Path, flags: int) -> None:
    (root / "file").write_bytes(b"")
    guest.check("fd_filestat_set_times", guest.open("file"), 1, 1, flags, errno="INVAL")
    guest.check("path_filestat_set_times", ROOT, 0, *guest.path("file"), 1, 1, flags, errno="INVAL")


def test_fdstat_tells_kind_flags_and_access(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    kind, flags, base, inheriting = fdstat(guest, guest.open("file", fdflags=APPEND | NONBLOCK))
    assert (kind, flags, inheriting) == (REGULAR, APPEND | NONBLOCK, 0)
    assert base & (READ | WRITE | SEEK | TELL) == READ | WRITE | SEEK | TELL
    assert base & READDIR == 0
    assert fdstat(guest, guest.open("file", rights=READ))[2] & (READ | WRITE) == READ
    assert fdstat(guest, guest.open("file", rights=WRITE))[2] & (READ | WRITE) == WRITE
    kind, flags, base, inheriting = fdstat(guest, ROOT)
    assert (kind, flags) == (FOLDER, 0)
    assert base & (READ | WRITE | SEEK | TELL | READDIR) == READDIR
    assert inheriting & (READ | WRITE) == READ | WRITE
    guest.check("fd_fdstat_get", 99, guest.reserve(24), errno="BADF")
    guest.check("fd_fdstat_get", ROOT, 2 * PAGE - 23, errno="FAULT")


@pytest.mark.parametrize("flags", [0, APPEND, NONBLOCK, DSYNC, SYNC_FLAG, DSYNC | SYNC_FLAG | RSYNC])
@pytest.mark.parametrize("before", [0, APPEND | NONBLOCK, DSYNC, SYNC_FLAG])
def test_flags_can_be_changed(guest: Guest, root: Path, before: int, flags: int) -> None:
    (root / "file").write_bytes(b"one ")
    fd = guest.open("file", fdflags=before)
    guest.check("fd_fdstat_set_flags", fd, flags)
    assert fdstat(guest, fd)[1] == flags
    guest.write(fd, b"two")
    assert (root / "file").read_bytes() == (b"one two" if flags & APPEND else b"two ")


def test_flags_errors(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    guest.check("fd_fdstat_set_flags", guest.open("file"), 32, errno="INVAL")
    guest.check("fd_fdstat_set_flags", ROOT, 0, errno="BADF")
    guest.check("fd_fdstat_set_flags", 99, 0, errno="BADF")


def test_rights_can_only_be_dropped(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"abc")
    fd = guest.open("file")
    base = fdstat(guest, fd)[2]
    guest.check("fd_fdstat_set_rights", fd, base & ~WRITE & ~SEEK, 0)
    assert fdstat(guest, fd)[2] == base & ~WRITE & ~SEEK
    guest.check("fd_fdstat_set_rights", fd, base, 0, errno="NOTCAPABLE")
    guest.check("fd_fdstat_set_rights", fd, READ, READ, errno="NOTCAPABLE")
    vector = guest.iovecs((guest.reserve(8), 8))
    guest.check("fd_write", fd, vector, 1, guest.reserve(4), errno="NOTCAPABLE")
    guest.check("fd_seek", fd, 1, 0, guest.reserve(8), errno="NOTCAPABLE")
    result = guest.reserve(8)
    guest.check("fd_seek", fd, 0, 1, result, writes={result: bytes(8)})  # as good as fd_tell
    assert guest.read(fd, 8) == b"abc"
    guest.check("fd_fdstat_set_rights", fd, 0, 0)
    for name, args in (("fd_sync", ()), ("fd_advise", (0, 0, 0)), ("fd_filestat_set_times", (0, 0, 0))):
        guest.check(name, fd, *args, errno="NOTCAPABLE")
    guest.check("fd_filestat_get", fd, guest.reserve(64), errno="NOTCAPABLE")
    guest.check("fd_close", fd)


def test_rights_dropped_from_a_directory_stay_dropped_below(guest: Guest, root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"")
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    base, inheriting = fdstat(guest, fd)[2:]
    guest.check("fd_fdstat_set_rights", fd, base & ~(1 << 10), inheriting & ~WRITE)
    assert guest.try_open("file", fd=fd)[0] == "NOTCAPABLE"
    assert guest.try_open("new", fd=fd, oflags=CREAT, rights=READ)[0] == "NOTCAPABLE"
    below = guest.open(".", fd=fd, oflags=DIRECTORY, rights=READ)
    assert guest.try_open("file", fd=below)[0] == "NOTCAPABLE"
    assert guest.open("file", fd=below, rights=READ)


@pytest.mark.parametrize("name", ["fd_sync", "fd_datasync"])
def test_flushing(guest: Guest, root: Path, name: str) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"x")
    guest.check(name, fd)
    guest.check(name, guest.open("file", rights=READ))
    guest.check(name, ROOT)
    asked = guest.open(".", oflags=DIRECTORY, rights=READ | SYNC)
    guest.check(name, asked)
    assert fdstat(guest, asked)[2] & SYNC
    unasked = guest.open(".", oflags=DIRECTORY, rights=0)
    guest.check(name, unasked, errno="BADF")
    assert fdstat(guest, unasked)[2] & (SYNC | DATASYNC) == 0
    guest.check(name, 99, errno="BADF")


@pytest.mark.parametrize("advice", range(6))
def test_advise(guest: Guest, root: Path, advice: int) -> None:
    (root / "file").write_bytes(bytes(10_000))
    fd = guest.open("file")
    guest.check("fd_advise", fd, 0, 0, advice)
    guest.check("fd_advise", fd, 4096, 100, advice)
    assert guest.read(fd, 10) == bytes(10)


def test_advise_errors(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    fd = guest.open("file")
    guest.check("fd_advise", fd, 0, 0, 6, errno="INVAL")
    guest.check("fd_advise", fd, 0, 1 << 63, 0, errno="INVAL")
    guest.check("fd_advise", fd, 1 << 63, 0, 0, errno="INVAL")
    guest.check("fd_advise", ROOT, 0, 0, 0, errno="BADF")
    guest.check("fd_advise", 99, 0, 0, 0, errno="BADF")


def test_preopens_are_found(mode: Mode, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    guest = Guest(mode, [(tmp_path / "a", "/", True), (tmp_path / "b", "/mnt/b", False)])
    for fd, guest_path in ((3, b"/"), (4, b"/mnt/b")):
        result = guest.reserve(8)
        guest.check("fd_prestat_get", fd, result, writes={result: struct.pack("<II", 0, len(guest_path))})
        buffer = guest.reserve(10)
        guest.check("fd_prestat_dir_name", fd, buffer, len(guest_path), writes={buffer: guest_path})
        guest.check("fd_prestat_dir_name", fd, buffer, len(guest_path) + 1)
        guest.check("fd_prestat_dir_name", fd, buffer, len(guest_path) - 1, errno="NAMETOOLONG")
        guest.check("fd_prestat_dir_name", fd, 2 * PAGE, len(guest_path), errno="FAULT")
        guest.check("fd_prestat_get", fd, 2 * PAGE - 7, errno="FAULT")
    guest.check("fd_prestat_get", 5, guest.reserve(8), errno="BADF")
    opened = guest.open(".", oflags=DIRECTORY, rights=READ)
    guest.check("fd_prestat_get", opened, guest.reserve(8), errno="BADF")
    guest.check("fd_close", 3)
    guest.check("fd_prestat_get", 3, guest.reserve(8), errno="BADF")
    guest.check("fd_prestat_dir_name", 3, guest.reserve(8), 1, errno="BADF")
    guest.close()


def test_close(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    fd = guest.open("file")
    guest.check("fd_close", fd)
    guest.check("fd_close", fd, errno="BADF")
    guest.check("fd_close", 0xFFFFFFFF, errno="BADF")
    assert guest.open("file") == fd  # the lowest that is free


def test_renumber(guest: Guest, root: Path) -> None:
    (root / "a").write_bytes(b"contents of a")
    (root / "b").write_bytes(b"contents of b")
    a, b = guest.open("a"), guest.open("b")
    guest.seek(a, 9)
    guest.check("fd_renumber", a, b)
    assert guest.read(b, 10) == b"of a"
    guest.check("fd_close", a, errno="BADF")
    guest.check("fd_renumber", b, b)  # onto itself: nothing happens
    assert guest.read(b, 5, at=0) == b"conte"
    guest.check("fd_renumber", a, b, errno="BADF")
    guest.check("fd_renumber", b, a, errno="BADF")
    guest.check("fd_renumber", b, 0xFFFFFFFF, errno="BADF")
    assert guest.read(b, 5, at=0) == b"conte"


def test_a_preopen_can_be_renumbered_over(guest: Guest, root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "inner").write_bytes(b"")
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    guest.check("fd_renumber", fd, ROOT)
    guest.check("fd_prestat_get", ROOT, guest.reserve(8), errno="BADF")
    assert guest.path_filestat("inner").kind == REGULAR
    assert guest.path_call("path_unlink_file", "../file") == "PERM"


def test_many_descriptors(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"x")
    fds = [guest.open("file") for _ in range(300)]
    assert fds == list(range(4, 304))
    for fd in fds[::2]:
        guest.check("fd_close", fd)
    assert [guest.open("file") for _ in range(3)] == fds[:6:2]
