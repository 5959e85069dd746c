"""What all formats share: entries, and the errors of an input."""

from typing import NamedTuple

Entry = tuple[bytes, bytes]
"""A key and its value."""


class Row(NamedTuple):
    """What a format reads: an entry of a table, or without a key, the table alone."""

    key: bytes | None
    value: bytes
    table: bytes | None = None
    """None: the store's own entries."""
    dupsort: bool = False
    """It is one of the values of the key, in a table with duplicates."""
    line: int = 0
    """Where it stands in the input, from 1; 0: the format has no lines."""


class FormatError(ValueError):
    """The input is not in its format, or holds what a store cannot; ``line`` as in :class:`Row`.

    >>> str(FormatError(3, "odd number of hexadecimal digits"))
    'line 3: odd number of hexadecimal digits'
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.line = line
        self.problem = problem


class ForeignError(ValueError):
    """Another database cannot be read, or holds what a store cannot."""


class NoSuchSourceError(FileNotFoundError, ForeignError):
    """Another database is not there."""


_ORDERS = {
    "integerkey": ("keys", "as integers"),
    "reversekey": ("keys", "backwards"),
    "integerdup": ("values", "as integers"),
    "reversedup": ("values", "backwards"),
}


def order_note(flag: str, table: bytes | None) -> str | None:
    """What becomes of the order of a database with this flag of LMDB's; None: it stays.

    >>> order_note("reversekey", b"t")
    "keys of 't' were ordered backwards there; here they are ordered byte by byte"
    """
    if flag not in _ORDERS:
        return None
    what, how = _ORDERS[flag]
    name = "the main database" if table is None else repr(table.decode("utf-8", "surrogateescape"))
    return f"{what} of {name} were ordered {how} there; here they are ordered byte by byte"
