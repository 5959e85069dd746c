"""Salvaging a damaged database."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any

from kvwasi.engine import _engine, module
from kvwasi.errors import DatabaseExistsError
from kvwasi.opening import acquire
from kvwasi.store import Problem, StrPath
from kvwasi.wasi.filelock import locate


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What :func:`repair` has salvaged, and what not."""

    records: int
    """Keys in the new database."""
    values_lost: int
    """Keys whose newest record or value is damaged; :attr:`problems` names them."""
    pages_lost: int
    """Damaged pages for which the index could not be used, as far as it was read."""
    sectors_lost: int
    """Sectors without a readable header; known only without the index."""
    bytes_skipped: int
    """Of the log, between records that are valid."""
    left_out: int
    """Records of transactions that were not committed."""
    uncertain: int
    """Records taken though damage hides whether they were committed."""
    unnamed: int
    """Tables whose name is lost: they are called ``table-N``."""
    index_used: bool
    """Whether the index was whole. If not, the log was searched for records."""
    may_reappear: bool
    """Whether deleted keys and older values may have come back: without the index nothing tells."""
    problems: list[Problem]

    @property
    def lost(self) -> bool:
        """Whether the new database may have less, or older, than the damaged one once had."""
        return not self.index_used or self.values_lost > 0 or self.bytes_skipped > 0 or self.sectors_lost > 0

    def __str__(self) -> str:
        lines = [f"{self.records} records salvaged"]
        if self.index_used:
            lines.append("by the index, which is whole")
        else:
            lines.append("by a search of the log, because the index cannot be used: deleted keys and older")
            lines.append("values may have come back")
        counts = [
            (self.values_lost, "values lost"),
            (self.sectors_lost, "sectors unreadable"),
            (self.bytes_skipped, "bytes of the log without a valid record"),
            (self.left_out, "records left out that were not committed"),
            (self.uncertain, "records taken that may not have been committed"),
            (self.unnamed, "tables whose name is lost"),
        ]
        return "\n".join([*lines, *(f"{count} {what}" for count, what in counts if count)])


def repair(path: StrPath, target: StrPath, *, cache_bytes: int = 256 << 20) -> RepairReport:
    """Salvage every record of a damaged database whose checksum holds into a new one.

    The damaged file is only read.

    Args:
        path: the damaged database.
        target: the new file; it must not exist, and be in the same directory.
        cache_bytes: memory for the index.

    Raises:
        DatabaseExistsError: ``target`` is there already.
        ValueError: ``target`` is in another directory.
        NotADatabaseError: nothing in the file can be recognised.
        DatabaseLockedError, NoSuchDatabaseError, DiskFullError, StorageError

    >>> import kvwasi, tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with kvwasi.open(os.path.join(place, "my.kv")) as store:
    ...         store["a"] = "1"
    ...     report = repair(os.path.join(place, "my.kv"), os.path.join(place, "new.kv"))
    ...     report.records, report.lost
    (1, False)
    """
    module.ensure_loaded()
    source = acquire(path, "r", still=True)  # nothing that is damaged can be kept as it is otherwise
    try:
        real, there = locate(target)
        if there:
            raise DatabaseExistsError(errno.EEXIST, "there is a file already", os.fsdecode(target))
        directory = os.path.dirname(source.path)
        if os.path.dirname(real) != directory:
            raise ValueError(f"the new file is to be made in {directory}")
        lock = acquire(target, "c")
        try:
            old, new = (b"/" + os.fsencode(os.path.basename(name)) for name in (source.path, real))
            counts, found = _engine.repair(source.path, os.fsencode(directory), old, new, cache_bytes)
        finally:
            lock.release()
    finally:
        source.release()
    facts: dict[str, Any] = {
        **counts,
        **{name: bool(counts[name]) for name in ("index_used", "may_reappear")},
    }
    return RepairReport(**facts, problems=[Problem(*problem) for problem in found])
