"""Writes that return before the OS has their bytes: nobody can tell, and what fails is told."""

import ctypes
import errno
import mmap
import os
import random
import resource
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wasi_guest import CREAT, PAGE, Guest, Mode

MIB = 1 << 20
BUFFER = 4 * PAGE  # a MiB and more of the guest's memory from here on
FAR = 1 << 62  # beyond what ext4 lets a file have, not beyond an offset


class Writer(Guest):
    """A guest with a file, a MiB of memory for what it writes, and writes that are deferred."""

    def __init__(self, mode: Mode, root: Path) -> None:
        super().__init__(mode, [(root, "/", True)])
        assert self.wasi
        self.memory.grow(self.store, 40)
        self.size = self.memory.data_len(self.store)
        self.host = self.wasi._host
        self.fd = self.open("file", oflags=CREAT)
        self.host.defer_writes(True)

    def pwrite(self, data: bytes, offset: int) -> str:
        self.memory.write(self.store, data, BUFFER)
        with self.scratch():
            vector = self.iovecs((BUFFER, len(data)))
            name = self.raw("fd_pwrite", self.fd, vector, 1, offset, self.reserve(4))
        self.memory.write(self.store, bytes(min(len(data), 4096)), BUFFER)  # the bytes are the host's now
        return name

    def pread(self, length: int, offset: int) -> bytes:
        with self.scratch():
            vector = self.iovecs((BUFFER, length))
            done = struct.unpack("<I", self.result("fd_pread", self.fd, vector, 1, offset, size=4))[0]
        return self.get(BUFFER, done)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.fixture
def writer(root: Path) -> Iterator[Writer]:
    guest = Writer("exclusive", root)
    yield guest
    guest.close()


def test_a_thread_does_it_and_ends_with_the_host(root: Path) -> None:
    before = threads()
    guest = Writer("exclusive", root)
    assert guest.pwrite(b"a" * 1000, 0) == "OK"
    assert threads() == before  # small: made at once
    assert guest.pwrite(b"b" * MIB, 1000) == "OK"
    assert threads() == before + 1
    guest.close()
    assert threads() == before
    assert (root / "file").read_bytes() == b"a" * 1000 + b"b" * MIB


def test_in_shared_mode_the_os_has_every_write(root: Path) -> None:
    before = threads()
    guest = Writer("shared", root)
    assert guest.pwrite(b"b" * MIB, 0) == "OK"
    assert (root / "file").read_bytes() == b"b" * MIB
    assert threads() == before
    guest.close()


@pytest.mark.parametrize("seed", range(4))
def test_nobody_can_tell(writer: Writer, root: Path, seed: int) -> None:
    """Random calls of the guest and of the embedder beside a file in memory."""
    dice = random.Random(seed)
    model = bytearray()
    for _ in range(400):
        at = dice.randrange(3 * MIB)
        match dice.randrange(12):
            case 0 | 1 | 2 | 3 | 4 | 5:
                size = dice.choice((1, 100, 2000, 5000, PAGE - 1, PAGE, 3 * PAGE, MIB, MIB + 1))
                data = dice.randbytes(16) * (size // 16 + 1)
                assert writer.pwrite(data[:size], at) == "OK"
                model.extend(bytes(max(0, at + size - len(model))))
                model[at : at + size] = data[:size]
            case 6:
                assert writer.pread(PAGE, at) == model[at : at + PAGE]
            case 7:
                assert writer.host.read(writer.fd, at, PAGE) == model[at : at + PAGE]
            case 8:
                stat = writer.result("fd_filestat_get", writer.fd, size=64)
                assert struct.unpack("<Q", stat[32:40])[0] == len(model)
            case 9:
                assert writer.raw("fd_filestat_set_size", writer.fd, at) == "OK"
                model = model[:at].ljust(at, b"\0")
            case 10:
                writer.host.datasync(writer.fd)
                assert (root / "file").read_bytes() == model
            case _:
                assert writer.raw("fd_close", writer.fd) == "OK"
                writer.fd = writer.open("file")
        assert writer.host.has_room(True)
    writer.host.settle()
    assert (root / "file").read_bytes() == model


def test_the_embedder_waits_from_another_thread(writer: Writer, root: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            while not stop.is_set():
                assert writer.host.has_room(True)
                writer.host.settle()
                writer.host.datasync(writer.fd)
        except BaseException as error:
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    for number in range(200):
        assert writer.pwrite(bytes([number % 251]) * (3 * PAGE), number * 3 * PAGE) == "OK"
    stop.set()
    waiter.join()
    assert failures == []
    writer.host.settle()
    content = (root / "file").read_bytes()
    assert all(content[n * 3 * PAGE] == n % 251 == content[(n + 1) * 3 * PAGE - 1] for n in range(200))


def test_the_device_has_begun(writer: Writer, root: Path, dirty_pages: Callable[[Path], int]) -> None:
    for number in range(40):
        assert writer.pwrite(os.urandom(16) * (MIB // 16), number * MIB) == "OK"
    writer.host.settle()
    assert dirty_pages(root / "file") <= 8 * MIB // mmap.PAGESIZE


def test_a_failed_write_fails_what_comes_behind_it(writer: Writer, root: Path) -> None:
    with (root / "probe").open("wb") as probe:
        try:
            os.pwrite(probe.fileno(), b"x", FAR)
            pytest.skip("the file system has files of any size")
        except OSError as error:
            expected = error.errno
    assert writer.pwrite(b"a" * MIB, 0) == "OK"
    assert writer.pwrite(b"b" * MIB, FAR) == "OK"  # nobody knows yet
    assert writer.pwrite(b"c" * 100, MIB) in ("OK", "IO")  # behind it: dropped with it
    with pytest.raises(OSError) as failed:
        writer.host.settle()
    assert failed.value.errno == expected
    for _ in range(2):  # it stays so, with everything
        assert writer.pwrite(b"d" * 100, 0) == "IO"
        assert writer.pwrite(b"d" * MIB, 0) == "IO"
        assert writer.raw("fd_datasync", writer.fd) == "IO"
        assert writer.raw("fd_filestat_get", writer.fd, BUFFER) == "IO"
        for call in (
            lambda: writer.host.datasync(writer.fd),
            lambda: writer.host.read(writer.fd, 0, 10),
            writer.host.settle,
        ):
            with pytest.raises(OSError):
                call()
        assert writer.host.has_room(True)
        writer.host.defer_writes(False)
    assert writer.raw("fd_close", writer.fd) == "OK"
    assert (root / "file").read_bytes() == b"a" * MIB


def test_a_limit_is_told_at_once(writer: Writer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        assert writer.pwrite(b"a" * MIB, MIB) == "OK"
        assert writer.pwrite(b"b" * MIB, 2 * MIB) == "FBIG"
        assert writer.pwrite(b"c" * MIB, 0) == "OK"
        writer.host.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_grown_memory_is_present_before_it_is_touched(writer: Writer) -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release < (5, 14):
        pytest.skip("this kernel makes no memory present that was not touched")
    pages = 16
    writer.memory.grow(writer.store, pages)
    assert writer.pwrite(b"x", 0) == "OK"  # by which the host sees it
    writer.host.settle()
    address = ctypes.addressof(writer.memory.data_ptr(writer.store).contents) + writer.size
    size = pages * PAGE
    present = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), present) == 0, errno.errorcode[
        ctypes.get_errno()
    ]
    assert all(state & 1 for state in present)
    assert bytes(writer.memory.read(writer.store, writer.size, writer.size + size)) == bytes(size)
