"""Backups that continue each other: what each says of itself, and the entries that all of them together hold.

A backup is a database. Its own table tells when and of what it was made (:class:`About`). One that continues
another has, of each table, the entries that were stored since, and in a second table the keys that are gone.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from kvwasi import opening
from kvwasi.engine import _engine
from kvwasi.errors import BackupError, NoSuchDatabaseError
from kvwasi.names import BACKUP_TABLE, reserved_name
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.store import Store, StrPath

_ABOUT_KEY = b"about"
_VERSION = 1
_LENGTH_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table held: how many keys, and the digest of :class:`kvwasi.engine._engine.EntryIterator`."""

    keys: int
    digest: int


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself."""

    id: str
    database: int
    """Of the source; see :attr:`kvwasi.Stats.database_id`."""
    generation: int
    """What the source stored later lies in sectors of this generation or a later one."""
    commits: int
    """Of the backup's own file, once it was complete: it has not been changed since."""
    since_id: str
    """The backup that it continues; empty: it is complete in itself."""
    since_path: str
    tables: dict[bytes, Contents]
    """All that the source had, by raw name; the default one has none."""

    def store_in(self, copy: Store) -> None:
        """Write it into the backup, as its last commit."""
        facts = asdict(self)
        facts["tables"] = {name.hex(): [one.keys, one.digest] for name, one in self.tables.items()}
        with copy.transaction() as transaction:
            Table(transaction, BACKUP_TABLE)[_ABOUT_KEY] = json.dumps({"version": _VERSION, **facts})

    @classmethod
    def of(cls, copy: Store) -> About:
        """What an open backup says. Raises BackupError."""
        stored = Table(copy, BACKUP_TABLE).get(_ABOUT_KEY)
        if stored is None:
            raise BackupError(f"{copy.path} is no backup that another could continue")
        try:
            facts = json.loads(stored)
            if facts.pop("version") != _VERSION:
                raise BackupError(f"{copy.path} was made by another version of kvwasi")
            tables = {bytes.fromhex(name): Contents(*one) for name, one in facts.pop("tables").items()}
            about = cls(**facts, tables=tables)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, BackupError):
                raise
            raise BackupError(f"{copy.path}: what it says of itself makes no sense") from None
        if about.commits != copy.stats().commits:
            raise BackupError(f"{copy.path} was changed since it was made: it is no backup any more")
        return about


def deleted_table(number: int) -> bytes:
    """The table, in a backup that continues another, of the keys that its ``number``-th table has no more."""
    return reserved_name("deleted", b"%d" % number)


class Link:
    """One backup of a chain, open."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.about = About.of(store)
        self._numbers = {name: number for number, name in enumerate(self.about.tables)}

    def entries(self, table: bytes) -> Store | Table:
        """What it has of a table."""
        return Table(self.store, table) if table else self.store

    def deleted(self, table: bytes) -> Table:
        """The keys of a table that it says are gone."""
        return Table(self.store, deleted_table(self._numbers[table]))


class Chain:
    """A backup and those that it continues, open to be read; use it with ``with``. Raises BackupError.

    Args:
        path: the last one. Those before it are looked for beside it, and where they were when it was made.
    """

    def __init__(self, path: StrPath) -> None:
        self._stack = contextlib.ExitStack()
        self.links: list[Link] = []
        """From the complete one to the last."""
        try:
            self._open(os.fsdecode(path))
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: str) -> None:
        link = self._link(path)
        while link.about.since_id:
            if len(self.links) > _LENGTH_MAX:
                raise BackupError(f"{path} continues too many others")
            link = self._previous(link)

    def _link(self, path: str) -> Link:
        link = Link(self._stack.enter_context(opening.open(path, "r")))
        self.links.insert(0, link)
        return link

    def _previous(self, link: Link) -> Link:
        wanted = link.about.since_path
        beside = os.path.join(os.path.dirname(link.store.path), os.path.basename(wanted))
        for path in dict.fromkeys((beside, wanted)):
            try:
                found = self._link(path)
            except NoSuchDatabaseError:
                continue
            if found.about.id != link.about.since_id:
                raise BackupError(f"{link.store.path} continues another backup than {path}")
            return found
        raise BackupError(f"{link.store.path} continues {beside}, which is not there")

    @property
    def about(self) -> About:
        """What the last one says."""
        return self.links[-1].about

    @property
    def path(self) -> str:
        """Of the last one."""
        return self.links[-1].store.path

    def keys(self, table: bytes) -> Iterator[bytes]:
        """The keys of a table at the moment of the last backup, in order."""
        found: Iterator[bytes] = iter(())
        for link in self.links:
            if table not in link.about.tables:
                found = iter(())  # it was dropped in between
                continue
            left = without(found, iter(link.deleted(table))) if link.about.since_id else iter(())
            found = _united(left, iter(link.entries(table)))
        return found

    def digest(self, table: bytes, key: bytes) -> int:
        """What an entry adds to the digest of a table at that moment; 0: it was not there."""
        for link in reversed(self.links):
            if table not in link.about.tables:
                return 0
            found = _engine.entry_digest(link.entries(table), key)
            if found is not None:
                return found
            if link.about.since_id and key in link.deleted(table):
                return 0
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()


def _united(some: Iterator[bytes], others: Iterator[bytes]) -> Iterator[bytes]:
    last = None
    for key in heapq.merge(some, others):
        if key != last:
            yield key
        last = key


def without(some: Iterator[bytes], others: Iterator[bytes]) -> Iterator[bytes]:
    """Those of ``some`` that are not among ``others``; both in order."""
    other = next(others, None)
    for key in some:
        while other is not None and other < key:
            other = next(others, None)
        if key != other:
            yield key


__all__ = ["About", "Chain", "Contents", "Link", "deleted_table", "without"]
