"""A new file that appears under its name whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys

__all__ = ["NewFile"]


class NewFile:
    """A file that is written under a temporary name in the directory of its place.

    Args:
        path: real path of its place.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.path.dirname(path)
        self.temporary = os.path.join(self.directory, f".kvwasi-{os.urandom(8).hex()}")

    def install(self, *, replace: bool) -> int:
        """Make it durable, give it its name, make that durable. Returns its size in bytes.

        Raises:
            FileExistsError: there is a file of that name, and it is not to be replaced.
            OSError: the file system failed; without that name, or with it if only the last step did.
        """
        size = _flush(self.temporary, os.O_RDONLY)
        if replace:
            os.replace(self.temporary, self.path)
        else:
            os.link(self.temporary, self.path)  # unlike a rename, this replaces nothing
            os.unlink(self.temporary)
        _flush(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        return size

    def discard(self) -> None:
        """Remove what is left under the temporary name, and beside it."""
        for name in (self.temporary, f"{self.temporary}-lock", f"{self.temporary}-new"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _sync(descriptor: int) -> None:
    """``os.fsync``; on macOS, where that leaves data in the drive's cache, out of it, too."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:  # not every file system has it
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def _flush(path: str, flags: int) -> int:
    """Flush a file or a directory; returns its size in bytes."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        _sync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
