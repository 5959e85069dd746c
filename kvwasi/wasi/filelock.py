"""Who has a database file open: a lock between processes, and a registry within this one.

The lock is ``flock`` on a file ``<path>-lock`` beside the database, under its real path; shared for
readers, exclusive for a writer. The file is never deleted: a waiter could hold a lock on a deleted one. It
holds the writer's process id. Closing a descriptor that a child process inherited does not unlock, so a
fork does not disturb the parent's lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import stat
import threading
import weakref
from typing import ClassVar

__all__ = ["FileLock", "LockHeldError", "UnsuitableFileError", "locate"]

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


class FileLock:
    """The lock of one opener. ``exclusive`` for a writer; a reader shares it with other readers.

    It ends with :meth:`release`, or with the last reference: an exception of a signal handler may come before
    anybody owns it.

    Args:
        path: real path of the database.

    Raises:
        LockHeldError: somebody else has it.
        OSError: the lock file can't be made or locked.
    """

    _guard: ClassVar[threading.Lock] = threading.Lock()
    _held: ClassVar[weakref.WeakSet[FileLock]] = weakref.WeakSet()  # in this process

    def __init__(self, path: str, *, exclusive: bool) -> None:
        self.path = path
        self.exclusive = exclusive
        self._file: io.FileIO | None = None  # closes itself
        self._identity: tuple[int, int] | None = None
        with self._guard:
            self.identify()
            for other in list(self._held):
                same = other.path == path or (self._identity and other._identity == self._identity)
                if same and (exclusive or other.exclusive):
                    raise LockHeldError(path, (os.getpid(),))
            self._file = self._open()
            if self._file is not None:
                self._lock(self._file)
            self._held.add(self)

    def identify(self) -> None:
        """Look again which file lies at the path: it has been made or replaced."""
        self._identity = None
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            self._identity = (status.st_dev, status.st_ino)

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
            if self.exclusive or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            try:  # a reader needs no more than to read it, and nothing where nobody can write
                return io.FileIO(os.open(name, flags | os.O_RDONLY), "r")
            except FileNotFoundError:
                return None

    def _lock(self, file: io.FileIO) -> None:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if self.exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            pids = _holders(file.fileno())
            file.close()
            raise LockHeldError(self.path, pids) from None
        if self.exclusive:
            os.ftruncate(file.fileno(), 0)
            os.pwrite(file.fileno(), b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Unlock, also for the copies of the descriptor that child processes may have. Can be repeated."""
        if self._file is not None and not self._file.closed:
            with contextlib.suppress(OSError):
                if self.exclusive:
                    os.ftruncate(self._file.fileno(), 0)
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


def _holders(fd: int) -> tuple[int, ...]:
    """The processes that hold the lock: as the kernel says, else as the lock file says."""
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    pids: list[int] = []
    with contextlib.suppress(OSError, ValueError), open(_PROC_LOCKS, encoding="ascii") as lines:
        # "1: FLOCK  ADVISORY  WRITE 708 fd:00:260 0 EOF" (proc_locks(5)); "->" marks one that waits
        for fields in map(str.split, lines):
            if fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
                pids.append(int(fields[4]))
    if not pids:
        with contextlib.suppress(OSError, ValueError):
            pids.append(int(os.pread(fd, 32, 0)))
    return tuple(sorted(set(pids)))
