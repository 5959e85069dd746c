"""``kvwasi put``, ``get``, ``delete``, ``incr``, ``list``: single entries and ranges of keys."""

import os
from typing import Annotated, Any

import typer

from kvwasi import console
from kvwasi.commands.arguments import (
    Database,
    Json,
    Key,
    KeyFormat,
    KeyFormatOption,
    TableOption,
    look,
    open_output,
    open_store,
    parse,
    show,
    target,
)


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
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> int:
    """Store a value under a key; on disk when the command ends. Creates the database."""
    if (value is None) == (file is None):
        raise typer.BadParameter("give either VALUE, - or --file")
    if expect is not None and not overwrite:
        raise typer.BadParameter("give either --expect or --no-overwrite")
    raw_key = parse(key, key_format, "KEY")
    if file is not None:
        with open(file, "rb") as stream:
            content = stream.read()
    else:
        content = console.stdin().read() if value == "-" else os.fsencode(value or "")
    with open_store(database, "c") as store:
        entries = target(store, table)
        if expect is not None:
            stored = entries.put(raw_key, content, expect=os.fsencode(expect))
        else:
            stored = entries.put(raw_key, content, overwrite=overwrite)
    if stored:
        return 0
    why = "is there already" if expect is None else "has another value, or is not there"
    return console.complain(console.EXIT_NO, f"{database}: the key {key} {why}")


def get(
    database: Database,
    key: Key,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Write the value to this file.")] = None,
    json: Json = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> int:
    """Write a key's value to standard output, as it is."""
    raw_key = parse(key, key_format, "KEY")
    value = look(database, lambda store: target(store, table, create=False).get(raw_key))
    if value is None:
        return console.complain(console.EXIT_NO, f"{database}: no key {key}")
    if json:
        from kvwasi.formats import jsonl

        value = jsonl.encode_line((raw_key, value))
    with open_output(file or "-", database) as stream:
        stream.write(value)
    return 0


def delete(
    database: Database,
    key: Key,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> int:
    """Remove a key and its value."""
    with open_store(database, "w") as store:
        if target(store, table, create=False).delete(parse(key, key_format, "KEY")):
            return 0
    return console.complain(console.EXIT_NO, f"{database}: no key {key}")


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
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines, as dump does.")] = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> None:
    """Print the keys in order, one a line."""
    from kvwasi.formats import jsonl

    bounds = {"prefix": prefix, "start": start, "stop": stop}
    ranges: dict[str, Any] = {
        name: parse(text, key_format, f"--{name}") for name, text in bounds.items() if text is not None
    }
    if count:
        found = look(
            database, lambda store: len(target(store, table, create=False).keys(**ranges, limit=limit))
        )
        console.write(b"%d\n" % found)
        return
    with open_store(database, "r") as store:
        entries = target(store, table, create=False)
        if not values:
            for key in entries.keys(**ranges, reverse=reverse, limit=limit):
                console.write(jsonl.encode_key(key) if json else show(key, key_format) + b"\n")
            return
        for key, value in entries.items(**ranges, reverse=reverse, limit=limit):
            if json:
                console.write(jsonl.encode_line((key, value)))
            else:
                console.write(b"%b\t%b\n" % (show(key, key_format), show(value, value_format)))


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    for command in (put, get, delete, incr):
        app.command(epilog=console.EXIT_CODES_HELP)(command)
    app.command("list", epilog=console.EXIT_CODES_HELP)(list_)
