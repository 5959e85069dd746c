"""Clocks; poll_oneoff on clocks and descriptors; sock_* on sockets and on what is none."""

import io
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wasi_guest import CREAT, NONBLOCK, PAGE, READ, ROOT, WRITE, Guest, Mode

REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU = range(4)
CLOCK, FD_READ, FD_WRITE = 0, 1, 2
ABSOLUTE = 1
MS = 1_000_000


def clock(userdata: int, timeout: int, clock_id: int = MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, CLOCK, clock_id, timeout, 0, flags)


def on_fd(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def poll(guest: Guest, *subscriptions: bytes) -> list[tuple[int, int, int, int, int]]:
    """(userdata, errno, kind, bytes, flags) of each event."""
    with guest.scratch():
        count = len(subscriptions)
        given, events = guest.put(b"".join(subscriptions)), guest.reserve(32 * count)
        got = int.from_bytes(guest.result("poll_oneoff", given, events, count, size=4), "little")
        data = guest.get(events, 32 * got)
    found = []
    for at in range(0, len(data), 32):
        userdata, error, kind, length, flags = struct.unpack_from("<QHB5xQH6x", data, at)
        assert data[at + 11 : at + 16] == bytes(5)
        found.append((userdata, error, kind, length, flags))
    return found


def test_the_first_clock_wins(guest: Guest) -> None:
    start = time.monotonic_ns()
    assert poll(guest, clock(1, 3_600_000 * MS), clock(2, 20 * MS)) == [(2, 0, CLOCK, 0, 0)]
    assert time.monotonic_ns() - start >= 20 * MS


@pytest.mark.parametrize(("clock_id", "now"), [(REALTIME, time.time_ns), (MONOTONIC, time.monotonic_ns)])
def test_absolute_clocks(guest: Guest, clock_id: int, now: object) -> None:
    assert callable(now)
    due = now() + 20 * MS
    assert poll(guest, clock(7, due, clock_id, ABSOLUTE)) == [(7, 0, CLOCK, 0, 0)]
    assert now() >= due
    assert poll(guest, clock(8, 1, clock_id, ABSOLUTE)) == [(8, 0, CLOCK, 0, 0)]  # long past


def read_clock(guest: Guest, clock_id: int, call: str = "clock_time_get") -> int:
    precision = [0] if call == "clock_time_get" else []
    return int.from_bytes(guest.result(call, clock_id, *precision, size=8), "little")


@pytest.mark.parametrize(
    ("clock_id", "now"),
    [
        (REALTIME, time.time_ns),
        (MONOTONIC, time.monotonic_ns),
        (PROCESS_CPU, time.process_time_ns),
        (THREAD_CPU, time.thread_time_ns),
    ],
)
def test_clocks(guest: Guest, clock_id: int, now: Callable[[], int]) -> None:
    before, seen, after = now(), read_clock(guest, clock_id), now()
    assert before <= seen <= after
    assert 0 < read_clock(guest, clock_id, "clock_res_get") <= 100 * MS


def test_clock_errors(guest: Guest) -> None:
    result = guest.reserve(8)
    for call, precision in (("clock_time_get", [0]), ("clock_res_get", [])):
        assert guest.raw(call, 4, *precision, result) == "INVAL"
        assert guest.raw(call, REALTIME, *precision, 0xFFFFFFF9) == "FAULT"


def test_the_guests_own_time_can_be_waited_for(guest: Guest) -> None:
    due = read_clock(guest, MONOTONIC) + 30 * MS
    assert poll(guest, clock(7, due, MONOTONIC, ABSOLUTE)) == [(7, 0, CLOCK, 0, 0)]
    assert read_clock(guest, MONOTONIC) >= due


def test_clocks_that_cannot_be_waited_for(guest: Guest) -> None:
    assert poll(guest, clock(1, 0, PROCESS_CPU)) == [(1, 58, CLOCK, 0, 0)]  # NOTSUP
    assert poll(guest, clock(1, 0, 9)) == [(1, 28, CLOCK, 0, 0)]  # INVAL
    assert poll(guest, clock(1, 1 << 63), clock(2, 0)) == [(2, 0, CLOCK, 0, 0)]


def test_regular_files_are_ready(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(bytes(100))
    fd = guest.open("file")
    guest.seek(fd, 40)
    events = poll(guest, on_fd(1, FD_READ, fd), on_fd(2, FD_WRITE, fd), clock(3, 3_600_000 * MS))
    assert [event[:3] for event in events] == [(1, 0, FD_READ), (2, 0, FD_WRITE)]
    assert events[0][3] == 60


def test_errors_are_events(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT, rights=WRITE)
    assert poll(guest, on_fd(1, FD_READ, 99), on_fd(2, FD_READ, fd)) == [
        (1, 8, FD_READ, 0, 0),
        (2, 8, FD_READ, 0, 0),
    ]
    assert poll(guest, struct.pack("<QB39x", 5, 3)) == [(5, 28, 3, 0, 0)]


def test_bad_arguments(guest: Guest) -> None:
    given, events, result = guest.put(clock(1, 0)), guest.reserve(32), guest.reserve(4)
    guest.check("poll_oneoff", given, events, 0, result, errno="INVAL")
    guest.check("poll_oneoff", 2 * PAGE - 47, events, 1, result, errno="FAULT")
    guest.check("poll_oneoff", given, 2 * PAGE - 31, 1, result, errno="FAULT")
    guest.check("poll_oneoff", given, events, 1, 2 * PAGE - 3, errno="FAULT")
    guest.check("poll_oneoff", given, events, 0x10000000, result, errno="FAULT")


def test_pipes(mode: Mode, root: Path) -> None:
    reader, writer = os.pipe()
    guest = Guest(mode, [(root, "/", True)], stdin=reader, stdout=writer)
    assert poll(guest, on_fd(1, FD_READ, 0), clock(2, 5 * MS)) == [(2, 0, CLOCK, 0, 0)]
    os.write(writer, b"12345")
    assert poll(guest, on_fd(1, FD_READ, 0), clock(2, 3_600_000 * MS)) == [(1, 0, FD_READ, 5, 0)]
    assert poll(guest, on_fd(3, FD_WRITE, 1))[0][:3] == (3, 0, FD_WRITE)
    guest.check("fd_close", 1)
    os.close(writer)
    assert guest.read(0, 10) == b"12345"
    assert poll(guest, on_fd(1, FD_READ, 0)) == [(1, 0, FD_READ, 0, 1)]  # hang-up
    assert guest.read(0, 10) == b""
    os.close(reader)
    guest.close()


def test_file_objects_are_ready(mode: Mode, root: Path) -> None:
    guest = Guest(mode, [(root, "/", True)], stdin=io.BytesIO(b"x"), stdout=io.BytesIO())
    assert [e[:3] for e in poll(guest, on_fd(1, FD_READ, 0), on_fd(2, FD_WRITE, 1))] == [
        (1, 0, FD_READ),
        (2, 0, FD_WRITE),
    ]
    guest.close()


@pytest.fixture
def pair(mode: Mode, root: Path) -> Iterator[tuple[Guest, socket.socket]]:
    """A guest whose stdin is one end of a socket, and the other end."""
    ours, theirs = socket.socketpair()
    guest = Guest(mode, [(root, "/", True)], stdin=theirs.fileno())
    theirs.close()
    yield guest, ours
    guest.close()
    ours.close()


def test_send_and_receive(pair: tuple[Guest, socket.socket]) -> None:
    guest, peer = pair
    sent = guest.reserve(4)
    vector = guest.iovecs((guest.put(b"ab"), 2), (guest.put(b"cde"), 3))
    guest.check("sock_send", 0, vector, 2, 0, sent, writes={sent: struct.pack("<I", 5)})
    assert peer.recv(10) == b"abcde"
    guest.check("sock_send", 0, vector, 2, 1, sent, errno="INVAL")
    peer.send(b"hello")
    buffer, length, flags = guest.reserve(10), guest.reserve(4), guest.reserve(2)
    writes = {buffer: b"hello", length: struct.pack("<I", 5), flags: bytes(2)}
    guest.check("sock_recv", 0, guest.iovecs((buffer, 10)), 1, 1, length, flags, writes=writes)  # peeked
    guest.check("sock_recv", 0, guest.iovecs((buffer, 10)), 1, 0, length, flags, writes=writes)
    guest.check("sock_recv", 0, guest.iovecs((buffer, 10)), 1, 4, length, flags, errno="INVAL")
    guest.check("sock_recv", 0, guest.iovecs((2 * PAGE - 9, 10)), 1, 0, length, flags, errno="FAULT")
    guest.check("sock_recv", 0, guest.iovecs((buffer, 10)), 1, 0, 2 * PAGE - 3, flags, errno="FAULT")
    assert guest.filestat(0).kind == 6


def test_shutdown(pair: tuple[Guest, socket.socket]) -> None:
    guest, peer = pair
    for how in (0, 4, 0xFFFFFFFF):
        guest.check("sock_shutdown", 0, how, errno="INVAL")
    guest.check("sock_shutdown", 0, 2)
    assert peer.recv(10) == b""
    vector = guest.iovecs((guest.put(b"x"), 1))
    guest.check("sock_send", 0, vector, 1, 0, guest.reserve(4), errno="PIPE")  # and no SIGPIPE


def test_accept(mode: Mode, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        guest = Guest(mode, [(root, "/", True)], stdin=server.fileno())
        server.setblocking(False)
        guest.check("sock_accept", 0, 0, guest.reserve(4), errno="AGAIN")
        guest.check("sock_accept", 0, 1, guest.reserve(4), errno="INVAL")
        with socket.create_connection(server.getsockname()) as client:
            fd = int.from_bytes(guest.result("sock_accept", 0, NONBLOCK, size=4), "little")
            guest.write(fd, b"welcome")
            assert client.recv(10) == b"welcome"
        guest.close()


def test_what_is_no_socket(guest: Guest, root: Path) -> None:
    file = guest.open("file", oflags=CREAT, rights=READ | WRITE)
    vector = guest.iovecs((guest.reserve(8), 8))
    for fd, error in ((file, "NOTSOCK"), (ROOT, "NOTSOCK"), (99, "BADF")):
        guest.check("sock_accept", fd, 0, guest.reserve(4), errno=error)
        guest.check("sock_recv", fd, vector, 1, 0, guest.reserve(4), guest.reserve(2), errno=error)
        guest.check("sock_send", fd, vector, 1, 0, guest.reserve(4), errno=error)
        guest.check("sock_shutdown", fd, 1, errno=error)
