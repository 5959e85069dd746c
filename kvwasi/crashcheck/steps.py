"""Steps, of which workloads are made, and keys and values to be put."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvwasi.crashcheck.history import Change

__all__ = ["Step", "Workload", "does", "key_of", "some_change", "value_of"]


@dataclass(frozen=True)
class Step:
    """One thing to do: ``verb`` is a method of :class:`kvwasi.crashcheck.run.Run`."""

    verb: str
    changes: Sequence[Change] = ()
    lane: int = 0
    do: Callable[[Any], object] | None = None
    """What makes the changes, when it is not a plain transaction; called with the :class:`kvwasi.Store`."""


Steps = Callable[[random.Random], Iterator[Step]]


@dataclass(frozen=True)
class Workload:
    """Steps, of which those before the first ``trace`` only prepare: no power cut happens in them.

    ``cut``: it is one for power cuts.
    """

    name: str
    steps: Steps
    lanes: int = 1
    engines: Sequence[str] = ("kvwasi", "lmdb")
    cut: bool = True


def does(do: Callable[[Any], object], changes: Sequence[Change] = ()) -> Step:
    """One commit of the store that is more than puts and deletes, or (without changes) none at all."""
    return Step("commit" if changes else "act", changes, do=do)


def key_of(number: int, lane: int = 0) -> bytes:
    return b"%d/key-%05d" % (lane, number)


def value_of(chance: random.Random, size: int) -> bytes:
    """Half compressible, and never the same twice."""
    return chance.randbytes(size - size // 2) + bytes(size // 2)


def some_change(chance: random.Random, keys: int, sizes: Sequence[int]) -> Change:
    key = key_of(chance.randrange(keys))
    return (key, None) if chance.random() < 0.3 else (key, value_of(chance, chance.choice(sizes)))
