"""Workers that die, hang or go wrong are told apart."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from kvwasi.crashcheck.pool import Lost, WorkerError, run_tasks


def results(worker: Callable[..., None], count: int, **options: Any) -> list[tuple[int, Any]]:
    found = list(run_tasks(count, worker, **options))
    return [(n, f"{r.why} at {r.detail}" if isinstance(r, Lost) else r) for n, r in found]


def test_what_is_reported_arrives() -> None:
    def work(task: int, report: Callable[[Any], None], place: Callable[[int], None]) -> None:
        report(task * task)
        if task == 2:
            report(bytes(1 << 20))

    assert results(work, 4) == [(0, 0), (1, 1), (2, 4), (2, bytes(1 << 20)), (3, 9)]
    assert results(work, 0) == []


def test_a_signal_is_a_result_and_the_rest_goes_on() -> None:
    def work(task: int, report: Callable[[Any], None], place: Callable[[int], None]) -> None:
        if task == 1:
            place(7)
            os.kill(os.getpid(), signal.SIGSEGV)
        if task == 3:
            os._exit(9)
        report("done")

    expected = [(0, "done"), (1, "SIGSEGV at 7"), (2, "done"), (3, "exit code 9 at 0"), (4, "done")]
    assert results(work, 5) == expected


def test_a_standstill_is_a_result() -> None:
    def work(task: int, report: Callable[[Any], None], place: Callable[[int], None]) -> None:
        if task == 0:
            signal.pause()
        report("done")

    assert results(work, 2, standstill_s=0.2) == [(0, "a standstill at 0"), (1, "done")]


def test_a_defect_of_the_suite_is_no_finding() -> None:
    def work(task: int, report: Callable[[Any], None], place: Callable[[int], None]) -> None:
        raise LookupError("a defect")

    with pytest.raises(WorkerError, match="a defect"):
        results(work, 1)
