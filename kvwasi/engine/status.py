"""One translation from the engine's statuses to exceptions."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from kvwasi import errors

# kv_status of guest-db/include/kv_guest.h, and the outcomes of native/session.h
KEY_EMPTY = 17
KEY_TOO_LARGE = 18
VALUE_TOO_LARGE = 19

_KINDS = {1: "superblock", 2: "sector", 3: "record", 4: "value", 5: "truncated", 6: "index", 7: "pages"}

# WASI preview1 numbers its errnos in this order (witx, typenames.witx, $errno).
_WASI_ERRNOS = [
    "",
    *"""
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADMSG EBUSY ECANCELED
    ECHILD ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG
    EHOSTUNREACH EIDRM EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMLINK EMSGSIZE
    EMULTIHOP ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH ENFILE ENOBUFS ENODEV ENOENT ENOEXEC ENOLCK
    ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTRECOVERABLE ENOTSOCK
    ENOTSUP ENOTTY ENXIO EOVERFLOW EOWNERDEAD EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE EROFS
    ESPIPE ESRCH ESTALE ETIMEDOUT ETXTBSY EXDEV
    """.split(),  # noqa: SIM905
]
_WASI_NOTCAPABLE = 76


def problem_kind(detail: int) -> str:
    """The name of a ``kv_detail``."""
    return _KINDS.get(detail, "unknown")


def os_errno(wasi_errno: int) -> int:
    """The operating system's number for WASI's ``wasi_errno``."""
    if 0 < wasi_errno < len(_WASI_ERRNOS):
        return int(getattr(errno, _WASI_ERRNOS[wasi_errno], errno.EIO))
    return errno.EACCES if wasi_errno == _WASI_NOTCAPABLE else errno.EIO


_Make = Callable[[str, int, int, int, str], errors.KvError]


def _storage(kind: type[errors.StorageError], number: int, path: str, note: str = "") -> errors.StorageError:
    text = os.strerror(number)
    return kind(number, f"{text} ({note})" if note else text, path)


def _corrupt(path: str, position: int, detail: int) -> errors.CorruptionError:
    kind = problem_kind(detail)
    return errors.CorruptionError(f"{path}: damaged {kind} at offset {position}", position, kind)


def _plain(kind: type[errors.KvError], text: str) -> _Make:
    return lambda path, position, detail, os_error, message: kind(text)


def _at_path(kind: type[errors.KvError], text: str) -> _Make:
    return lambda path, position, detail, os_error, message: kind(f"{path}: {text}")


_TRANSLATION: dict[int, _Make] = {
    16: _plain(errors.EngineError, "the engine refused an argument"),
    KEY_EMPTY: _plain(errors.KeyEmptyError, "a key has at least one byte"),
    KEY_TOO_LARGE: _plain(errors.KeyTooLargeError, "a key has at most 1024 bytes"),
    VALUE_TOO_LARGE: _plain(errors.ValueTooLargeError, "a value has at most 1 GiB (1073741824 bytes)"),
    20: _at_path(errors.ReadOnlyError, "opened read-only"),
    21: _plain(errors.TransactionError, "a transaction or a compaction is open"),
    22: _plain(errors.TransactionError, "no transaction is open"),
    23: _plain(errors.TransactionError, "a write of this transaction failed: roll it back"),
    24: lambda path, *_: errors.NoSuchDatabaseError(errno.ENOENT, os.strerror(errno.ENOENT), path),
    25: _at_path(errors.NotADatabaseError, "not a kvwasi database"),
    26: _at_path(errors.VersionError, "written by a version of kvwasi with another file format"),
    27: lambda path, position, detail, *_: _corrupt(path, position, detail),
    28: lambda path, position, detail, os_error, _: _storage(errors.StorageError, os_errno(os_error), path),
    29: lambda path, position, detail, os_error, _: _storage(
        errors.DiskFullError, os_errno(os_error) if os_error else errno.ENOSPC, path
    ),
    30: _at_path(errors.PoisonedError, "an earlier write or flush failed: close and open again"),
    31: _plain(errors.OutOfMemoryError, "the engine's memory is used up"),
    32: _plain(errors.ClosedError, "the store is closed"),
    33: _plain(
        errors.TooManyIteratorsError, "more than 1024 iterators or snapshots are open, or 63 savepoints"
    ),
    34: _plain(errors.NoSuchTableError, "the table has been dropped"),
    100: _plain(errors.ClosedError, "the store is closed"),
    101: _at_path(errors.ForkedError, "opened by the parent process: open it again in this one"),
    102: lambda path, position, detail, os_error, message: errors.EngineError(f"{path}: {message}"),
    103: _plain(errors.TransactionTimeoutError, "another thread's transaction did not end in time"),
    104: _plain(
        errors.TransactionError,
        "this thread has a transaction open on the store: write through the transaction, or end it",
    ),
    107: lambda path, position, detail, os_error, _: _storage(
        errors.StorageError,
        os_error,
        path,
        "the flush failed; whether the commit is on disk shows on reopening",
    ),
    108: lambda path, position, detail, *_: _corrupt(path, position, 5),
    109: lambda path, position, detail, *_: _corrupt(path, position, 4),
    110: _plain(errors.ClosedError, "the transaction has ended"),
    111: lambda path, position, detail, os_error, _: _storage(errors.StorageError, os_error, path),
    112: _plain(errors.ClosedError, "the snapshot is closed"),
}


def error(status: int, path: str, position: int, detail: int, os_error: int, message: str) -> errors.KvError:
    """The exception for a status that is an error."""
    make = _TRANSLATION.get(status)
    if make is None:
        return errors.EngineError(f"{path}: unexpected status {status} of the engine")
    return make(path, position, detail, os_error, message)
