"""The bare system calls of the data plane, with and without the refill of the return stack."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasi_guest import CREAT, EXCL, READ, WRITE, Guest

from kvwasi.wasi import _host

BARE = sys.platform == "linux" and platform.machine() == "x86_64" and _host.LINUX_CALLS


@pytest.fixture(params=[False, True], ids=["plain", "refilled"], autouse=True)
def refilled(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Either way of calling, whichever one this machine has been found to be faster with."""
    wanted: bool = request.param
    before = _host.refills_return_stack(wanted)
    assert _host.refills_return_stack() == wanted
    yield wanted
    _host.refills_return_stack(before)


def test_results_and_errnos(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    assert guest.write(fd, b"0123456789") == 10
    assert guest.write(fd, b"AB", at=4) == 2
    assert guest.read(fd, 100, at=3) == b"3AB6789"
    assert guest.filestat(fd).size == 10
    assert guest.try_open("file", oflags=CREAT | EXCL)[0] == "EXIST"
    assert guest.try_open("missing")[0] == "NOENT"
    assert guest.try_open("file/below")[0] == "NOTDIR"
    assert guest.path_call("path_create_directory", "dir") == "OK"
    assert guest.path_call("path_unlink_file", "dir") == "ISDIR"
    assert guest.path_call("path_remove_directory", "dir") == "OK"
    assert guest.raw("path_link", 3, 0, *guest.path("file"), 3, *guest.path("link")) == "OK"
    assert guest.raw("path_rename", 3, *guest.path("link"), 3, *guest.path("name")) == "OK"
    assert guest.raw("path_symlink", *guest.path("file"), 3, *guest.path("symlink")) == "OK"
    assert guest.raw("fd_allocate", fd, 0, 5000) == "OK"
    assert guest.raw("fd_advise", fd, 0, 0, 2) == "OK"
    guest.check("fd_filestat_set_times", fd, 5, 7, 5)
    st = os.stat(root / "name")
    assert (st.st_size, st.st_atime_ns, st.st_mtime_ns, st.st_nlink) == (5000, 5, 7, 2)
    assert os.readlink(root / "symlink") == "file"
    assert sorted(name for name, _, _ in guest.listing(3)) == [".", "..", "file", "name", "symlink"]


def test_errors_of_the_descriptor(root: Path) -> None:
    reader, writer = os.pipe()
    guest = Guest("shared", [(root, "/", True)], stdin=reader, stdout=writer)
    try:
        assert guest.write(1, b"through") == 7
        assert guest.read(0, 100) == b"through"
        assert guest.raw("fd_pread", 0, guest.iovecs((16, 4)), 1, 0, guest.reserve(4)) == "SPIPE"
        assert guest.raw("fd_advise", 0, 0, 0, 0) == "SPIPE"
        assert guest.raw("fd_seek", 0, 0, 0, guest.reserve(8)) == "SPIPE"
    finally:
        guest.close()
        os.close(reader)
        os.close(writer)


def test_signals_meanwhile(guest: Guest, root: Path) -> None:
    """A handler runs on the stack that the refill passes through."""
    ticks = 0

    def tick(number: int, frame: object) -> None:
        nonlocal ticks
        ticks += 1

    (root / "file").write_bytes(bytes(range(256)))
    fd = guest.open("file", rights=READ | WRITE)
    before = signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    try:
        for i in range(3000):
            assert guest.read(fd, 1, at=i % 256) == bytes([i % 256])
            assert guest.filestat(fd).size == 256
            if ticks >= 20:
                break
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert ticks > 0


@pytest.mark.skipif(not BARE, reason="the C library's calls are used here")
def test_the_calls_are_made_as_they_are_meant(guest: Guest, root: Path) -> None:
    """Which system calls a process makes, as the kernel saw them."""
    if subprocess.run(["which", "strace"], capture_output=True).returncode:
        pytest.skip("strace is not installed")
    program = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from wasi_guest import CREAT, Guest
guest = Guest("shared", [(Path(sys.argv[1]), "/", True)])
fd = guest.open("traced", oflags=CREAT)
guest.write(fd, b"bytes", at=1 << 33)
guest.filestat(fd)
guest.check("fd_close", fd)
"""
    helpers = str(Path(__file__).parent)
    command = ["strace", "-f", "-e", "trace=openat,pwrite64,fstat,close", sys.executable, "-c", program]
    done = subprocess.run([*command, str(root), helpers], capture_output=True, text=True)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    tail = done.stderr[done.stderr.index('"traced"') :]
    assert "pwrite64(" in tail and ', "bytes", 5, 8589934592) = 5' in tail
    assert "fstat(" in tail and "st_size=8589934597" in tail
    assert "close(" in tail
