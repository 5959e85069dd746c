"""kvwasi: an embedded key-value store in WebAssembly, and a fast WASI file host.

>>> import kvwasi, tempfile, os
>>> with tempfile.TemporaryDirectory() as place:
...     with kvwasi.open(os.path.join(place, "my.kv")) as store:
...         store["answer"] = "42"
...         store["answer"]
b'42'
"""

from kvwasi import errors as _errors
from kvwasi.backup import Backup, restore
from kvwasi.cursor import Cursor
from kvwasi.duplicates import DuplicatesCursor, DuplicatesReads, DuplicatesTable
from kvwasi.errors import *  # noqa: F403
from kvwasi.errors import KvError as error
from kvwasi.expiring import ExpiringTable
from kvwasi.opening import open
from kvwasi.peeking import peek
from kvwasi.repair import RepairReport, repair
from kvwasi.savepoint import Savepoint
from kvwasi.series import Entry, Retention, Series, SeriesReads, Status
from kvwasi.snapshot import Snapshot, SnapshotTable
from kvwasi.store import Problem, Stats, Store
from kvwasi.table import Table
from kvwasi.transaction import Transaction

__all__ = [
    "Backup",
    "Cursor",
    "DuplicatesCursor",
    "DuplicatesReads",
    "DuplicatesTable",
    "Entry",
    "ExpiringTable",
    "Problem",
    "RepairReport",
    "Retention",
    "Savepoint",
    "Series",
    "SeriesReads",
    "Snapshot",
    "SnapshotTable",
    "Stats",
    "Status",
    "Store",
    "Table",
    "Transaction",
    "error",
    "open",
    "peek",
    "repair",
    "restore",
    *_errors.__all__,
]
