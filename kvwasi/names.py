"""Names of tables: how they are written, and those that kvwasi keeps for itself."""

from __future__ import annotations

from collections.abc import Iterable

from kvwasi.errors import KeyEmptyError, ReservedNameError

_RESERVED = b"\0"
"""What the name of a table begins with that is not a user's: part of something that lies upon tables."""


def encode_name(name: str | bytes) -> bytes:
    """The bytes of a table's name: UTF-8, and what :func:`decode_name` could not decode as it was."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """A table's name as text, one to one."""
    return name.decode("utf-8", "surrogateescape")


def given_name(name: str | bytes) -> bytes:
    """The bytes of a name that a user gives to something that lies upon tables.

    Raises:
        KeyEmptyError: it is empty.
    """
    if not name:
        raise KeyEmptyError("a name has at least one byte")
    return encode_name(name)


def public_name(name: str | bytes) -> bytes:
    """The bytes of a name that a user gives to a table.

    Raises:
        ReservedNameError: it begins with a NUL character.
    """
    encoded = encode_name(name)
    if encoded.startswith(_RESERVED):
        raise ReservedNameError(f"names of tables that begin with NUL are reserved: {decode_name(encoded)!r}")
    return encoded


def reserved_name(kind: str, name: bytes = b"") -> bytes:
    """The table that keeps the ``kind`` of thing called ``name``: ``b"\\0kind\\0name"``."""
    return _RESERVED + kind.encode() + b"\0" + name


BACKUP_TABLE = reserved_name("backup")
"""What a backup says of itself (:mod:`kvwasi.chain`): no part of what the store held."""


def content_names(names: Iterable[bytes]) -> list[bytes]:
    """Of these tables, all that hold what somebody has stored, in whatever way."""
    return [name for name in names if name != BACKUP_TABLE]


def public_names(names: Iterable[bytes]) -> list[str]:
    """Of these tables, the user's own."""
    return [decode_name(name) for name in names if not name.startswith(_RESERVED)]


def check_kinds(dupsort: bool, expires: bool) -> None:
    """Refuse what no table is."""
    if dupsort and expires:
        raise ValueError("a table has either duplicates or entries that expire")


def table_names(names: Iterable[bytes], dupsort: bool, expires: bool) -> list[str]:
    """The names of the tables of a kind."""
    check_kinds(dupsort, expires)
    if dupsort or expires:
        return names_of_kind("dupsort" if dupsort else "expires", names)
    return public_names(names)


def names_of_kind(kind: str, names: Iterable[bytes]) -> list[str]:
    """Of these tables, what :func:`reserved_name` was told of those of a kind."""
    prefix = reserved_name(kind)
    return [decode_name(name[len(prefix) :]) for name in names if name.startswith(prefix)]
