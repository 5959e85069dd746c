"""Every storage call can be watched, failed and cut short; the simulated disk and its power cuts."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasi_guest import APPEND, CREAT, DIRECTORY, READ, ROOT, SYNC, TRUNC, Guest, Mode

from kvwasi.wasi.simdisk import Fault, SimulatedDisk
from kvwasi.wasi.trace import Recorder, Result, StorageCall, Verdict, watch_new_hosts


def watch(guest: Guest, watcher: object) -> None:
    assert guest.wasi
    guest.wasi.watch(watcher)  # type: ignore[arg-type]


def test_every_change_is_recorded_with_its_result(guest: Guest, root: Path) -> None:
    recorder = Recorder()
    watch(guest, recorder)
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"hello")
    guest.write(fd, b"J", at=0)
    assert guest.read(fd, 5, at=0) == b"Jello"
    for name, args in (
        ("fd_filestat_set_size", (3,)),
        ("fd_allocate", (0, 9)),
        ("fd_sync", ()),
        ("fd_datasync", ()),
    ):
        guest.check(name, fd, *args)
    guest.path_call("path_create_directory", "dir")
    guest.check("path_link", ROOT, 0, *guest.path("file"), ROOT, *guest.path("dir/link"))
    guest.check("path_rename", ROOT, *guest.path("dir/link"), ROOT, *guest.path("moved"))
    guest.check("path_symlink", *guest.path("target"), ROOT, *guest.path("link"))
    assert guest.path_call("path_unlink_file", "moved") == "OK"
    assert guest.path_call("path_unlink_file", "missing") == "NOENT"
    guest.path_call("path_remove_directory", "dir")
    guest.check("fd_close", fd)
    told = [(r.call.operation, r.call.path, r.call.path2, r.value, r.error) for r in recorder.results]
    os_fd = recorder.results[0].value
    assert told == [
        ("open", "file", None, os_fd, 0),
        ("write", None, None, 5, 0),
        ("write", None, None, 1, 0),
        ("read", None, None, 5, 0),
        ("truncate", None, None, 0, 0),
        ("allocate", None, None, 0, 0),
        ("sync", None, None, 0, 0),
        ("datasync", None, None, 0, 0),
        ("create_directory", "dir", None, 0, 0),
        ("link", "file", "link", 0, 0),
        ("rename", "link", "moved", 0, 0),
        ("symlink", "target", "link", 0, 0),
        ("unlink", "moved", None, 0, 0),
        ("unlink", "missing", None, 0, errno.ENOENT),
        ("remove_directory", "dir", None, 0, 0),
        ("close", None, None, 0, 0),
    ]
    writes = [r.call for r in recorder.results if r.call.operation == "write"]
    assert [(call.os_fd, call.offset, call.data) for call in writes] == [
        (os_fd, 0, b"hello"),
        (os_fd, 0, b"J"),
    ]
    watch(guest, None)
    guest.open("file")
    assert len(recorder.results) == 16


class Failing:
    """Answers one operation with a verdict."""

    def __init__(self, operation: str, verdict: Verdict) -> None:
        self.operation, self.verdict = operation, verdict
        self.results: list[Result] = []

    def before(self, call: StorageCall) -> Verdict:
        return self.verdict if call.operation == self.operation else Verdict()

    def after(self, result: Result) -> None:
        self.results.append(result)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("write", "fd_pwrite"),
        ("read", "fd_pread"),
        ("sync", "fd_sync"),
        ("datasync", "fd_datasync"),
        ("truncate", "fd_filestat_set_size"),
        ("allocate", "fd_allocate"),
        ("close", "fd_close"),
    ],
)
def test_failures_reach_the_guest_and_nothing_happens(
    guest: Guest, root: Path, operation: str, call: str
) -> None:
    (root / "file").write_bytes(b"untouched")
    fd = guest.open("file")
    watch(guest, Failing(operation, Verdict(errno.ENOSPC)))
    vector, result = guest.iovecs((guest.reserve(4), 4)), guest.reserve(4)
    args = {
        "fd_pwrite": (vector, 1, 0, result),
        "fd_pread": (vector, 1, 0, result),
        "fd_filestat_set_size": (2,),
        "fd_allocate": (0, 100),
    }.get(call, ())
    guest.check(call, fd, *args, errno="NOSPC")
    assert (root / "file").read_bytes() == b"untouched"


@pytest.mark.parametrize("length", [0, 1, 5, 9, 10, 100])
def test_short_transfers(guest: Guest, root: Path, length: int) -> None:
    (root / "file").write_bytes(b"0123456789")
    fd = guest.open("file")
    watch(guest, Failing("read", Verdict(length=length)))
    assert guest.read(fd, 10, at=0) == b"0123456789"[:length]
    watch(guest, Failing("write", Verdict(length=length)))
    parts = [(guest.put(b"abcde"), 5), (guest.put(b"fghij"), 5)]
    result = guest.result("fd_pwrite", fd, guest.iovecs(*parts), 2, 0, size=4)
    assert int.from_bytes(result, "little") == min(length, 10)
    assert (root / "file").read_bytes() == b"abcdefghij"[:length] + b"0123456789"[length:]


def test_a_watcher_that_raises_is_an_input_output_error(guest: Guest, root: Path) -> None:
    class Broken(Recorder):
        def before(self, call: StorageCall) -> Verdict:
            raise LookupError

    watch(guest, Broken())
    assert guest.try_open("file", oflags=CREAT)[0] == "IO"
    assert not (root / "file").exists()


def test_new_hosts_can_be_watched(mode: Mode, root: Path) -> None:
    recorder = Recorder()
    with watch_new_hosts(recorder):
        guest = Guest(mode, [(root, "/", True)])
    guest.open("file", oflags=CREAT)
    guest.close()
    other = Guest(mode, [(root, "/", True)])
    other.open("file")
    other.close()
    assert [r.call.operation for r in recorder.results][:1] == ["open"]
    assert sum(r.call.operation == "open" for r in recorder.results) == 1


@pytest.fixture
def disk(guest: Guest, root: Path) -> Iterator[SimulatedDisk]:
    (root / "old").write_bytes(b"old contents")
    (root / "dir").mkdir()
    disk = SimulatedDisk(root)
    watch(guest, disk)
    yield disk


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_what_is_flushed_survives(guest: Guest, disk: SimulatedDisk, root: Path, tmp_path: Path) -> None:
    fd = guest.open("new", oflags=CREAT)
    guest.write(fd, b"flushed")
    guest.check("fd_datasync", fd)
    guest.check("fd_sync", ROOT)
    assert disk.pending() == 0
    guest.write(fd, b" and not")
    guest.write(guest.open("old"), b"OLD")
    for seed, keep, expected in (
        (1, "nothing", {"new": b"flushed", "old": b"old contents"}),
        (2, "everything", {"new": b"flushed and not", "old": b"OLD contents"}),
    ):
        disk.power_cut(tmp_path / str(seed), seed, keep=keep)
        assert contents(tmp_path / str(seed)) == expected
    assert contents(tmp_path / "2") == contents(root)


def test_names_need_their_directory_flushed(guest: Guest, disk: SimulatedDisk, tmp_path: Path) -> None:
    fd = guest.open("dir/new", oflags=CREAT)
    guest.write(fd, b"x")
    guest.check("fd_sync", fd)
    guest.check("path_rename", ROOT, *guest.path("old"), ROOT, *guest.path("dir/moved"))
    guest.check("fd_sync", ROOT)  # the rename is in both directories, the new file only in the other
    disk.power_cut(tmp_path / "a", 0, keep="nothing")
    assert contents(tmp_path / "a") == {"dir/moved": b"old contents"}
    guest.check("fd_sync", guest.open("dir", oflags=DIRECTORY, rights=READ | SYNC))
    disk.power_cut(tmp_path / "b", 0, keep="nothing")
    assert contents(tmp_path / "b") == {"dir/moved": b"old contents", "dir/new": b"x"}
    assert guest.path_call("path_unlink_file", "dir/new") == "OK"
    disk.power_cut(tmp_path / "c", 0, keep="nothing")
    assert contents(tmp_path / "c") == contents(tmp_path / "b")


def test_some_is_seeded_and_torn_at_sectors(guest: Guest, disk: SimulatedDisk, tmp_path: Path) -> None:
    fd = guest.open("old", oflags=TRUNC)
    guest.write(fd, b"a" * 4096)
    guest.check("fd_sync", fd)
    guest.write(fd, b"b" * 3000, at=100)
    states = set()
    for seed in range(60):
        disk.power_cut(tmp_path / f"{seed}", seed)
        disk.power_cut(tmp_path / f"{seed}-again", seed)
        state = contents(tmp_path / f"{seed}")["old"]
        assert state == contents(tmp_path / f"{seed}-again")["old"]
        assert len(state) == 4096
        edges = [i for i in range(1, 4096) if state[i] != state[i - 1]]
        assert all(edge in (100, 3100) or edge % 512 == 0 for edge in edges)
        states.add(state)
    assert b"a" * 4096 in states
    assert b"a" * 100 + b"b" * 3000 + b"a" * 996 in states
    assert len(states) > 5


def test_truncation_and_appends_are_changes(guest: Guest, disk: SimulatedDisk, tmp_path: Path) -> None:
    fd = guest.open("old", fdflags=APPEND)
    guest.write(fd, b"!")
    guest.check("fd_filestat_set_size", fd, 5)
    guest.write(fd, b"+")
    guest.check("fd_allocate", fd, 0, 8)
    disk.power_cut(tmp_path / "a", 0, keep="everything")
    assert contents(tmp_path / "a")["old"] == b"old c+\0\0"
    disk.power_cut(tmp_path / "b", 0, keep="nothing")
    assert contents(tmp_path / "b")["old"] == b"old contents"


def test_a_failed_flush_promises_nothing(guest: Guest, root: Path, tmp_path: Path) -> None:
    disk = SimulatedDisk(root, faults=[Fault("datasync", at=1, error=errno.EIO)])
    watch(guest, disk)
    fd = guest.open("new", oflags=CREAT)
    guest.write(fd, b"x")
    guest.check("fd_datasync", fd, errno="IO")
    guest.check("fd_sync", ROOT)
    disk.power_cut(tmp_path / "a", 0, keep="nothing")
    assert contents(tmp_path / "a") == {"new": b""}


def test_faults_come_when_they_are_due(guest: Guest, root: Path) -> None:
    faults = [Fault("write", at=2, length=3), Fault("write", at=4, error=errno.ENOSPC, sticky=True)]
    disk = SimulatedDisk(root, faults=faults)
    watch(guest, disk)
    fd = guest.open("file", oflags=CREAT)
    assert [guest.write(fd, b"12345") for _ in range(3)] == [5, 3, 5]
    vector = guest.iovecs((guest.reserve(4), 4))
    for _ in range(3):
        guest.check("fd_write", fd, vector, 1, guest.reserve(4), errno="NOSPC")
    disk.heal()
    assert guest.write(fd, b"12345") == 5
    assert disk.calls["write"] == 7


def test_random_faults_repeat_with_their_seed(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"x")
    outcomes = []
    for seed in (5, 5, 6):
        watch(guest, SimulatedDisk(root, seed=seed, faults=[Fault("sync", error=5, probability=0.5)]))
        fd = guest.open("file")
        outcomes.append([guest.raw("fd_sync", fd) for _ in range(40)])
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert set(outcomes[0]) == {"OK", "IO"}
