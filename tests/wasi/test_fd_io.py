"""fd_read, fd_write, fd_pread, fd_pwrite, fd_seek, fd_tell."""

import os
import struct
from pathlib import Path

import pytest
from wasi_guest import APPEND, CREAT, DIRECTORY, DSYNC, PAGE, READ, ROOT, SYNC_FLAG, WRITE, Guest

CONTENT = bytes(range(256)) * 40  # 10,240 bytes: more than two pages of a file
MEMORY = 2 * PAGE
SET, CUR, END = 0, 1, 2


@pytest.fixture
def file(guest: Guest, root: Path) -> int:
    (root / "file").write_bytes(CONTENT)
    return guest.open("file")


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 8191, 10_239])
@pytest.mark.parametrize("length", [0, 1, 13, 4096, 9000])
def test_read_and_pread(guest: Guest, file: int, offset: int, length: int) -> None:
    expected = CONTENT[offset : offset + length]
    buffer, result = guest.reserve(length), guest.reserve(4)
    vector = guest.iovecs((buffer, length))
    writes = {buffer: expected, result: struct.pack("<I", len(expected))}
    guest.check("fd_pread", file, vector, 1, offset, result, writes=writes)
    assert guest.seek(file, 0, CUR) == 0  # pread moves nothing
    guest.seek(file, offset)
    guest.memory.write(guest.store, b"?" * length, buffer)
    guest.check("fd_read", file, vector, 1, result, writes=writes)
    assert guest.seek(file, 0, CUR) == offset + len(expected)


def test_read_scatters(guest: Guest, file: int) -> None:
    parts = [(guest.reserve(n), n) for n in (5, 0, 4000, 1, 300)]
    result = guest.reserve(4)
    vector = guest.iovecs(*parts)
    writes, at = {result: struct.pack("<I", 4306)}, 100
    for address, length in parts:
        writes[address] = CONTENT[at : at + length]
        at += length
    guest.check("fd_pread", file, vector, len(parts), 100, result, writes=writes)
    guest.seek(file, 100)
    guest.check("fd_read", file, vector, len(parts), result, writes=writes)


def test_read_at_and_past_the_end(guest: Guest, file: int) -> None:
    assert guest.read(file, 100, at=len(CONTENT) - 10) == CONTENT[-10:]
    assert guest.read(file, 100, at=len(CONTENT)) == b""
    assert guest.read(file, 100, at=1 << 40) == b""
    guest.seek(file, 1 << 40)
    assert guest.read(file, 100) == b""


@pytest.mark.parametrize("count", [0, 1, 2, 1024])
def test_write_gathers(guest: Guest, root: Path, count: int) -> None:
    fd = guest.open("new", oflags=CREAT)
    parts = [(guest.put(bytes([i % 251]) * (i % 7)), i % 7) for i in range(count)]
    data = b"".join(bytes([i % 251]) * (i % 7) for i in range(count))
    vector, result = guest.iovecs(*parts), guest.reserve(4)
    guest.check("fd_write", fd, vector, count, result, writes={result: struct.pack("<I", len(data))})
    guest.check("fd_write", fd, vector, count, result)
    assert (root / "new").read_bytes() == data * 2
    guest.check("fd_pwrite", fd, vector, count, 5, result)
    expected = bytearray(data * 2)
    if data:
        expected.extend(bytes(max(0, 5 - len(expected))))
        expected[5 : 5 + len(data)] = data
    assert (root / "new").read_bytes() == expected


def test_writes_that_grow_leave_a_hole(guest: Guest, root: Path) -> None:
    fd = guest.open("new", oflags=CREAT)
    guest.write(fd, b"end", at=100_000)
    assert guest.read(fd, 5, at=0) == bytes(5)
    guest.seek(fd, -1, END)
    guest.write(fd, b"!!")
    assert (root / "new").read_bytes() == bytes(100_000) + b"en!!"


def test_many_small_writes_and_reads_agree(guest: Guest, root: Path) -> None:
    """Enough writes to each page that exclusive mode stores through its window, between reads and flushes."""
    fd = guest.open("new", oflags=CREAT)
    model = bytearray()
    for i in range(1200):
        at = (i * 37) % (len(model) + 20) if i % 3 else i
        data = bytes([i % 256]) * (1 + i % 23)
        model.extend(bytes(max(0, at + len(data) - len(model))))
        model[at : at + len(data)] = data
        guest.write(fd, data, at=at)
        if i % 100 == 0:
            guest.check("fd_sync" if i % 200 else "fd_datasync", fd)
            assert guest.read(fd, 60_000, at=0) == model
            assert (root / "new").read_bytes() == model
    guest.check("fd_close", fd)
    assert (root / "new").read_bytes() == model


@pytest.mark.parametrize("flags", [APPEND, APPEND | DSYNC, APPEND | SYNC_FLAG])
def test_append(guest: Guest, root: Path, flags: int) -> None:
    (root / "log").write_bytes(b"start ")
    fd = guest.open("log", fdflags=flags)
    other = guest.open("log")
    guest.seek(fd, 1)
    guest.write(fd, b"one ")
    assert guest.seek(fd, 0, CUR) == 10
    guest.write(other, b"S", at=0)
    guest.write(fd, b"two ")
    assert guest.read(fd, 10) == b""
    guest.seek(fd, 0)
    assert guest.read(fd, 100) == b"Start one two "
    with open(root / "log", "ab") as log:
        log.write(b"and ")
    guest.write(fd, b"three")
    assert (root / "log").read_bytes() == b"Start one two and three"


@pytest.mark.parametrize(
    ("offset", "whence", "position"),
    [
        (0, SET, 0),
        (7, SET, 7),
        (1 << 62, SET, 1 << 62),
        (5, CUR, 105),
        (-100, CUR, 0),
        (0, END, 10240),
        (-10240, END, 0),
        (1, END, 10241),
    ],
)
def test_seek_and_tell(guest: Guest, file: int, offset: int, whence: int, position: int) -> None:
    guest.seek(file, 100)
    result = guest.reserve(8)
    guest.check("fd_seek", file, offset, whence, result, writes={result: struct.pack("<Q", position)})
    guest.memory.write(guest.store, b"?" * 8, result)
    guest.check("fd_tell", file, result, writes={result: struct.pack("<Q", position)})


@pytest.mark.parametrize(
    ("offset", "whence", "errno"),
    [
        (-1, SET, "INVAL"),
        (-101, CUR, "INVAL"),
        (-10241, END, "INVAL"),
        (0, 3, "INVAL"),
        (0, 255, "INVAL"),
        ((1 << 63) - 1, CUR, "OVERFLOW"),
        ((1 << 63) - 1, END, "OVERFLOW"),
    ],
)
def test_seek_errors(guest: Guest, file: int, offset: int, whence: int, errno: str) -> None:
    guest.seek(file, 100)
    guest.check("fd_seek", file, offset, whence, guest.reserve(8), errno=errno)
    assert guest.seek(file, 0, CUR) == 100


OUTSIDE = [
    (MEMORY - 3, 4),
    (MEMORY, 1),
    (0xFFFFFFFF, 1),
    (0xFFFFFFF0, 0x20),
    (16, 0xFFFFFFFF),
    (MEMORY + 1, 0),
]


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite"])
@pytest.mark.parametrize("bad", OUTSIDE)
def test_a_bad_range_has_no_effect(
    guest: Guest, root: Path, file: int, name: str, bad: tuple[int, int]
) -> None:
    good = (guest.reserve(8), 8)
    vector, result = guest.iovecs(good, bad), guest.reserve(4)
    offset = [3] if name.startswith("fd_p") else []
    guest.check(name, file, vector, 2, *offset, result, errno="FAULT")
    single = guest.iovecs(bad)
    guest.check(name, file, single, 1, *offset, result, errno="FAULT")
    guest.check(name, file, guest.iovecs(good), 1, *offset, MEMORY - 3, errno="FAULT")
    guest.check(name, file, MEMORY - 12, 2, *offset, result, errno="FAULT")
    guest.check(name, file, 16, 0x20000000, *offset, result, errno="INVAL")
    assert guest.seek(file, 0, CUR) == 0
    assert (root / "file").read_bytes() == CONTENT


def test_ranges_that_end_with_memory_are_good(guest: Guest, file: int) -> None:
    result = MEMORY - 4
    vector = guest.iovecs((MEMORY - 20, 16))
    guest.check(
        "fd_pread", file, vector, 1, 0, result, writes={MEMORY - 20: CONTENT[:16] + struct.pack("<I", 16)}
    )


def test_too_many_parts(guest: Guest, file: int) -> None:
    vector = guest.put(bytes(8 * 1025))
    guest.check("fd_read", file, vector, 1025, guest.reserve(4), errno="INVAL")
    guest.check("fd_write", file, vector, 1025, guest.reserve(4), errno="INVAL")


@pytest.mark.parametrize("name", ["fd_pread", "fd_pwrite"])
@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1])
def test_offsets_past_the_largest(guest: Guest, file: int, name: str, offset: int) -> None:
    vector = guest.iovecs((guest.reserve(8), 8))
    guest.check(name, file, vector, 1, offset, guest.reserve(4), errno="INVAL")


CALLS = [("fd_read", ()), ("fd_write", ()), ("fd_pread", (0,)), ("fd_pwrite", (0,))]


@pytest.mark.parametrize(("name", "offset"), CALLS)
@pytest.mark.parametrize("fd", [0, 4, 5, 1000, 70_000, 0xFFFFFFFF])
def test_closed_descriptors(guest: Guest, name: str, offset: tuple[int, ...], fd: int) -> None:
    vector = guest.iovecs((guest.reserve(8), 8))
    guest.check(name, fd, vector, 1, *offset, guest.reserve(4), errno="BADF")
    guest.check("fd_seek", fd, 0, 0, guest.reserve(8), errno="BADF")
    guest.check("fd_tell", fd, guest.reserve(8), errno="BADF")


@pytest.mark.parametrize(("name", "offset"), CALLS)
def test_access_that_was_not_asked_for(guest: Guest, root: Path, name: str, offset: tuple[int, ...]) -> None:
    (root / "file").write_bytes(b"x")
    reading = "read" in name
    fd = guest.open("file", rights=WRITE if reading else READ)
    vector = guest.iovecs((guest.reserve(8), 8))
    guest.check(name, fd, vector, 1, *offset, guest.reserve(4), errno="BADF")
    neither = guest.open("file", rights=0)
    guest.check(name, neither, vector, 1, *offset, guest.reserve(4), errno="BADF")
    assert (root / "file").read_bytes() == b"x"


@pytest.mark.parametrize(("name", "offset"), CALLS)
def test_directories_have_no_bytes(guest: Guest, root: Path, name: str, offset: tuple[int, ...]) -> None:
    (root / "dir").mkdir()
    opened = guest.open("dir", oflags=DIRECTORY, rights=READ)
    vector = guest.iovecs((guest.reserve(8), 8))
    for fd in (ROOT, opened):
        guest.check(name, fd, vector, 1, *offset, guest.reserve(4), errno="BADF")
        guest.check("fd_seek", fd, 0, CUR, guest.reserve(8), errno="BADF")
        guest.check("fd_tell", fd, guest.reserve(8), errno="BADF")


def test_write_only_files_are_written(guest: Guest, root: Path) -> None:
    fd = guest.open("new", oflags=CREAT, rights=WRITE)
    guest.write(fd, b"abc")
    guest.write(fd, b"B", at=1)
    assert (root / "new").read_bytes() == b"aBc"


def test_fifos(guest: Guest, root: Path) -> None:
    os.mkfifo(root / "fifo")
    reader = os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fd = guest.open("fifo", rights=WRITE)
    guest.write(fd, b"through")
    assert os.read(reader, 100) == b"through"
    vector = guest.iovecs((guest.reserve(8), 8))
    guest.check("fd_pwrite", fd, vector, 1, 0, guest.reserve(4), errno="SPIPE")
    guest.check("fd_seek", fd, 0, SET, guest.reserve(8), errno="SPIPE")
    guest.check("fd_tell", fd, guest.reserve(8), errno="SPIPE")
    os.close(reader)
    guest.check("fd_write", fd, vector, 1, guest.reserve(4), errno="PIPE")


def test_positions_are_each_descriptors_own(guest: Guest, file: int) -> None:
    other = guest.open("file")
    guest.seek(other, 1000)
    assert guest.read(file, 3) == CONTENT[:3]
    assert guest.read(other, 3) == CONTENT[1000:1003]
    assert (guest.seek(file, 0, CUR), guest.seek(other, 0, CUR)) == (3, 1003)
