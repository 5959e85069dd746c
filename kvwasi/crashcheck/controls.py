"""Planted bugs: each takes from a trace what a broken engine would not do. The suite must catch them all."""

import errno
import random
from collections.abc import Callable
from dataclasses import replace

from kvwasi.crashcheck.trace import Trace

__all__ = ["TRACE_CONTROLS"]


def no_flush(trace: Trace, seed: int) -> Trace:
    """Files are never flushed, though the engine believes it."""
    return trace.without(n for n, event in enumerate(trace.events) if event.kind in ("sync", "sync_write"))


def no_barrier(trace: Trace, seed: int) -> Trace:
    """Of the flushes of one commit only the last happens: what it orders is no longer in order."""
    dropped, waiting = [], []
    for number, event in enumerate(trace.events):
        if event.kind in ("sync", "sync_write"):
            waiting.append(number)
        elif event.kind in ("begun", "durable", "rename"):
            dropped += waiting if event.kind == "rename" else waiting[:-1]
            waiting = []
    return trace.without(dropped + waiting[:-1])


def ignored_failure(trace: Trace, seed: int) -> Trace:
    """Some flushes fail, and the engine goes on as if they had not."""
    chance = random.Random(seed)
    flushes = [n for n, event in enumerate(trace.events) if event.kind == "sync"]
    failing = set(chance.sample(flushes, max(1, len(flushes) // 5)))
    events = [
        replace(event, error=errno.EIO) if number in failing else event
        for number, event in enumerate(trace.events)
    ]
    return Trace(events)


TRACE_CONTROLS: dict[str, Callable[[Trace, int], Trace]] = {
    "no-flush": no_flush,
    "no-barrier": no_barrier,
    "ignored-failure": ignored_failure,
}
