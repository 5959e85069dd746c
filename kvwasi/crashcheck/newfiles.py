"""What :class:`kvwasi.wasi.newfile.NewFile` does beside any host: told to a recorder all the same."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvwasi.wasi import newfile
from kvwasi.wasi.trace import Result, StorageCall, Watcher

__all__ = ["watch_new_files"]


@contextmanager
def watch_new_files(watcher: Watcher) -> Iterator[None]:
    """Within this, new files are flushed and named through ``watcher``, which may have it fail.

    Their temporary names are the same each time.
    """
    before = vars(newfile)["os"]
    setattr(newfile, "os", _Watched(watcher))  # noqa: B010
    try:
        yield
    finally:
        setattr(newfile, "os", before)  # noqa: B010


class _Watched:
    """The module :mod:`os`, but for what changes names and flushes."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._numbers = itertools.count()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def urandom(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")

    def fsync(self, descriptor: int) -> None:
        self._call("sync", lambda: os.fsync(descriptor), descriptor)

    def link(self, old: str, new: str) -> None:
        self._call("link", lambda: os.link(old, new), -1, old, new)

    def replace(self, old: str, new: str) -> None:
        self._call("rename", lambda: os.replace(old, new), -1, old, new)

    def unlink(self, name: str) -> None:
        self._call("unlink", lambda: os.unlink(name), -1, name)

    def _call(self, operation: str, do: Callable[[], None], descriptor: int, *paths: str) -> None:
        names = [os.path.basename(path) for path in paths] + [None, None]
        call = StorageCall(operation, descriptor, None, 0, None, 0, None, names[0], names[1])
        verdict = self._watcher.before(call)
        if verdict.error:
            self._watcher.after(Result(call, -1, verdict.error))
            raise OSError(verdict.error, os.strerror(verdict.error))
        try:
            do()
        except OSError as error:
            self._watcher.after(Result(call, -1, error.errno or 0))
            raise
        self._watcher.after(Result(call, 0, 0))
