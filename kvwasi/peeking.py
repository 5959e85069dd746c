"""A look into a database while another process writes it: without a lock, and checked afterwards.

What checkpoint n refers to, and the log behind it, may be used again when checkpoint n + 2 is on disk, not
before: as long as there is no such superblock, a crash could still lead back to n (guest-db/DESIGN.md, "Why
both slots are protected"). So whoever began with n, and finds n or n + 1 to be the newest when done, has read
what a recovery at that moment would have read: all of some number of commits, and nothing else.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from typing import TypeVar

from kvwasi import opening
from kvwasi.engine import _engine
from kvwasi.errors import (
    CorruptionError,
    DatabaseBusyError,
    NoSuchDatabaseError,
    NotADatabaseError,
    StorageError,
)
from kvwasi.store import Store, StrPath
from kvwasi.wasi.filelock import UnsuitableFileError, locate

T = TypeVar("T")
_SLOTS = (0, 4096)
_SUPERBLOCK_BYTES, _SEQUENCE_AT = 256, 48
_PAUSE_SECONDS = 0.002


def peek(path: StrPath, read: Callable[[Store], T], *, timeout: float = 10.0) -> T:
    """Read a database that another process may be writing, and return what ``read`` returns.

    ``read`` is called with the store, open to be read only, as it was at one moment: every commit before
    that, whether on disk yet or not, and none after. It is called again, with a later one, if the writer went
    on so fast that what was read may have been used again; so it should be short, and do nothing but read.

    Args:
        path: the database.
        read: called with a :class:`kvwasi.Store`, which is closed when it returns.
        timeout: seconds after which the attempts end.

    Raises:
        DatabaseBusyError: the writer was too fast for ``read`` each time.
        NoSuchDatabaseError, NotADatabaseError, VersionError, CorruptionError, StorageError
        Whatever ``read`` raises.

    >>> import kvwasi, tempfile
    >>> with tempfile.TemporaryDirectory() as place, kvwasi.open(f"{place}/my.kv") as store:
    ...     store["k"] = "v"
    ...     kvwasi.peek(f"{place}/my.kv", lambda seen: seen["k"])
    b'v'
    """
    given = os.fsdecode(path)
    deadline = time.monotonic() + timeout
    while True:
        failure: Exception
        try:
            real, there = locate(path)
            if not there:
                raise NoSuchDatabaseError(2, "no such database", given)
            with open(real, "rb", buffering=0) as file, opening.open_unlocked(real) as store:
                look = _Look(store, file.fileno(), real)
                try:
                    result = read(store)
                except Exception:
                    if look.counts():
                        raise
                else:
                    if look.counts():
                        return result
            failure = DatabaseBusyError(f"{given} changed faster than it could be read")
        except (UnsuitableFileError, FileNotFoundError) as error:
            raise _typed(error, given) from None
        except (CorruptionError, NotADatabaseError, StorageError) as error:
            if not opening.is_written(os.path.realpath(given)):
                raise  # so it is
            failure = error
        if time.monotonic() >= deadline:
            raise failure
        time.sleep(_PAUSE_SECONDS)


class _Look:
    """What a look began with."""

    def __init__(self, store: Store, file: int, real: str) -> None:
        self._file = file
        self._began = store.stats().checkpoint
        self._same = os.stat(real).st_ino == os.fstat(file).st_ino  # else it was compacted in between

    def counts(self) -> bool:
        """Whether what was read until now can be relied on."""
        newest = _newest_sequence(self._file)
        return self._same and newest is not None and newest <= self._began + 1


def _typed(error: OSError, given: str) -> Exception:
    if isinstance(error, UnsuitableFileError):
        return NotADatabaseError(error.strerror)
    return (
        error if isinstance(error, NoSuchDatabaseError) else NoSuchDatabaseError(2, "no such database", given)
    )


def _newest_sequence(file: int) -> int | None:
    """The number of the newest superblock; None: one of them is being written."""
    newest = 0
    for slot in _SLOTS:
        data = os.pread(file, _SUPERBLOCK_BYTES, slot)
        if not data.strip(b"\0"):
            continue
        if len(data) < _SUPERBLOCK_BYTES or _engine.hash64(data[8:]) != struct.unpack_from("<Q", data)[0]:
            return None
        newest = max(newest, struct.unpack_from("<Q", data, _SEQUENCE_AT)[0])
    return newest


__all__ = ["peek"]
