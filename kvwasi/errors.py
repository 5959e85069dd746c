"""What can go wrong: every error that kvwasi raises on purpose is a :class:`KvError`.

Only arguments that no call takes are a plain TypeError or ValueError.
Where Python has a name for a case already, the class is that too: a missing key is a :class:`KeyError`, a
full disk an :class:`OSError` with its ``errno``, a bad argument a :class:`ValueError`.
"""

from __future__ import annotations

__all__ = [
    "BackupError",
    "ClosedError",
    "CorruptionError",
    "DatabaseBusyError",
    "DatabaseExistsError",
    "DatabaseLockedError",
    "DiskFullError",
    "EngineError",
    "ForkedError",
    "KeyEmptyError",
    "KeyNotFoundError",
    "KeyTooLargeError",
    "KvError",
    "NoSuchDatabaseError",
    "NoSuchTableError",
    "NotADatabaseError",
    "NotANumberError",
    "OutOfMemoryError",
    "PoisonedError",
    "ReadOnlyError",
    "ReservedNameError",
    "StorageError",
    "TimeOrderError",
    "TooManyIteratorsError",
    "TooManySavepointsError",
    "TransactionError",
    "TransactionTimeoutError",
    "ValueTooLargeError",
    "VersionError",
    "ViewsOpenError",
]


class KvError(Exception):
    """The root of kvwasi's errors; also known as ``kvwasi.error``."""


class KeyNotFoundError(KvError, KeyError):
    """The key is not in the store."""


class KeyEmptyError(KvError, ValueError):
    """A key has at least one byte."""


class KeyTooLargeError(KvError, ValueError):
    """A key has at most 1024 bytes."""


class ValueTooLargeError(KvError, ValueError):
    """A value has at most 1 GiB."""


class NotANumberError(KvError, ValueError):
    """Something is to be added to a value that is no whole number of at most 64 bits."""


class ReservedNameError(KvError, ValueError):
    """Names of tables that begin with a NUL character belong to kvwasi itself."""


class ReadOnlyError(KvError):
    """A write through a store that was opened with ``flag="r"``, or through a snapshot."""


class ClosedError(KvError, ValueError):
    """The store is closed, or the transaction, savepoint, snapshot or cursor has ended."""


class ForkedError(ClosedError):
    """The store was opened before a fork, in the parent process: open it again in this one."""


class TransactionError(KvError):
    """A call that does not go with the transaction that is open."""


class TransactionTimeoutError(TransactionError, TimeoutError):
    """Another thread's transaction did not end within the store's ``timeout``."""


class TimeOrderError(KvError, ValueError):
    """The time of an entry of a series is not after that of the entry before it.

    Attributes:
        time: in nanoseconds since 1970.
        last: the other, likewise; -1 if there is none.
    """

    def __init__(self, message: str, time: int = 0, last: int = -1) -> None:
        super().__init__(message)
        self.time = time
        self.last = last


class TooManyIteratorsError(KvError):
    """More than 1024 iterators over a store are unfinished at once, or as many snapshots open."""


class TooManySavepointsError(TransactionError):
    """More than 63 savepoints are open in a transaction at once."""


class DatabaseLockedError(KvError):
    """Another process, or this one, has the database open to write it, or alone.

    Attributes:
        path: the database.
        pids: the processes that have it open, as far as they could be found out.
    """

    def __init__(self, message: str, path: str = "", pids: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.pids = pids


class DatabaseBusyError(KvError, TimeoutError):
    """Another process changed the database faster than it could be read beside it."""


class DatabaseExistsError(KvError, FileExistsError):
    """There is a file of that name already."""


class NoSuchDatabaseError(KvError, FileNotFoundError):
    """There is no file of that name, or no directory to make it in."""


class BackupError(KvError, ValueError):
    """A file is no backup, was changed since, or continues one that is not there."""


class ViewsOpenError(KvError, BufferError):
    """Views of values (``get(view=True)``) are in use: what they show has to stay until they are gone."""


class NoSuchTableError(KvError, LookupError):
    """There is no table of that name, or it has been dropped."""


class NotADatabaseError(KvError):
    """What lies at the path is no kvwasi database: another format, a directory, a pipe, a device."""


class VersionError(KvError):
    """The database has another version of the file format than this one can read."""


class CorruptionError(KvError):
    """The file holds something else than what was written and synced.

    Attributes:
        offset: where in the file, in bytes.
        kind: what is damaged: ``superblock``, ``sector``, ``record``, ``value``, ``truncated`` or ``index``.
    """

    def __init__(self, message: str, offset: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.kind = kind


class StorageError(KvError, OSError):
    """The operating system failed a read, a write or a flush; ``errno`` says how."""


class DiskFullError(StorageError):
    """No space is left. Nothing was changed, and the store goes on."""


class PoisonedError(KvError):
    """An earlier write or flush failed, so what is on disk is unknown: close the store and open it again."""


class OutOfMemoryError(KvError, MemoryError):
    """The engine's memory is used up. Nothing was changed."""


class EngineError(KvError):
    """The engine broke one of its own rules, a defect of kvwasi. The store answers nothing until reopened."""
