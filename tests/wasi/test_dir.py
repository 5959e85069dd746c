"""fd_readdir: every entry once, from any cookie, into any buffer."""

import os
import struct
from pathlib import Path

import pytest
from wasi_guest import DIRECTORY, PAGE, READ, ROOT, Guest, Mode

KINDS = {"file": 4, "dir": 3, "link": 7, "fifo": 0}


def populate(root: Path, count: int) -> None:
    for i in range(count):
        (root / f"entry-{i:05}{'x' * (i % 200)}").write_bytes(b"")


@pytest.mark.parametrize("buffer", [24 + 255, 400, 4096, 60_000])
def test_listing_is_complete(guest: Guest, root: Path, buffer: int) -> None:
    populate(root, 700)
    entries = guest.listing(ROOT, buffer)
    expected = {name: os.lstat(root / name).st_ino for name in os.listdir(root)}
    expected |= {".": os.stat(root).st_ino, "..": os.stat(root).st_ino}
    assert len(entries) == len(expected)
    assert {name: inode for name, inode, _ in entries} == expected


def test_kinds(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    (root / "dir").mkdir()
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    assert {name: kind for name, _, kind in guest.listing(ROOT) if name[0] != "."} == KINDS


def test_the_parent_of_a_directory_below_the_root(guest: Guest, root: Path) -> None:
    (root / "dir").mkdir()
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    assert {name: inode for name, inode, _ in guest.listing(fd)} == {
        ".": os.stat(root / "dir").st_ino,
        "..": os.stat(root).st_ino,
    }
    again = guest.open(".", oflags=DIRECTORY, rights=READ)
    assert {name: inode for name, inode, _ in guest.listing(again)}[".."] == os.stat(root).st_ino


def read_entries(guest: Guest, cookie: int, length: int, fd: int = ROOT) -> bytes:
    with guest.scratch():
        address = guest.reserve(length)
        used = guest.result("fd_readdir", fd, address, length, cookie, size=4)
        return guest.get(address, int.from_bytes(used, "little"))


def test_any_cookie_restarts(guest: Guest, root: Path) -> None:
    populate(root, 300)
    whole = b""
    cookies = [0]
    starts = [0]
    while data := read_entries(guest, cookies[-1], 300):
        following, _, length, _ = struct.unpack_from("<QQIB", data)
        whole += data[: 24 + length]
        cookies.append(following)
        starts.append(len(whole))
    assert len(cookies) == 303
    for i in [*range(0, 303, 7), 5, 4, 3, 2, 1, 0]:
        assert read_entries(guest, cookies[i], 5000) == whole[starts[i] :][:5000]


@pytest.mark.parametrize("length", [*range(60), 100])
def test_the_last_entry_is_cut(guest: Guest, root: Path, length: int) -> None:
    (root / ("n" * 30)).write_bytes(b"")
    whole = read_entries(guest, 0, 1000)
    buffer, result = guest.reserve(100), guest.reserve(4)
    used = min(length, len(whole))
    writes = {buffer: whole[:used], result: struct.pack("<I", used)}
    guest.check("fd_readdir", ROOT, buffer, length, 0, result, writes=writes)


def test_padding_is_zero(guest: Guest, root: Path) -> None:
    assert read_entries(guest, 0, 1000)[21:24] == bytes(3)


def test_a_rewound_listing_shows_what_is_there_now(guest: Guest, root: Path) -> None:
    populate(root, 5)
    assert len(guest.listing(ROOT)) == 7
    populate(root, 9)
    os.unlink(root / "entry-00000")
    assert len(guest.listing(ROOT)) == 10


@pytest.mark.parametrize("cookie", [1, 12_345, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_cookies_that_nobody_gave(guest: Guest, root: Path, cookie: int) -> None:
    populate(root, 3)
    address, result = guest.reserve(1000), guest.reserve(4)
    assert guest.raw("fd_readdir", ROOT, address, 1000, cookie, result) in ("OK", "INVAL")


def test_errors(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    file, buffer, result = guest.open("file"), guest.reserve(100), guest.reserve(4)
    guest.check("fd_readdir", file, buffer, 100, 0, result, errno="NOTDIR")
    guest.check("fd_readdir", 99, buffer, 100, 0, result, errno="BADF")
    guest.check("fd_readdir", ROOT, 2 * PAGE - 99, 100, 0, result, errno="FAULT")
    guest.check("fd_readdir", ROOT, buffer, 0xFFFFFFFF, 0, result, errno="FAULT")
    guest.check("fd_readdir", ROOT, buffer, 100, 0, 2 * PAGE - 3, errno="FAULT")


def test_a_removed_directory(guest: Guest, root: Path) -> None:
    (root / "dir").mkdir()
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    os.rmdir(root / "dir")
    address, result = guest.reserve(100), guest.reserve(4)
    guest.check("fd_readdir", fd, address, 100, 0, result, errno="NOENT")


def test_two_descriptors_list_apart(mode: Mode, root: Path) -> None:
    populate(root, 50)
    guest = Guest(mode, [(root, "/", True), (root, "/again", True)])
    one, two = guest.listing(3, 300), guest.listing(4, 500)
    assert one == two
    guest.close()
