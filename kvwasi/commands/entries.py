"""``kvwasi put``, ``get``, ``delete``, ``incr``, ``list``: single entries and ranges of keys."""

import os
from collections.abc import Sized
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvwasi import console
from kvwasi.commands.arguments import (
    Database,
    Json,
    Key,
    KeyFormat,
    KeyFormatOption,
    TableOption,
    at_most,
    look,
    open_output,
    open_store,
    parse,
    show,
)
from kvwasi.commands.tables import Kind, KindOption, expiring, opened, target
from kvwasi.commands.times import parse_timedelta

if TYPE_CHECKING:
    from kvwasi import Store
    from kvwasi.commands.tables import Opened


def put(
    database: Database,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(metavar="VALUE|-", help="The value; - reads standard input.", show_default=False),
    ] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Read the value from this file.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a value that is there.")] = True,
    expect: Annotated[str | None, typer.Option(help="Only if this is the value so far.")] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Expires then, as in 30s or 7d; --table is of the kind expires."
        ),
    ] = None,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
    kind: KindOption = None,
) -> int:
    """Store a value under a key; on disk when the command ends. Creates the database."""
    if (value is None) == (file is None):
        raise typer.BadParameter("give either VALUE, - or --file")
    if expect is not None and not overwrite:
        raise typer.BadParameter("give either --expect or --no-overwrite")
    if ttl is not None and (table is None or kind not in (None, Kind.EXPIRES)):
        raise typer.BadParameter("--ttl needs a --table whose entries expire")
    left = None if ttl is None else _duration(ttl)
    raw_key = parse(key, key_format, "KEY")
    if file is not None:
        with open(file, "rb") as stream:
            content = stream.read()
    else:
        content = console.stdin().read() if value == "-" else os.fsencode(value or "")
    with open_store(database, "c") as store:
        if ttl is not None and kind is None and table is not None:
            kind = expiring(store, table)
        entries = opened(store, table, kind, create=True)
        stored = _put(entries, raw_key, content, overwrite, expect, left)
    if stored:
        return 0
    why = "is there already" if expect is None else "has another value, or is not there"
    return console.complain(console.EXIT_NO, f"{database}: the key {key} {why}")


def _put(
    entries: "Opened",
    key: bytes,
    value: bytes,
    overwrite: bool,
    expect: str | None,
    ttl: timedelta | None,
) -> bool:
    from kvwasi import DuplicatesTable

    if isinstance(entries, DuplicatesTable):
        if expect is not None:
            raise typer.BadParameter("--expect is not for tables with several values a key")
        return entries.put(key, value, overwrite=overwrite)
    options: dict[str, Any] = {"overwrite": overwrite} if expect is None else {"expect": os.fsencode(expect)}
    if ttl is not None:
        options["ttl"] = ttl
    return entries.put(key, value, **options)


def _duration(text: str) -> timedelta:
    try:
        duration = parse_timedelta(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from None
    if not duration:
        raise typer.BadParameter("it would have expired at once", param_hint="--ttl")
    return duration


def get(
    database: Database,
    key: Key,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Write the value to this file.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All values of the key, a line each.")] = False,
    json: Json = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
    kind: KindOption = None,
) -> int:
    """Write a key's value to standard output, as it is."""
    from kvwasi import DuplicatesTable

    raw_key = parse(key, key_format, "KEY")

    def read(store: "Store") -> list[bytes]:
        entries = opened(store, table, kind, create=False)
        if all_ and isinstance(entries, DuplicatesTable):
            return entries.get_all(raw_key)
        value = entries.get(raw_key)
        return [] if value is None else [value]

    values = look(database, read)
    if not values:
        return console.complain(console.EXIT_NO, f"{database}: no key {key}")
    if json:
        from kvwasi.formats import jsonl

        values = [jsonl.encode_line((raw_key, value)) for value in values]
    elif all_:
        values = [value + b"\n" for value in values]
    with open_output(file or "-", database) as stream:
        stream.writelines(values)
    return 0


def delete(
    database: Database,
    key: Key,
    value: Annotated[
        str | None,
        typer.Option(help="Only this one, in a table with several values a key.", show_default=False),
    ] = None,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
    kind: KindOption = None,
) -> int:
    """Remove a key and its value, or all of its values."""
    from kvwasi import DuplicatesTable

    raw_key = parse(key, key_format, "KEY")
    with open_store(database, "w") as store:
        entries = opened(store, table, kind, create=False)
        if value is None:
            removed = entries.delete(raw_key)
        elif isinstance(entries, DuplicatesTable):
            removed = entries.delete(raw_key, os.fsencode(value))
        else:
            raise typer.BadParameter("--value is for tables with several values a key")
    if removed:
        return 0
    what = f"key {key}" if value is None else f"value {value} of the key {key}"
    return console.complain(console.EXIT_NO, f"{database}: no {what}")


def incr(
    database: Database,
    key: Key,
    by: Annotated[int, typer.Option(help="What to add; may be negative.")] = 1,
    default: Annotated[int, typer.Option(help="What to begin with if the key is not there.")] = 0,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> None:
    """Add to a number, which is stored as decimal text, and print the sum. Creates the database."""
    with open_store(database, "c") as store:
        total = target(store, table).increment(parse(key, key_format, "KEY"), by, default=default)
    console.write(b"%d\n" % total)


def list_(
    database: Database,
    prefix: Annotated[str | None, typer.Option(help="Only keys that begin so.")] = None,
    start: Annotated[str | None, typer.Option(help="From this key on.")] = None,
    stop: Annotated[str | None, typer.Option(help="Up to this key, without it.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Last key first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="At most so many.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print only how many there are.")] = False,
    values: Annotated[bool, typer.Option("--values", help="Print KEY, a tab and VALUE.")] = False,
    value_format: Annotated[KeyFormat, typer.Option(help="How values are printed.")] = KeyFormat.TEXT,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines; with --values such as load reads.")
    ] = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
    kind: KindOption = None,
) -> None:
    """Print the keys in order, one a line; with --values all that there is of each."""
    from kvwasi.formats import jsonl

    bounds = {"prefix": prefix, "start": start, "stop": stop}
    ranges: dict[str, Any] = {
        name: parse(text, key_format, f"--{name}") for name, text in bounds.items() if text is not None
    }

    def found(store: "Store", *, pairs: bool) -> Any:
        entries: Any = opened(store, table, kind, create=False)
        return (entries.items if pairs else entries.keys)(**ranges, reverse=reverse)

    if count:
        console.write(b"%d\n" % look(database, lambda store: _size(found(store, pairs=values), limit)))
        return
    with open_store(database, "r") as store:
        if not values:
            for key in at_most(found(store, pairs=False), limit):
                console.write(jsonl.encode_key(key) if json else show(key, key_format) + b"\n")
            return
        for key, value in at_most(found(store, pairs=True), limit):
            if json:
                console.write(jsonl.encode_line((key, value)))
            else:
                console.write(b"%b\t%b\n" % (show(key, key_format), show(value, value_format)))


def _size(found: Any, limit: int | None) -> int:
    """How many there are; for plain tables the index tells."""
    total = len(found) if isinstance(found, Sized) else sum(1 for _ in at_most(found, limit))
    return total if limit is None else min(total, limit)


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    for command in (put, get, delete):
        app.command(epilog=console.EXIT_CODES_HELP)(command)
    app.command(epilog=console.EXIT_CODES_HELP, short_help="Add to a number and print the sum.")(incr)
    short = "Print the keys in order, all or those of a range."
    app.command("list", epilog=console.EXIT_CODES_HELP, short_help=short)(list_)
