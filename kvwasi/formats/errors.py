"""What all formats share: entries, and the error of a malformed input."""

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


class FormatError(ValueError):
    """The input is not in its format; ``line`` counts from 1.

    >>> str(FormatError(3, "odd number of hexadecimal digits"))
    'line 3: odd number of hexadecimal digits'
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


class ForeignError(ValueError):
    """Another database cannot be read, or holds what a store cannot."""
