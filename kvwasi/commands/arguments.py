"""What the commands share: how arguments are written, what they name, what the shell completes."""

import binascii
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, TypeVar

import typer

from kvwasi import console

if TYPE_CHECKING:
    from kvwasi import Store


T = TypeVar("T")


class KeyFormat(StrEnum):
    """How keys are written on the command line and printed."""

    TEXT = "text"
    HEX = "hex"
    BASE64 = "base64"


def complete_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the named database that begin so: for the shell's completion."""
    from itertools import islice

    from kvwasi.commands.tables import opened

    with contextlib.suppress(Exception), open_store(ctx.params["database"], "r") as store:
        form = KeyFormat(ctx.params.get("key_format") or KeyFormat.TEXT)
        entries = opened(store, ctx.params.get("table"), ctx.params.get("kind"), create=False)
        if form is KeyFormat.TEXT:
            return [os.fsdecode(key) for key in islice(entries.keys(prefix=os.fsencode(incomplete)), 100)]
        keys = (show(key, form).decode("ascii") for key in islice(entries.keys(), 10_000))
        return [key for key in keys if key.startswith(incomplete)][:100]
    return []


def complete_table(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tables of the named database whose names begin so."""
    from kvwasi.commands.tables import Kind

    with contextlib.suppress(Exception), open_store(ctx.params["database"], "r") as store:
        names = {name for kind in Kind for name in kind.names(store)}
        return sorted(name for name in names if name.startswith(incomplete))[:100]
    return []


Database = Annotated[str, typer.Argument(metavar="DB", help="The database file.", show_default=False)]
Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The key.", show_default=False, autocompletion=complete_key)
]
KeyFormatOption = Annotated[KeyFormat, typer.Option("--key-format", "-k", help="How keys are written.")]
TableOption = Annotated[
    str | None,
    typer.Option("--table", "-t", metavar="NAME", help="The named table; without it, the store's own keys."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parse(text: str, form: KeyFormat, name: str) -> bytes:
    """The bytes that an argument stands for. As text these are the bytes that the shell passed."""
    try:
        if form is KeyFormat.HEX:
            return bytes.fromhex(text)
        if form is KeyFormat.BASE64:
            return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not {form}", param_hint=name) from None
    return os.fsencode(text)


def show(data: bytes, form: KeyFormat) -> bytes:
    """A key or value as it is printed: the inverse of :func:`parse`."""
    if form is KeyFormat.HEX:
        return data.hex().encode("ascii")
    return binascii.b2a_base64(data, newline=False) if form is KeyFormat.BASE64 else data


def open_store(database: str, flag: Literal["r", "w", "c"]) -> "Store":
    """The database that a command works on. The package is imported here: ``--help`` needs none of it."""
    import kvwasi

    return kvwasi.open(database, flag)


def at_most(found: Iterable[T], limit: int | None) -> Iterator[T]:
    """At most ``limit`` of what was found; no number is too large."""
    return islice(found, None if limit is None else min(limit, sys.maxsize))


def look(database: str, read: "Callable[[Store], T]") -> "T":
    """What a short read finds, also in a database that another process is writing."""
    import kvwasi

    return kvwasi.peek(database, read)


def open_output(path: str, database: str) -> contextlib.AbstractContextManager[BinaryIO]:
    """Where ``--output`` or ``--file`` writes; refuses the database itself."""
    if os.path.exists(path) and os.path.samefile(path, database):
        raise typer.BadParameter(f"{path} is the database itself")
    return console.output(path)
