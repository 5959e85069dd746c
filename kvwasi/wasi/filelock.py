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
import os
import stat
import threading

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

    Args:
        path: real path of the database.

    Raises:
        LockHeldError: somebody else has it.
        OSError: the lock file can't be made or locked.
    """

    _guard = threading.Lock()
    _held: list[FileLock] = []  # noqa: RUF012  (of the process, on purpose)

    def __init__(self, path: str, *, exclusive: bool) -> None:
        self.path = path
        self.exclusive = exclusive
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        with self._guard:
            self.identify()
            for other in self._held:
                same = other.path == path or (self._identity and other._identity == self._identity)
                if same and (exclusive or other.exclusive):
                    raise LockHeldError(path, (os.getpid(),))
            self._fd = self._lock()
            self._held.append(self)

    def identify(self) -> None:
        """Look again which file lies at the path: it has been made or replaced."""
        self._identity = None
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            self._identity = (status.st_dev, status.st_ino)

    def _lock(self) -> int:
        name = self.path + "-lock"
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(name, flags | os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if self.exclusive or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            try:  # a reader needs no more than to read it, and nothing where nobody can write
                fd = os.open(name, flags | os.O_RDONLY)
            except FileNotFoundError:
                return -1
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if self.exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if self.exclusive:
                os.ftruncate(fd, 0)
                os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            pids = _holders(fd)
            os.close(fd)
            raise LockHeldError(self.path, pids) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def release(self) -> None:
        """Unlock. A child process only drops its copy."""
        with self._guard:
            if self in self._held:
                self._held.remove(self)
            fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with contextlib.suppress(OSError):
            if self.exclusive:
                os.ftruncate(fd, 0)
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    @classmethod
    def _after_fork_in_child(cls) -> None:
        """The parent's locks are not ours; and a child that outlives the parent must not keep them."""
        cls._guard = threading.Lock()
        for lock in cls._held:
            if lock._fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(lock._fd)
            lock._fd = -1
        cls._held = []


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
