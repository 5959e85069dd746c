"""Work in processes of its own: a signal, a hang or a leak there is a finding, not the end.

A worker is forked with its tasks and goes through them in order; it tells what it found through a pipe, and
where it is through shared memory. When it dies or stands still, the task it was at is reported, and the next
worker goes on behind it.
"""

import faulthandler
import mmap
import os
import pickle
import select
import signal
import struct
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

__all__ = ["Lost", "WorkerError", "run_tasks"]

STANDSTILL_S = 60.0
_PLACE = struct.Struct("<qq")
_LENGTH = struct.Struct("<Q")


class WorkerError(Exception):
    """A worker of the suite itself went wrong."""


class Lost:
    """A task whose worker died (``why`` says how) or stood still. ``detail``: how far within the task."""

    def __init__(self, why: str, detail: int) -> None:
        self.why, self.detail = why, detail


Report = Callable[[Any], None]
Place = Callable[[int], None]


def run_tasks(
    count: int,
    worker: Callable[[int, Report, Place], None],
    *,
    prepare: Callable[[], None] = lambda: None,
    standstill_s: float = STANDSTILL_S,
) -> Iterator[tuple[int, Any]]:
    """Run ``worker(task, report, place)`` for tasks 0..count-1 in a forked process.

    Yields (task, what it reported) or (task, :class:`Lost`). ``prepare`` runs first in each process;
    ``place(n)`` says how far the worker is within its task.
    """
    shared = mmap.mmap(-1, _PLACE.size)
    first = 0
    while first < count:
        reader, writer = os.pipe()
        shared[:] = _PLACE.pack(first, 0)
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(range(first, count), worker, prepare, writer, shared)
        os.close(writer)
        try:
            still = yield from _reports(reader, shared, standstill_s)
        finally:
            os.close(reader)
            if still_running(child):
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        at, detail = _PLACE.unpack(shared[:])
        if at == count:
            return
        yield at, Lost("a standstill" if still else _ending(status), detail)
        first = at + 1


def still_running(child: int) -> bool:
    """Whether a child has not ended; it is not reaped."""
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is None


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _work(
    tasks: range,
    worker: Callable[[int, Report, Place], None],
    prepare: Callable[[], None],
    writer: int,
    shared: mmap.mmap,
) -> None:
    """The forked process; never returns."""
    code = 1
    faulthandler.disable()  # a signal is a result here
    stream = os.fdopen(writer, "wb")

    def send(result: object) -> None:
        encoded = pickle.dumps(result)
        stream.write(_LENGTH.pack(len(encoded)))
        stream.write(encoded)
        stream.flush()

    try:
        prepare()
        for task in tasks:
            shared[:] = _PLACE.pack(task, 0)

            def report(result: Any, task: int = task) -> None:
                send((task, result))

            def place(detail: int, task: int = task) -> None:
                shared[:] = _PLACE.pack(task, detail)

            worker(task, report, place)
        shared[:] = _PLACE.pack(tasks.stop, 0)
        stream.close()
        code = 0
    except BaseException:
        send((-1, traceback.format_exc()))
    finally:
        os._exit(code)


def _reports(reader: int, shared: mmap.mmap, standstill_s: float) -> Generator[tuple[int, Any], None, bool]:
    """Yield what comes until the pipe is closed; returns whether the worker stood still."""
    pending, wanted, before = bytearray(), _LENGTH.size, b""
    while True:
        ready, _, _ = select.select([reader], [], [], standstill_s)
        if not ready:
            now = shared[:]
            if now == before:
                return True
            before = now
            continue
        data = os.read(reader, 1 << 20)
        if not data:
            return False
        pending += data
        while len(pending) >= wanted:
            if wanted == _LENGTH.size:
                wanted += _LENGTH.unpack_from(pending)[0]
                continue
            result = pickle.loads(memoryview(pending)[_LENGTH.size : wanted])
            del pending[:wanted]
            wanted = _LENGTH.size
            if result[0] < 0:
                raise WorkerError(result[1])
            yield result
