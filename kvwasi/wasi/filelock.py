"""Who has a database file open: a lock between processes, and a registry within this one.

The lock lies on a file ``<path>-lock`` beside the database, under its real path, which is never deleted: a
waiter could hold a lock on a deleted one. It holds the writer's process id. Everybody shares a ``flock`` on
it, and who writes has an exclusive lock on its last byte besides, one of the open file description (fcntl(2),
``F_OFD_SETLK``). A program that does not know of readers beside a writer (an earlier version, the C library)
takes the ``flock`` exclusively to write, and so keeps everybody else out. Closing a descriptor that a child
process inherited does not unlock, so a fork does not disturb the parent's lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import stat
import struct
import sys
import threading
import weakref
from typing import ClassVar, Literal, TypeAlias

__all__ = ["FileLock", "LockHeldError", "UnsuitableFileError", "Use", "identity_of", "locate"]

Use: TypeAlias = Literal["read", "still", "write"]

_WRITER_BYTE = 2**63 - 2  # the last one that a lock can be on

_PROC_LOCKS = "/proc/locks"


class LockHeldError(OSError):
    """The file is open elsewhere, in the processes ``pids`` (as far as they could be found out)."""

    def __init__(self, path: str, pids: tuple[int, ...]) -> None:
        super().__init__(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), path)
        self.pids = pids


class UnsuitableFileError(OSError):
    """What lies at the path is not a regular file."""


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "not a regular file"


def locate(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> tuple[str, bool]:
    """The real path of a file, symbolic links followed, and whether it is there.

    Raises:
        UnsuitableFileError: it is a directory, a pipe, a device, or a symbolic link that leads nowhere.
        FileNotFoundError: the directory it would be in is not there.
    """
    given = os.fsdecode(path)
    real = os.path.realpath(given)
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        if os.path.islink(given):
            raise UnsuitableFileError(
                errno.EINVAL, f"{given} is a symbolic link that leads nowhere"
            ) from None
        parent = os.path.dirname(real)
        if not os.path.isdir(parent):
            raise FileNotFoundError(errno.ENOENT, "no such directory", parent) from None
        return real, False
    if not stat.S_ISREG(mode):
        raise UnsuitableFileError(errno.EINVAL, f"{given} is {_kind(mode)}")
    return real, True


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None: there is none that can be seen."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


class FileLock:
    """The lock of one opener.

    It ends with :meth:`release`, or with the last reference: an exception of a signal handler may come before
    anybody owns it.

    Args:
        path: real path of the database.
        use: ``"write"``, by one at a time; ``"read"``, by any number, also beside a writer; ``"still"``, to
            read what nobody may write meanwhile.

    Raises:
        LockHeldError: somebody else has it.
        OSError: the lock file can't be made or locked.
    """

    _guard: ClassVar[threading.Lock] = threading.Lock()
    _held: ClassVar[weakref.WeakSet[FileLock]] = weakref.WeakSet()  # in this process

    def __init__(self, path: str, use: Use) -> None:
        self.path = path
        self.use: Use = use
        self._file: io.FileIO | None = None  # closes itself
        self._identity: tuple[int, int] | None = None
        with self._guard:
            self.identify()
            for other in list(self._held):
                same = other.path == path or (self._identity and other._identity == self._identity)
                if same and "read" not in (use, other.use) and "write" in (use, other.use):
                    raise LockHeldError(path, (os.getpid(),))
            self._file = self._open()
            if self._file is not None:
                self._lock(self._file)
            self._held.add(self)

    def identify(self) -> None:
        """Look again which file lies at the path: it has been made or replaced."""
        self._identity = identity_of(self.path)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file at the path when it was last looked at; None: there was none."""
        return self._identity

    @property
    def exists(self) -> bool:
        """Whether there was a file at the path when it was last looked at."""
        return self._identity is not None

    def _open(self) -> io.FileIO | None:
        name = self.path + "-lock"
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return io.FileIO(os.open(name, flags | os.O_RDWR | os.O_CREAT, 0o666), "r+")
        except OSError as error:
            if self.use == "write" or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            try:  # a reader needs no more than to read it, and nothing where nobody can write
                return io.FileIO(os.open(name, flags | os.O_RDONLY), "r")
            except FileNotFoundError:
                return None

    def _lock(self, file: io.FileIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if self.use != "read":
                _lock_writer_byte(file, fcntl.F_WRLCK if self.use == "write" else fcntl.F_RDLCK)
        except (BlockingIOError, PermissionError):  # of locks both mean the same (fcntl(2))
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            pids = _holders(file.fileno())
            file.close()
            raise LockHeldError(self.path, pids) from None
        if self.use == "write":
            os.ftruncate(file.fileno(), 0)
            os.pwrite(file.fileno(), b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Unlock, also for the copies of the descriptor that child processes may have. Can be repeated."""
        if self._file is not None and not self._file.closed:
            with contextlib.suppress(OSError):
                if self.use == "write":
                    os.ftruncate(self._file.fileno(), 0)
                if self.use != "read":
                    _lock_writer_byte(self._file, fcntl.F_UNLCK)
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()
        with self._guard:
            self._held.discard(self)

    @classmethod
    def _after_fork_in_child(cls) -> None:
        """The parent's locks are not ours; and a child that outlives the parent must not keep them."""
        cls._guard = threading.Lock()
        for lock in list(cls._held):
            if lock._file is not None:
                lock._file.close()  # of a copy: that does not unlock
        cls._held = weakref.WeakSet()


os.register_at_fork(after_in_child=FileLock._after_fork_in_child)


def _lock_writer_byte(file: io.FileIO, kind: int) -> None:
    """``struct flock`` of 64-bit Linux, or of macOS; the process id in it is 0 for these locks."""
    if sys.platform == "darwin":
        request = struct.pack("qqihh", _WRITER_BYTE, 1, 0, kind, os.SEEK_SET)
    else:
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, _WRITER_BYTE, 1, 0)
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, request)


def _holders(fd: int) -> tuple[int, ...]:
    """The processes in the way: the writer, or whoever keeps writers out, as far as that can be told."""
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    sharing: list[int] = []
    alone: list[int] = []
    writer = 0
    with contextlib.suppress(OSError, ValueError):
        writer = int(os.pread(fd, 32, 0))
    try:
        with open(_PROC_LOCKS, encoding="ascii") as lines:
            # "1: FLOCK  ADVISORY  WRITE 708 fd:00:260 0 EOF" (proc_locks(5)); "->" marks one that waits
            for fields in map(str.split, lines):
                if fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
                    (alone if fields[3] == "WRITE" else sharing).append(int(fields[4]))
    except (OSError, ValueError):
        sharing.append(writer)
    if writer in sharing and not alone:  # else it was killed
        alone.append(writer)
    return tuple(sorted({pid for pid in alone or sharing if pid > 0}))
