"""Opening a database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from kvwasi import defaults as _defaults
from kvwasi.engine import _engine, module
from kvwasi.errors import (
    CorruptionError,
    DatabaseLockedError,
    NoSuchDatabaseError,
    NotADatabaseError,
    StorageError,
)
from kvwasi.store import SYNC_MODES, Handle, Store, StrPath, SyncMode
from kvwasi.wasi.filelock import FileLock, LockHeldError, UnsuitableFileError, locate

T = TypeVar("T")
Flag: TypeAlias = Literal["r", "w", "c", "n"]

# kv_guest_open of guest-db/include/kv_guest.h
_READ_ONLY, _CREATE, _REPLACE, _SHARED = 1, 2, 4, 8
_FLAGS = {"r": _READ_ONLY, "w": 0, "c": _CREATE, "n": _CREATE | _REPLACE}
_SECTOR_BYTES_MIN, _SECTOR_BYTES_MAX = 256 << 10, 64 << 20
_CACHE_BYTES_MIN, _CACHE_BYTES_MAX = 4 << 20, 2 << 30
_PEEK_CACHE_BYTES = 64 << 20
_INTERVAL_MS_MAX = 24 * 60 * 60 * 1000
_ATTEMPTS, _PAUSE_SECONDS = 200, 0.002  # to read beside a writer


def _check_arguments(
    flag: str, sync: str, interval_ms: int, timeout: float | None, sector_bytes: int, cache_bytes: int
) -> None:
    if flag not in _FLAGS:
        raise ValueError(f"flag is one of {', '.join(_FLAGS)}, not {flag!r}")
    if sync not in SYNC_MODES:
        raise ValueError(f"sync is one of {', '.join(SYNC_MODES)}, not {sync!r}")
    if not 1 <= interval_ms <= _INTERVAL_MS_MAX:
        raise ValueError("interval_ms is at least 1, and at most a day")
    if timeout is not None and not timeout >= 0:
        raise ValueError("timeout is negative")
    power_of_two = sector_bytes & (sector_bytes - 1) == 0
    if sector_bytes and not (power_of_two and _SECTOR_BYTES_MIN <= sector_bytes <= _SECTOR_BYTES_MAX):
        raise ValueError("sector_bytes is a power of two from 256 KiB to 64 MiB")
    if not _CACHE_BYTES_MIN <= cache_bytes <= _CACHE_BYTES_MAX:
        raise ValueError("cache_bytes is from 4 MiB to 2 GiB")


def acquire(path: StrPath, flag: str, *, still: bool = False) -> FileLock:
    """The lock on the file to open, or the error that says why there is none to open.

    Args:
        path: of the database.
        flag: as of :func:`open`.
        still: with ``"r"``: whether nobody may write it meanwhile.
    """
    given = os.fsdecode(path)
    try:
        real, there = locate(path)
        if not there and flag in "rw":
            raise FileNotFoundError(2, "no such database", given)
        return FileLock(real, "write" if flag != "r" else "still" if still else "read")
    except LockHeldError as error:
        own = os.getpid()
        names = ["this process" if pid == own else f"process {pid}" for pid in error.pids]
        holder = " and ".join(names) or "another process"
        raise DatabaseLockedError(f"{given} is open in {holder}", given, error.pids) from None
    except UnsuitableFileError as error:
        raise NotADatabaseError(error.strerror) from None
    except FileNotFoundError as error:
        raise NoSuchDatabaseError(error.errno, error.strerror, error.filename) from None
    except OSError as error:
        raise StorageError(error.errno, error.strerror, error.filename) from None


def open(
    path: StrPath,
    flag: Flag = "c",
    *,
    sync: SyncMode = "commit",
    interval_ms: int = 1000,
    timeout: float | None = None,
    sector_bytes: int = 0,
    cache_bytes: int = 256 << 20,
    defaults: Mapping[Any, Any] | None = None,
    defaults_version: int = 1,
) -> Store:
    """Open a database.

    Args:
        path: a file; made if need be, grows by itself. Beside it lies ``<path>-lock``, through which
            processes keep clear of each other.
        flag: as in :mod:`dbm`: ``"r"`` read only, ``"w"`` an existing one, ``"c"`` make it if need be,
            ``"n"`` a new, empty one in place of what is there.
        sync: when a commit counts as done. ``"commit"``: it is on disk. ``"interval"``: the operating
            system has it, and a thread flushes every ``interval_ms`` milliseconds. ``"none"``: the same
            without the thread; :meth:`Store.sync` flushes. In each case a transaction is there whole or not
            at all, whatever happens, and killing the process loses nothing.
        interval_ms: milliseconds.
        timeout: seconds to wait for another thread's transaction before a write gives up; None: as long as
            it takes.
        sector_bytes: unit of allocation of a new database; a power of two from 256 KiB to 64 MiB, 0: 1 MiB.
        cache_bytes: memory for the index, 4 MiB to 2 GiB; what does not fit is read from the file again. A
            quarter of it, at most 64 MiB, is for a hash beside it and for a transaction's waiting puts.
        defaults: entries that the store is to begin with. They are added, all in one transaction, unless
            defaults of this version or a later one have been: to a new database all of them, to an older one
            those whose keys are not there. What is there stays as it is. See also
            :meth:`Store.reset_to_defaults`.
        defaults_version: of ``defaults``, 1 to 2**63 - 1; to be raised when some are added.

    Raises:
        DatabaseLockedError: it is open elsewhere to be written; ``pids`` says where. There is one writer
            at a time; readers (``"r"``) do not wait for it, nor it for them: they show the moment at which
            they were opened, or of the last :meth:`Store.refresh`.
        NoSuchDatabaseError: there is none (``"r"``, ``"w"``), or no directory to make it in.
        NotADatabaseError, VersionError, CorruptionError, StorageError
        ValueError: an argument is out of its range, or there are ``defaults`` for a store that is only read.

    >>> import tempfile, os
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with open(os.path.join(place, "my.kv")) as store:
    ...         store["greeting"] = "hello"
    ...     with open(os.path.join(place, "my.kv"), "r") as store:
    ...         print(store["greeting"])
    b'hello'
    """
    _check_arguments(flag, sync, interval_ms, timeout, sector_bytes, cache_bytes)
    given = None if defaults is None else _defaults.checked(defaults, defaults_version, flag)
    Handle.close_dropped()
    module.ensure_loaded()
    handle = Handle()
    try:
        handle.lock = lock = acquire(path, flag)
        handle.identity = lock.identity
        handle.session = beside_writer(
            lock,
            lambda: _session(
                lock.path,
                flag,
                _SHARED,
                sector_bytes=sector_bytes,
                cache_bytes=cache_bytes,
                durable=sync == "commit",
                interval_ms=interval_ms if sync == "interval" else 0,
                timeout=timeout,
            ),
        )
        if flag == "r":
            handle.session.on_fork = handle.reopen
        else:
            lock.identify()
        store = Store(handle.session, handle, sync)
        if given is not None:
            _defaults.complete(store, given, defaults_version)
            store._defaults = given, defaults_version
        return store
    except BaseException:
        handle.close()
        raise


def beside_writer(lock: FileLock, action: Callable[[], T]) -> T:
    """Read what somebody may be writing: damage that is met may be no more than a write that is under way."""
    quiet = False
    for _ in range(_ATTEMPTS):
        try:
            return action()
        except CorruptionError:
            if lock.use != "read":
                raise
            written = is_written(lock.path)
            if quiet and not written:
                raise
            quiet = not written  # but it may have been, until a moment ago
        time.sleep(_PAUSE_SECONDS)
    return action()


def is_written(real_path: str) -> bool:
    """Whether somebody has it open to write it."""
    try:
        FileLock(real_path, "still").release()
    except LockHeldError:
        return True
    except OSError:
        return False
    return False


def reopen(path: str, cache_bytes: int) -> Store:
    """A pickled store: the database as it is now, to be read."""
    return open(path, "r", cache_bytes=cache_bytes)


def _session(real_path: str, flag: Flag, more_flags: int = 0, **options: Any) -> _engine.Session:
    return _engine.Session(
        real_path,
        os.fsencode(os.path.dirname(real_path)),
        b"/" + os.fsencode(os.path.basename(real_path)),
        flags=_FLAGS[flag] | more_flags,
        **options,
    )


def open_unlocked(real_path: str) -> Store:
    """Open a database to be read, whoever writes it meanwhile: what is read is only right if nobody had used
    again what it lies in, see :mod:`kvwasi.peeking`."""
    module.ensure_loaded()
    handle = Handle()
    try:
        handle.session = _session(
            real_path,
            "r",
            sector_bytes=0,
            cache_bytes=_PEEK_CACHE_BYTES,
            durable=False,
            interval_ms=0,
            timeout=None,
        )
        return Store(handle.session, handle, "none")
    except BaseException:
        handle.close()
        raise


__all__ = ["Flag", "acquire", "beside_writer", "is_written", "open", "open_unlocked", "reopen"]
