"""Default entries: written when a database is made, completed when a newer program opens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvwasi.engine import _engine
from kvwasi.names import reserved_name
from kvwasi.table import Table

if TYPE_CHECKING:
    from kvwasi.ranges import Data
    from kvwasi.store import Store
    from kvwasi.transaction import Transaction

TABLE = reserved_name("defaults")
VERSION = b"version"  # of the defaults that were applied last, as decimal text
VERSION_MAX = (1 << 63) - 1


def checked(defaults: Mapping[Data, Data], version: int, flag: str) -> dict[bytes, bytes]:
    """The defaults as bytes.

    Raises:
        ValueError: ``version`` is out of range, or the database is opened to be read only.
        TypeError: a key or a value is neither bytes-like nor str.
    """
    if not 1 <= version <= VERSION_MAX:
        raise ValueError("defaults_version is from 1 to 2**63 - 1")
    if flag == "r":
        raise ValueError("defaults are for a store that can be written, not for flag='r'")
    return {_engine.as_bytes(key): _engine.as_bytes(value) for key, value in defaults.items()}


def version_of(store: Store | Transaction) -> int:
    """The version of the defaults that were applied last; 0: none were."""
    return int(Table(store, TABLE).get(VERSION) or 0)


def complete(store: Store, defaults: dict[bytes, bytes], version: int) -> None:
    """Add the defaults that are missing, in one transaction; unless these or newer ones have been applied."""
    if version_of(store) < version:
        with store.transaction() as transaction:
            for key, value in defaults.items():
                transaction.put(key, value, overwrite=False)
            _note(transaction, version)


def reset(transaction: Transaction, defaults: dict[bytes, bytes], version: int) -> None:
    """See :meth:`kvwasi.Store.reset_to_defaults`."""
    transaction.clear()
    transaction.put_many(defaults.items())
    _note(transaction, max(version, version_of(transaction)))


def _note(transaction: Transaction, version: int) -> None:
    Table(transaction, TABLE).put(VERSION, b"%d" % version)
