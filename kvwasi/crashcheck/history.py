"""What a database must hold after each commit, and what it may hold after a power cut.

A history has one or more lanes: sequences of commits that concern keys of their own (a lane is the keys that
begin with its number, and the table of that name). One lane for most workloads; several where threads commit
at the same time and only the order within each is known.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from kvwasi.crashcheck.trace import Window
from kvwasi.engine._engine import hash64

__all__ = [
    "TABLE",
    "Change",
    "History",
    "Model",
    "UnexpectedContentsError",
    "apply",
    "in_table",
    "is_in_table",
    "is_table",
]

Model = dict[bytes, bytes]
Change = tuple[bytes, bytes | None]
"""A key and its new value; None: it is deleted."""


TABLE = b"\xfftable/"
"""Before what belongs to a named table, in histories and scans: behind all other keys."""


def in_table(name: bytes, key: bytes | None = None) -> bytes:
    """The key of a table's entry in histories and scans; without ``key``, of the table itself."""
    return TABLE + name if key is None else TABLE + name + b"/" + key


def is_table(key: bytes) -> bool:
    """Whether it is what :func:`in_table` makes for a table itself."""
    return key.startswith(TABLE) and b"/" not in key[len(TABLE) :]


def is_in_table(key: bytes, name: bytes) -> bool:
    """Whether it is what :func:`in_table` makes for a table of that name, or for an entry of it."""
    return key == in_table(name) or key.startswith(in_table(name, b""))


def apply(changes: Iterable[Change], model: Model) -> None:
    """Make the changes in a dict."""
    for key, value in changes:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


def digest(entries: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Of contents, in key order."""
    parts = list(chain.from_iterable(entries))
    whole = array("I", map(len, parts)).tobytes() + b"".join(parts)
    return hash64(whole, 1), hash64(whole, 2)


class UnexpectedContentsError(Exception):
    """After a failure, and without any power cut, a database holds what it may not."""


@dataclass
class _Lane:
    prefix: bytes
    commits: list[Sequence[Change]] = field(default_factory=list)
    digests: list[tuple[int, int]] = field(default_factory=list)
    model: Model = field(default_factory=dict)

    def holds(self, key: bytes) -> bool:
        """Whether the key belongs to the lane."""
        return key.startswith(self.prefix) or is_in_table(key, self.prefix[:-1])


class History:
    """The commits of a workload, each known by its number: 0 is before the first.

    >>> history = History()
    >>> history.add([(b"0/a", b"1")])
    1
    >>> history.wrong({b"0/a": b"1"}, ((0, 1),)), history.wrong({}, ((1, 1),))
    ('', 'contents are those after commit 0, must be after 1..1')
    """

    def __init__(self, lanes: int = 1) -> None:
        self._lanes = [_Lane(b"%d/" % number) for number in range(lanes)]
        self.copies: list[int] = []
        """After which commits copies of the database were made."""
        for lane in self._lanes:
            lane.digests.append(digest(()))

    @property
    def lanes(self) -> int:
        """How many."""
        return len(self._lanes)

    def add(self, changes: Sequence[Change], lane: int = 0) -> int:
        """One more commit of a lane; its number."""
        self._lanes[lane].commits.append(changes)
        apply(changes, self._lanes[lane].model)
        self._lanes[lane].digests.append(digest(sorted(self._lanes[lane].model.items())))
        return len(self._lanes[lane].commits)

    def last(self, lane: int = 0) -> int:
        """The number of the last commit."""
        return len(self._lanes[lane].commits)

    def holds(self, key: bytes, lane: int) -> bool:
        """Whether the key belongs to the lane."""
        return len(self._lanes) == 1 or self._lanes[lane].holds(key)

    def latest(self, lane: int = 0) -> Model:
        """The contents of a lane after its last commit; not to be changed."""
        return self._lanes[lane].model

    def model(self, number: int, lane: int = 0) -> Model:
        """The contents of a lane after a commit."""
        model: Model = {}
        for changes in self._lanes[lane].commits[:number]:
            apply(changes, model)
        return model

    def difference(self, old: int, new: int) -> list[Change]:
        """The changes that lead from the contents after one commit (of the first lane) to another's."""
        before, after = self.model(old), self.model(new)
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        return [(key, after.get(key)) for key in sorted(changed)]

    def find(self, contents: Mapping[bytes, bytes], window: Window) -> list[int] | None:
        """For each lane the commit in its window whose contents these are; None: there is none."""
        found = []
        for lane, (low, high) in zip(self._lanes, window, strict=True):
            entries = contents.items()
            if len(self._lanes) > 1:
                entries = {key: value for key, value in entries if lane.holds(key)}.items()
            wanted = digest(sorted(entries))
            number = next((n for n in range(high, low - 1, -1) if lane.digests[n] == wanted), None)
            if number is None:
                return None
            found.append(number)
        if len(self._lanes) > 1 and sum(map(len, self._models(found))) != len(contents):
            return None
        return found

    def _models(self, numbers: Sequence[int]) -> list[Model]:
        return [self.model(number, lane) for lane, number in enumerate(numbers)]

    def wrong(self, contents: Mapping[bytes, bytes], window: Window) -> str:
        """Why these contents may not be there; empty if they may."""
        if self.find(contents, window) is not None:
            return ""
        allowed = ", ".join(f"{low}..{high}" for low, high in window)
        anywhere = self.find(contents, tuple((0, self.last(lane)) for lane in range(self.lanes)))
        if anywhere is not None:
            numbers = ", ".join(map(str, anywhere))
            return f"contents are those after commit {numbers}, must be after {allowed}"
        expected: Model = {}
        for model in self._models([high for _, high in window]):
            expected |= model
        differing = {k for k in expected.keys() | contents.keys() if expected.get(k) != contents.get(k)}
        some = ", ".join(repr(key)[1:] for key in sorted(differing)[:3])
        return f"contents are those of no commit; {len(differing)} keys differ from {allowed}: {some}"
