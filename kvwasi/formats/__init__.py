"""Dump and load formats: entries (key and value, both bytes) to a byte stream and back.

``jsonl`` is JSON lines, ``mdb`` the text format of LMDB's ``mdb_dump(1)`` and ``mdb_load(1)``, ``tree``
reads a directory, ``foreign`` other embedded databases. They know nothing of the store: a reader yields
entries, a writer consumes them.
"""

from kvwasi.formats.errors import Entry, ForeignError, FormatError, NoSuchSourceError

__all__ = ["Entry", "ForeignError", "FormatError", "NoSuchSourceError"]
