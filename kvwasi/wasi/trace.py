"""Watching, or meddling with, every storage call of a host.

>>> import tempfile
>>> from kvwasi.wasi import Preopen, Wasi
>>> from kvwasi.wasi.trace import Recorder
>>> recorder = Recorder()
>>> with tempfile.TemporaryDirectory() as directory:
...     wasi = Wasi(preopens=[Preopen(directory, "/")])
...     wasi.watch(recorder)
...     wasi.close()
>>> {result.call.operation for result in recorder.results}
{'close'}
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from kvwasi.wasi import _host

__all__ = ["Recorder", "Result", "StorageCall", "Verdict", "Watcher", "hook_of", "watch_new_hosts"]


@dataclass(frozen=True, slots=True)
class StorageCall:
    """One call to the operating system that reads, changes or flushes files or names.

    Attributes:
        operation: ``open close read write truncate allocate sync datasync link rename unlink symlink
            create_directory remove_directory``.
        os_fd: this process's descriptor of the file; for names, of the directory that ``path`` starts from.
        os_fd2: of the directory that ``path2`` starts from.
        flags: of ``open``, as for :func:`os.open`.
        offset: in bytes; None for the descriptor's own position (streams, appends).
        length: bytes to move; the new size for ``truncate``.
        data: what ``write`` writes.
        path, path2: names; the old and the new one, or for ``symlink`` the target and the link.
    """

    operation: str
    os_fd: int
    os_fd2: int | None
    flags: int
    offset: int | None
    length: int
    data: bytes | None
    path: str | None
    path2: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """A call that was made: ``value`` is the bytes moved or the new descriptor, ``error`` an errno or 0."""

    call: StorageCall
    value: int
    error: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a call: it fails with ``error`` unmade, or moves no more than ``length`` bytes."""

    error: int = 0
    length: int | None = None


GO_ON = Verdict()


class Watcher(Protocol):
    """What a host tells, from whichever thread makes the call. An exception here is the guest's ``EIO``."""

    def before(self, call: StorageCall) -> Verdict:
        """Decide about a call."""

    def after(self, result: Result) -> None:
        """Take note of it."""


@dataclass
class Recorder:
    """A watcher that lets everything pass and keeps it in ``results``, in order."""

    results: list[Result] = field(default_factory=list)

    def before(self, call: StorageCall) -> Verdict:
        """Go on."""
        return GO_ON

    def after(self, result: Result) -> None:
        """Keep it."""
        self.results.append(result)


def hook_of(watcher: Watcher) -> _host.Hook:
    """The data plane's form of a watcher."""

    def before(fields: "_host.CallFields") -> tuple[int, int | None]:
        verdict = watcher.before(StorageCall(*fields))
        return verdict.error, verdict.length

    def after(fields: "_host.CallFields", value: int, error: int) -> None:
        watcher.after(Result(StorageCall(*fields), value, error))

    return _host.Hook(before, after)


@contextmanager
def watch_new_hosts(watcher: Watcher) -> Iterator[None]:
    """Within, every host that is made tells ``watcher``: those of stores that are opened, too."""
    _host.hook_new_hosts(hook_of(watcher))
    try:
        yield
    finally:
        _host.hook_new_hosts(None)
