"""path_open: flags, rights, and what each combination does to a file."""

import os
import stat
from pathlib import Path

import pytest
from wasi_guest import (
    APPEND,
    CREAT,
    DIRECTORY,
    DSYNC,
    EXCL,
    NONBLOCK,
    READ,
    RSYNC,
    SYNC_FLAG,
    TRUNC,
    WRITE,
    Guest,
)

# (what is there, oflags, rights) -> errno, contents afterwards
OPENS = [
    ("nothing", 0, READ, "NOENT", None),
    ("nothing", CREAT, READ, "OK", b""),
    ("nothing", CREAT, WRITE, "OK", b""),
    ("nothing", CREAT, 0, "OK", b""),
    ("nothing", CREAT | EXCL, READ, "OK", b""),
    ("nothing", TRUNC, WRITE, "NOENT", None),
    ("nothing", DIRECTORY, READ, "NOENT", None),
    ("file", 0, READ, "OK", b"abc"),
    ("file", 0, 0, "OK", b"abc"),
    ("file", CREAT, READ | WRITE, "OK", b"abc"),
    ("file", CREAT | EXCL, READ, "EXIST", b"abc"),
    ("file", TRUNC, WRITE, "OK", b""),
    ("file", CREAT | TRUNC, READ | WRITE, "OK", b""),
    ("file", CREAT | EXCL | TRUNC, READ | WRITE, "EXIST", b"abc"),
    ("file", DIRECTORY, READ, "NOTDIR", b"abc"),
    ("directory", 0, READ, "OK", None),
    ("directory", DIRECTORY, READ, "OK", None),
    ("directory", DIRECTORY, 0, "OK", None),
    ("directory", 0, WRITE, "ISDIR", None),
    ("directory", 0, READ | WRITE, "ISDIR", None),
    ("directory", DIRECTORY, READ | WRITE, "ISDIR", None),
    ("directory", CREAT, READ, "ISDIR", None),
    ("directory", CREAT | EXCL, READ, "EXIST", None),
    ("directory", TRUNC, WRITE, "ISDIR", None),
    ("directory", CREAT | DIRECTORY, READ, "INVAL", None),
    ("link", 0, READ, "OK", b"abc"),
    ("link", CREAT | EXCL, READ, "EXIST", b"abc"),
    ("link", TRUNC, WRITE, "OK", b""),
    ("dangling", 0, READ, "NOENT", None),
    ("dangling", CREAT, READ, "OK", None),
    ("dangling", CREAT | EXCL, READ, "EXIST", None),
]


@pytest.mark.parametrize(("there", "oflags", "rights", "error", "after"), OPENS)
@pytest.mark.parametrize("parent", ["", "sub/"])
@pytest.mark.parametrize("walking", [False, True])
def test_open(
    guest: Guest,
    root: Path,
    there: str,
    oflags: int,
    rights: int,
    error: str,
    after: bytes | None,
    parent: str,
    walking: bool,
) -> None:
    assert guest.wasi
    guest.wasi._host.resolve_by_walking(walking)
    (root / "sub").mkdir()
    path = root / parent / "x"
    if there == "file":
        path.write_bytes(b"abc")
    elif there == "directory":
        path.mkdir()
    elif there == "link":
        (root / parent / "target").write_bytes(b"abc")
        path.symlink_to("target")
    elif there == "dangling":
        path.symlink_to("target")
    assert guest.try_open(f"{parent}x", oflags=oflags, rights=rights)[0] == error
    if after is not None:
        assert path.read_bytes() == after
    assert (root / parent / "target").exists() == (there == "link" or (there == "dangling" and error == "OK"))


@pytest.mark.parametrize("flags", range(32))
def test_flags_reach_the_system(guest: Guest, root: Path, flags: int) -> None:
    fd = guest.open("file", oflags=CREAT, fdflags=flags)
    with os.scandir("/proc/self/fd") as entries:
        ours = next(
            int(e.name) for e in entries if os.path.realpath(e.path) == str((root / "file").resolve())
        )
    info = Path(f"/proc/self/fdinfo/{ours}").read_text()
    os_flags = int(next(line for line in info.splitlines() if line.startswith("flags:")).split()[1], 8)
    assert bool(os_flags & os.O_APPEND) == bool(flags & APPEND)
    assert bool(os_flags & os.O_NONBLOCK) == bool(flags & NONBLOCK)
    assert bool(os_flags & os.O_DSYNC) == bool(flags & (DSYNC | RSYNC | SYNC_FLAG))
    assert (os_flags & os.O_SYNC == os.O_SYNC) == bool(flags & (RSYNC | SYNC_FLAG))
    assert os_flags & os.O_CLOEXEC
    guest.write(fd, b"x")


@pytest.mark.parametrize(("oflags", "fdflags"), [(16, 0), (0, 32), (0xFFFF, 0), (0, 0xFFFF)])
def test_unknown_flags(guest: Guest, root: Path, oflags: int, fdflags: int) -> None:
    assert guest.try_open("file", oflags=oflags | CREAT, fdflags=fdflags)[0] == "INVAL"
    assert not (root / "file").exists()


def test_new_files_have_the_usual_mode(guest: Guest, root: Path) -> None:
    mask = os.umask(0o027)
    try:
        guest.open("file", oflags=CREAT)
        guest.path_call("path_create_directory", "dir")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "dir").stat().st_mode) == 0o750


def test_no_descriptor_is_left_by_failures(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    (root / "dir").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        for path in ("missing", "file/x", "dir/../missing", "..", "dir/../..", "file/"):
            guest.try_open(path)
            guest.path_call("path_unlink_file", path)
            guest.path_call("path_create_directory", path + "/x")
        guest.try_open("dir", rights=WRITE)
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_run_out_cleanly(guest: Guest, root: Path) -> None:
    import resource

    (root / "file").write_bytes(b"")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, limits[1]))
    try:
        opened = []
        while True:
            error, fd = guest.try_open("file")
            if error != "OK":
                break
            opened.append(fd)
        assert error == "MFILE"
        guest.check("fd_close", opened.pop())
        assert guest.try_open("file")[0] == "OK"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(("follow", "oflags", "error"), [
    (1, 0, "OK"), (1, DIRECTORY, "OK"), (0, 0, "LOOP"), (0, DIRECTORY, "NOTDIR"), (1, CREAT | EXCL, "EXIST"),
])  # fmt: skip
@pytest.mark.parametrize("parent", ["", "sub/"])
def test_a_link_to_a_directory(
    guest: Guest, root: Path, parent: str, follow: int, oflags: int, error: str
) -> None:
    """The first try at a single component follows nothing; the second one does."""
    (root / "sub" / "target").mkdir(parents=True)
    (root / "target").mkdir()
    os.symlink("target", root / parent / "link")
    assert guest.try_open(parent + "link", oflags=oflags, rights=READ, follow=follow)[0] == error
