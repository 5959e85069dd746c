"""Traces of programs on our own host: a watcher that writes down what happens to one directory's files."""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kvwasi.crashcheck.disk import Disk
from kvwasi.crashcheck.flusher import Gate
from kvwasi.crashcheck.trace import REVERTED, Event, Trace
from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict

__all__ = ["Fault", "Recorder"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One call of the storage, or from one on all, that go wrong.

    Attributes:
        operation: of :class:`kvwasi.wasi.trace.StorageCall`, or ``"flush"`` for sync and datasync,
            ``"create"`` for an open that may make a file, ``"any"``.
        at: which one, counted from 0.
        error: the errno; 0: none.
        length: a read or write moves only so many bytes.
        sticky: all later ones, too, until :meth:`Recorder.heal`.
        reverted: after the failed flush the file reads as it was before what was not flushed.
    """

    operation: str
    at: int
    error: int = 0
    length: int | None = None
    sticky: bool = False
    reverted: bool = False

    def concerns(self, call: StorageCall) -> bool:
        """Whether a call counts."""
        if self.operation == "flush":
            return call.operation in ("sync", "datasync")
        if self.operation == "create":
            return call.operation == "open" and bool(call.flags & os.O_CREAT)
        return self.operation in (call.operation, "any")


class Recorder:
    """Watches the stores that are opened in ``directory``; what is there now is durable.

    Every flush of another thread than the recorder's own waits at ``gate``, if there is one.
    """

    def __init__(self, directory: str, fault: Fault | None = None, gate: Gate | None = None) -> None:
        self.trace = Trace()
        self._gate = gate
        self.calls = 0
        """That a fault concerns, until now."""
        self.failed = 0
        """Calls that the fault has hit."""
        self.on_call: Callable[[StorageCall], None] | None = None
        self._fault = fault
        self._directory = directory
        self._files: dict[tuple[int, int], int] = {}
        self._held: list[int] = []  # an inode that is held open gives its number to no other file
        self._flushing: dict[int, int] = {}
        self._main = threading.get_ident()
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if entry.is_file() and not entry.name.endswith("-lock"):
                with open(entry.path, "rb") as stream:
                    number = self._number(stream.fileno())
                    self.trace.events.append(Event("base", number, data=stream.read(), name=entry.name))

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()

    def mark(self, kind: str, number: int, lane: int = 0) -> None:
        """Put a mark of the workload between what was done before it and after it."""
        self.trace.events.append(Event(kind, lane, number))

    def heal(self) -> None:
        """From now on nothing fails."""
        self._fault = None

    # what hosts tell

    def before(self, call: StorageCall) -> Verdict:
        """Fail the call if its turn has come."""
        if self.on_call is not None:
            self.on_call(call)
        thread = threading.get_ident()
        if call.operation in ("sync", "datasync"):
            if self._gate is not None and thread != self._main:
                self._gate.enter()
            self._flushing[thread] = len(self.trace.events)
        fault = self._fault
        if fault is None or not fault.concerns(call):
            return GO_ON
        self.calls += 1
        if self.calls - 1 != fault.at and not (fault.sticky and self.calls > fault.at):
            return GO_ON
        self.failed += 1
        return Verdict(fault.error, fault.length)

    def after(self, result: Result) -> None:
        """Write down what changed."""
        call = result.call
        if call.operation in ("sync", "datasync"):
            self._flushed(call, result.error)
        elif result.error == 0:
            self._changed(call, result.value)

    def _changed(self, call: StorageCall, value: int) -> None:
        add = self.trace.events.append
        if call.operation == "open":
            self._opened(call, value)
        elif call.operation == "write":
            assert call.data is not None
            assert call.offset is not None, "the engine writes at offsets"
            if value:
                add(Event("write", self._number(call.os_fd), call.offset, call.data[:value]))
        elif call.operation == "truncate":
            add(Event("truncate", self._number(call.os_fd), call.length))
        elif call.operation == "allocate":
            end = (call.offset or 0) + call.length
            if end > os.fstat(call.os_fd).st_size:
                add(Event("truncate", self._number(call.os_fd), end))
        elif call.operation in ("link", "rename", "unlink"):
            add(Event(call.operation, name=call.path or "", name2=call.path2 or ""))

    def _opened(self, call: StorageCall, descriptor: int) -> None:
        if call.flags & os.O_DIRECTORY or not call.flags & (os.O_CREAT | os.O_TRUNC):
            return
        known = self._key(descriptor) in self._files
        number = self._number(descriptor)
        if not known:
            self.trace.events.append(Event("create", number, name=call.path or ""))
        elif call.flags & os.O_TRUNC:
            self.trace.events.append(Event("truncate", number, 0))

    def _flushed(self, call: StorageCall, error: int) -> None:
        start = self._flushing.pop(threading.get_ident(), len(self.trace.events))
        if self._key(call.os_fd) not in self._files:
            self.trace.events.append(Event("sync_names", error=error))
            return
        reverted = bool(error and self._fault and self._fault.reverted)
        number = self._number(call.os_fd)
        self.trace.events.append(Event("sync", number, start, error=error, flags=REVERTED if reverted else 0))
        if reverted:
            self._revert()

    def _revert(self) -> None:
        """Put back what the file was before what the failed flush should have written."""
        disk = Disk(self.trace)
        while disk.step():
            pass
        for name, content in disk.seen().items():
            with (
                contextlib.suppress(FileNotFoundError),
                open(os.path.join(self._directory, name), "r+b") as f,
            ):
                f.write(content)
                f.truncate()

    @staticmethod
    def _key(descriptor: int) -> tuple[int, int]:
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino

    def _number(self, descriptor: int) -> int:
        key = self._key(descriptor)
        number = self._files.get(key)
        if number is None:
            self._held.append(os.dup(descriptor))
            number = self._files[key] = len(self._files) + 1
        return number
