"""A simulated disk beneath a host: what is flushed survives a power cut, what is not may be lost or torn.

The files are real, in a directory of the caller's; the simulation watches every storage call, injects faults,
and on demand writes what a disk may legally hold after the power went out. Everything random has a seed.

>>> import os, tempfile
>>> from kvwasi.wasi.simdisk import Fault, SimulatedDisk
>>> with tempfile.TemporaryDirectory() as directory:
...     disk = SimulatedDisk(directory, seed=7, faults=[Fault("write", at=3, error=28)])
...     sorted(os.listdir(directory))
[]
"""

import fcntl
import os
import random
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict

__all__ = ["Fault", "SimulatedDisk"]

SECTOR_BYTES = 512

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Arguments:
        operation: of :class:`kvwasi.wasi.trace.StorageCall`.
        at: which call of that operation, counted from 1.
        error: its errno: ``EIO``, ``ENOSPC``, ``EINTR``. 0 for none.
        length: instead of an error, bytes after which a read or write stops short.
        sticky: every later call of the operation fares the same.
        probability: instead of ``at``, that of each call.
    """

    operation: str
    at: int = 0
    error: int = 0
    length: int | None = None
    sticky: bool = False
    probability: float = 0.0


@dataclass
class _File:
    """A file's bytes: as the disk is known to hold them, and the changes since, in order."""

    durable: bytes
    pending: list["_Change"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Change:
    """A write, or (``data`` None) a new size."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        content.extend(bytes(max(0, self.offset + len(self.data) - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class _NameChange:
    """In the directories ``parents``: names that go (None) or come, with their inode."""

    parents: tuple[str, ...]
    names: dict[str, int | None]


class SimulatedDisk:
    """A watcher for :meth:`kvwasi.wasi.Wasi.watch` or :func:`kvwasi.wasi.trace.watch_new_hosts`.

    Arguments:
        root: the directory that is the disk; what is in it now is durable. Every preopen lies in it.
        seed: of faults with a probability.
        faults: what goes wrong, and when.

    Symbolic links and hard links are not followed by the simulation: regular files and directories are.
    """

    def __init__(self, root: StrPath, *, seed: int = 0, faults: Iterable[Fault] = ()) -> None:
        self.root = Path(os.path.realpath(root))
        self.calls: dict[str, int] = {}
        self._random = random.Random(seed)
        self._faults = list(faults)
        self._stuck: dict[str, Fault] = {}
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}  # durable: path -> inode, 0 for a directory
        self._name_changes: list[_NameChange] = []
        for directory, directories, names in os.walk(self.root):
            for name in directories:
                self._names[self._relative(Path(directory) / name)] = 0
            for name in names:
                path = Path(directory) / name
                inode = path.stat().st_ino
                self._files[inode] = _File(path.read_bytes())
                self._names[self._relative(path)] = inode

    # what hosts tell

    def before(self, call: StorageCall) -> Verdict:
        """Count the call, and fail it when a fault says so."""
        count = self.calls[call.operation] = self.calls.get(call.operation, 0) + 1
        for fault in (self._stuck.get(call.operation), *self._faults):
            if fault is None or fault.operation != call.operation:
                continue
            due = fault.at == count or fault is self._stuck.get(call.operation)
            if due or (fault.probability and self._random.random() < fault.probability):
                if fault.sticky:
                    self._stuck[call.operation] = fault
                return Verdict(fault.error, fault.length)
        return GO_ON

    def after(self, result: Result) -> None:
        """Keep what the call changed."""
        call = result.call
        if call.operation in ("sync", "datasync"):
            self._flushed(call.os_fd, failed=result.error != 0)
            return
        if result.error:
            return
        if call.operation == "open":
            self._opened(result.value, call)
        elif call.operation in ("write", "truncate", "allocate"):
            self._changed(result)
        elif call.operation in ("rename", "link", "unlink", "create_directory", "remove_directory"):
            self._renamed(call)

    def heal(self) -> None:
        """From now on nothing fails."""
        self._faults.clear()
        self._stuck.clear()

    # a power cut

    def power_cut(self, to: StrPath, seed: int, *, keep: str = "some") -> None:
        """Write to the new directory ``to`` what the disk may hold if the power goes out now.

        ``keep``: of what is not flushed, ``"nothing"``, ``"everything"``, or ``"some"``: each write is kept,
        lost, or torn at a multiple of 512 bytes, and of the changes of names a prefix is kept.
        """
        if keep not in ("nothing", "some", "everything"):
            raise ValueError(f"keep is nothing, some or everything, not {keep!r}")
        chance = random.Random(seed)
        names = dict(self._names)
        changes = self._name_changes
        kept = {"nothing": 0, "everything": len(changes)}.get(keep, chance.randint(0, len(changes)))
        for change in changes[:kept]:
            _apply_names(names, change)
        target = Path(to)
        target.mkdir()
        for name in sorted(names):
            inode = names[name]
            if inode == 0:
                (target / name).mkdir(parents=True, exist_ok=True)
            else:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(_survivor(self._files[inode], keep, chance))

    def pending(self) -> int:
        """How many changes a power cut may still lose."""
        return sum(len(file.pending) for file in self._files.values()) + len(self._name_changes)

    # bookkeeping

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _located(self, os_fd: int, path: str) -> str:
        return self._relative(Path(os.path.normpath(os.path.join(_path_of(os_fd), path))))

    def _opened(self, os_fd: int, call: StorageCall) -> None:
        st = os.fstat(os_fd)
        if not stat.S_ISREG(st.st_mode):
            return
        name = self._relative(Path(_path_of(os_fd)))
        if st.st_ino not in self._files or name not in self._current_names():
            self._files[st.st_ino] = _File(b"")
            self._note_names((name,), {name: st.st_ino})
        if call.flags & os.O_TRUNC:
            self._files[st.st_ino].pending.append(_Change(0, None))

    def _changed(self, result: Result) -> None:
        call = result.call
        st = os.fstat(call.os_fd)
        file = self._files.get(st.st_ino)
        if file is None:
            return
        if call.operation == "write":
            assert call.data is not None
            data = call.data[: result.value]
            offset = call.offset
            if offset is None:  # an append: it ends where the descriptor now stands
                offset = os.lseek(call.os_fd, 0, os.SEEK_CUR) - len(data)
            file.pending.append(_Change(offset, data))
        elif call.operation == "truncate":
            file.pending.append(_Change(call.length, None))
        elif (call.offset or 0) + call.length >= st.st_size:
            file.pending.append(_Change(st.st_size, None))

    def _flushed(self, os_fd: int, *, failed: bool) -> None:
        st = os.fstat(os_fd)
        file = self._files.get(st.st_ino)
        if file is not None:
            if not failed:
                content = bytearray(file.durable)
                for change in file.pending:
                    change.apply(content)
                file.durable = bytes(content)
                file.pending.clear()
            # After a failed flush the pages count as clean: what they hold may or may not reach the disk.
            return
        if failed or not stat.S_ISDIR(st.st_mode):
            return
        directory = self._relative(Path(_path_of(os_fd)))
        still = []
        for renaming in self._name_changes:
            if directory in renaming.parents:
                _apply_names(self._names, renaming)
            else:
                still.append(renaming)
        self._name_changes = still

    def _current_names(self) -> dict[str, int]:
        names = dict(self._names)
        for change in self._name_changes:
            _apply_names(names, change)
        return names

    def _note_names(self, of: tuple[str, ...], names: dict[str, int | None]) -> None:
        parents = tuple(str(Path(name).parent) for name in of)
        self._name_changes.append(_NameChange(parents, names))

    def _renamed(self, call: StorageCall) -> None:
        assert call.path is not None
        old = self._located(call.os_fd, call.path)
        now = self._current_names()
        if call.operation in ("unlink", "remove_directory"):
            self._note_names((old,), {old: None})
        elif call.operation == "create_directory":
            self._note_names((old,), {old: 0})
        else:
            assert call.path2 is not None
            assert call.os_fd2 is not None
            new = self._located(call.os_fd2, call.path2)
            names: dict[str, int | None] = {}
            for name, inode in now.items():
                if name == old or name.startswith(old + "/"):
                    names[new + name[len(old) :]] = inode
                    if call.operation == "rename":
                        names[name] = None
            self._note_names((old, new), names)


def _path_of(os_fd: int) -> str:
    """The path under which an open file can be found."""
    if sys.platform == "darwin":
        return os.fsdecode(fcntl.fcntl(os_fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{os_fd}")


def _apply_names(names: dict[str, int], change: _NameChange) -> None:
    for name, inode in change.names.items():
        if inode is None:
            names.pop(name, None)
    for name, inode in change.names.items():
        if inode is not None:
            names[name] = inode


def _survivor(file: _File, keep: str, chance: random.Random) -> bytes:
    content = bytearray(file.durable)
    for change in file.pending:
        fate = keep if keep != "some" else chance.choice(("nothing", "everything", "torn"))
        if fate == "nothing":
            continue
        if fate == "torn" and change.data is not None:
            # The disk writes sectors: the cut is where one of the disk's begins, whatever the write's offset.
            cut = chance.randint(0, len(change.data) // SECTOR_BYTES + 1) * SECTOR_BYTES
            cut = max(0, cut - change.offset % SECTOR_BYTES)
            part = change.data[:cut], change.data[cut:]
            if chance.random() < 0.5:
                change = _Change(change.offset, part[0])
            else:
                change = _Change(change.offset + len(part[0]), part[1])
            if not change.data:
                continue
        change.apply(content)
    return bytes(content)
