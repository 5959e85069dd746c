"""Random sequences of calls, on our host and on wasmtime-py's own: the same results, errnos and tree."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasi_guest import APPEND, CREAT, DIRECTORY, EXCL, READ, ROOT, TRUNC, WRITE, Guest, Mode

MODES: tuple[Mode, ...] = ("shared", "exclusive", "wasmtime")

PLAIN = ["a", "b", "c", "d", "d/a", "d/b", "e", "e/d", "d/../a", "./b", "l", "l/a", "../x", ""]
NAMES = st.sampled_from([*PLAIN, "d/", "a/", "..", "."])
HANDLES = st.integers(0, 5)
SIZES = st.integers(0, 9000)

Step = tuple[object, ...]


def steps() -> st.SearchStrategy[Step]:
    """One call and its arguments."""
    return st.one_of(
        st.tuples(
            st.just("open"),
            NAMES,
            # Their CREAT and TRUNC make a descriptor writable that was opened for reading: ask for both.
            st.sampled_from([(0, READ), (0, WRITE), (DIRECTORY, READ), (CREAT | EXCL, WRITE)])
            | st.sampled_from([(flags, READ | WRITE) for flags in (0, CREAT, TRUNC, CREAT | TRUNC)]),
            st.sampled_from([0, 0, APPEND]),
            st.integers(0, 1),
        ),
        st.tuples(st.just("close"), HANDLES),
        st.tuples(st.just("write"), HANDLES, st.binary(max_size=40)),
        st.tuples(st.just("burst"), HANDLES, st.integers(0, 5000), st.integers(1, 40)),
        st.tuples(st.just("pwrite"), HANDLES, st.binary(max_size=40), SIZES),
        st.tuples(st.just("read"), HANDLES, SIZES),
        st.tuples(st.just("pread"), HANDLES, SIZES, SIZES),
        st.tuples(st.just("seek"), HANDLES, st.integers(-100, 9000), st.integers(0, 2)),
        st.tuples(st.just("tell"), HANDLES),
        st.tuples(st.just("resize"), HANDLES, SIZES),
        st.tuples(st.just("sync"), HANDLES),
        st.tuples(st.just("fstat"), HANDLES),
        st.tuples(st.just("stat"), NAMES, st.integers(0, 1)),
        st.tuples(st.just("mkdir"), NAMES),
        st.tuples(st.just("rmdir"), st.sampled_from(PLAIN)),  # theirs refuses a trailing slash
        st.tuples(st.just("unlink"), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("link"), NAMES, NAMES),
        st.tuples(st.just("symlink"), st.sampled_from(["a", "d", "d/a", "../x", "l", "nowhere"]), NAMES),
        st.tuples(st.just("readlink"), NAMES, st.integers(0, 10)),
        st.tuples(st.just("list"), st.integers(30, 300)),
    )


class Player:
    """One host, and the handles that the steps speak of: each host may number its descriptors at will."""

    def __init__(self, mode: Mode, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.guest = Guest(mode, [(root, "/", True)])
        self.handles: list[int] = []

    def play(self, step: Step) -> object:
        name, *args = step
        with self.guest.scratch():
            call: Callable[..., object] = getattr(self, f"do_{name}")
            return call(*args)

    def fd(self, handle: int) -> int:
        return self.handles[handle] if handle < len(self.handles) else 999

    def tree(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for directory, directories, files in os.walk(self.root):
            for name in directories + files:
                path = Path(directory) / name
                key = str(path.relative_to(self.root))
                if path.is_symlink():
                    found[key] = ("link", os.readlink(path))
                else:
                    found[key] = "directory" if path.is_dir() else path.read_bytes()
        return found

    def do_open(self, path: str, how: tuple[int, int], fdflags: int, follow: int) -> str:
        oflags, rights = how
        error, fd = self.guest.try_open(path, oflags=oflags, rights=rights, fdflags=fdflags, follow=follow)
        if error == "OK":
            if len(self.handles) == 6:
                self.guest.raw("fd_close", self.handles.pop(0))
            self.handles.append(fd)
        return error

    def do_close(self, handle: int) -> str:
        error = self.guest.raw("fd_close", self.fd(handle))
        if error == "OK":
            del self.handles[handle]
        return error

    def transfer(self, call: str, handle: int, address: int, length: int, *offset: int) -> tuple[str, int]:
        result = self.guest.put(bytes(4))
        vector = self.guest.iovecs((address, length))
        error = self.guest.raw(call, self.fd(handle), vector, 1, *offset, result)
        return error, int.from_bytes(self.guest.get(result, 4), "little")

    def do_write(self, handle: int, data: bytes) -> object:
        return self.transfer("fd_write", handle, self.guest.put(data), len(data))

    def appends(self, handle: int) -> bool:
        """Where POSIX has a positioned write go to its position, Linux appends, and so do they."""
        data = self.guest.put(bytes(24))
        error = self.guest.raw("fd_fdstat_get", self.fd(handle), data)
        return error == "OK" and self.guest.get(data, 3) == bytes([4, 0, APPEND])  # a regular file

    def do_burst(self, handle: int, at: int, count: int) -> object:
        if self.appends(handle):
            return None
        address = self.guest.put(b"burst")
        return [self.transfer("fd_pwrite", handle, address, 5, at + i * 3) for i in range(count)][-1]

    def do_pwrite(self, handle: int, data: bytes, offset: int) -> object:
        if self.appends(handle):
            return None
        return self.transfer("fd_pwrite", handle, self.guest.put(data), len(data), offset)

    def do_read(self, handle: int, length: int) -> object:
        buffer = self.guest.put(bytes(length))
        return *self.transfer("fd_read", handle, buffer, length), self.guest.get(buffer, length)

    def do_pread(self, handle: int, length: int, offset: int) -> object:
        buffer = self.guest.put(bytes(length))
        return *self.transfer("fd_pread", handle, buffer, length, offset), self.guest.get(buffer, length)

    def do_seek(self, handle: int, offset: int, whence: int) -> object:
        result = self.guest.put(bytes(8))
        return self.guest.raw("fd_seek", self.fd(handle), offset, whence, result), self.guest.get(result, 8)

    def do_tell(self, handle: int) -> object:
        result = self.guest.put(bytes(8))
        return self.guest.raw("fd_tell", self.fd(handle), result), self.guest.get(result, 8)

    def do_resize(self, handle: int, size: int) -> object:
        return self.guest.raw("fd_filestat_set_size", self.fd(handle), size)

    def do_sync(self, handle: int) -> object:
        return self.guest.raw("fd_datasync", self.fd(handle))

    def stat_of(self, error: str, result: int) -> object:
        data = self.guest.get(result, 64)
        return error, data[16:17], data[24:40] if data[16] == 4 else b""  # kind; links and size of files

    def do_fstat(self, handle: int) -> object:
        result = self.guest.put(bytes(64))
        return self.stat_of(self.guest.raw("fd_filestat_get", self.fd(handle), result), result)

    def do_stat(self, path: str, follow: int) -> object:
        result = self.guest.put(bytes(64))
        error = self.guest.raw("path_filestat_get", ROOT, follow, *self.guest.path(path), result)
        return self.stat_of(error, result)

    def do_mkdir(self, path: str) -> str:
        return self.guest.path_call("path_create_directory", path)

    def do_rmdir(self, path: str) -> str:
        return self.guest.path_call("path_remove_directory", path)

    def do_unlink(self, path: str) -> str:
        return self.guest.path_call("path_unlink_file", path)

    def do_rename(self, old: str, new: str) -> str:
        return self.guest.raw("path_rename", ROOT, *self.guest.path(old), ROOT, *self.guest.path(new))

    def do_link(self, old: str, new: str) -> str:
        return self.guest.raw("path_link", ROOT, 0, *self.guest.path(old), ROOT, *self.guest.path(new))

    def do_symlink(self, target: str, new: str) -> str:
        return self.guest.raw("path_symlink", *self.guest.path(target), ROOT, *self.guest.path(new))

    def do_readlink(self, path: str, capacity: int) -> object:
        buffer, used = self.guest.put(bytes(20)), self.guest.put(bytes(4))
        error = self.guest.raw("path_readlink", ROOT, *self.guest.path(path), buffer, capacity, used)
        return error, self.guest.get(buffer, 20), self.guest.get(used, 4)

    def do_list(self, buffer: int) -> object:
        return sorted((name, kind) for name, _, kind in self.guest.listing(ROOT, buffer))


def same(step: Step, ours: object, theirs: object) -> bool:
    """Whether the results agree. Of several errors that apply, POSIX lets each host choose one."""
    if ours == theirs:
        return True
    if not isinstance(ours, str) or not isinstance(theirs, str) or "OK" in (ours, theirs):
        return False
    if step[0] in ("rename", "link", "symlink"):
        return True
    path = str(step[1])
    if step[0] == "open" and {ours, theirs} <= {"LOOP", "NOTDIR", "ISDIR", "EXIST", "INVAL"}:
        return True
    return path.endswith(("/", "..", ".")) or "/../" in path


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps(), min_size=1, max_size=40))
def test_hosts_agree(sequence: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        players = [Player(mode, Path(directory) / mode) for mode in MODES]
        try:
            for step in sequence:
                shared, exclusive, theirs = (player.play(step) for player in players)
                assert shared == exclusive, step
                assert same(step, shared, theirs), (step, shared, theirs)
            trees = [player.tree() for player in players]
            assert trees[0] == trees[1] == trees[2]
        finally:
            for player in players:
                player.guest.close()
