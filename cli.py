"""The ``kvwasi`` command: parse, call the API, print.

Imports that a command does not need for certain stay inside it: a cold ``kvwasi get`` is mostly imports.
"""

import binascii
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from kvwasi import console
from kvwasi.bench import command as benchmark
from kvwasi.crashcheck import command as crashcheck

if TYPE_CHECKING:
    from kvwasi import Store, Table
    from kvwasi.formats.source import Source
    from kvwasi.wasi import Preopen


class KeyFormat(StrEnum):
    """How keys are written on the command line and printed."""

    TEXT = "text"
    HEX = "hex"
    BASE64 = "base64"


class LoadFormat(StrEnum):
    """What ``load`` reads."""

    AUTO = "auto"
    JSONL = "jsonl"
    MDB = "mdb"
    TREE = "tree"


class DumpFormat(StrEnum):
    """What ``dump`` writes."""

    JSONL = "jsonl"
    MDB = "mdb"
    MDB_PRINT = "mdb-print"


# What stats says of the numbers whose names do not say it all.
_STATS_WORDS = {
    "keys": "of the store itself; `tables --json` counts those of tables",
    "live_bytes": "records that the present state refers to",
    "commits": "since the database was made",
    "index_nodes": "of 4096 bytes",
    "recovered_commits": "taken over by this opening after an unclean stop",
    "discarded_bytes": "of an unfinished write that this opening found",
    "erase_max": "the most that any sector was used again",
    "snapshots": "open now",
    "cached_nodes": "of the index, in memory",
    "changed_nodes": "of those, not yet in the file",
    "node_loads": "read from the file since opening",
    "tail_bytes": "of the log behind the newest checkpoint, which opening replays",
    "checkpoint": "number of the newest one",
    "cache_bytes": "the limit of the memory for the index",
    "erases": "how often a sector was used again, over all of them",
    "sectors_free": "to be used again",
    "pinned_bytes": "held for old snapshots and checkpoints only",
    "snapshot_age_seconds": "how long the oldest snapshot has been open",
}

app = typer.Typer(
    name="kvwasi",
    help="An embedded key-value store in sandboxed WebAssembly, and a fast WASI host.",
    epilog=console.EXIT_CODES_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _complete_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the named database that begin so: for the shell's completion."""
    with contextlib.suppress(Exception), _open(ctx.params["database"], "r") as store:
        form = KeyFormat(ctx.params.get("key_format") or KeyFormat.TEXT)
        entries = _target(store, ctx.params.get("table"), create=False)
        if form is KeyFormat.TEXT:
            return [os.fsdecode(key) for key in entries.keys(prefix=os.fsencode(incomplete), limit=100)]
        keys = (_show(key, form).decode("ascii") for key in entries.keys(limit=10_000))
        return [key for key in keys if key.startswith(incomplete)][:100]
    return []


def _complete_table(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tables of the named database whose names begin so."""
    with contextlib.suppress(Exception), _open(ctx.params["database"], "r") as store:
        return [name for name in store.tables() if name.startswith(incomplete)][:100]
    return []


Database = Annotated[str, typer.Argument(metavar="DB", help="The database file.", show_default=False)]
Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The key.", show_default=False, autocompletion=_complete_key)
]
KeyFormatOption = Annotated[KeyFormat, typer.Option("--key-format", "-k", help="How keys are written.")]
TableOption = Annotated[
    str | None,
    typer.Option("--table", "-t", metavar="NAME", help="The named table; without it, the store's own keys."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def _options(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        console.write(f"kvwasi {installed_version('kvwasi')}\n".encode())
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(console.EXIT_USAGE)


@app.command(epilog=console.EXIT_CODES_HELP)
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
    raw_key = _parse(key, key_format, "KEY")
    if file is not None:
        with open(file, "rb") as stream:
            content = stream.read()
    else:
        content = console.stdin().read() if value == "-" else os.fsencode(value or "")
    with _open(database, "c") as store:
        entries = _target(store, table)
        if expect is not None:
            stored = entries.put(raw_key, content, expect=os.fsencode(expect))
        else:
            stored = entries.put(raw_key, content, overwrite=overwrite)
    if stored:
        return 0
    why = "is there already" if expect is None else "has another value, or is not there"
    return console.complain(console.EXIT_NO, f"{database}: the key {key} {why}")


@app.command(epilog=console.EXIT_CODES_HELP)
def get(
    database: Database,
    key: Key,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Write the value to this file.")] = None,
    json: Json = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> int:
    """Write a key's value to standard output, as it is."""
    raw_key = _parse(key, key_format, "KEY")
    with _open(database, "r") as store:
        value = _target(store, table, create=False).get(raw_key)
    if value is None:
        return console.complain(console.EXIT_NO, f"{database}: no key {key}")
    if json:
        from kvwasi.formats import jsonl

        value = jsonl.encode_line((raw_key, value))
    with _open_output(file or "-", database) as stream:
        stream.write(value)
    return 0


@app.command(epilog=console.EXIT_CODES_HELP)
def delete(
    database: Database,
    key: Key,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> int:
    """Remove a key and its value."""
    with _open(database, "w") as store:
        if _target(store, table, create=False).delete(_parse(key, key_format, "KEY")):
            return 0
    return console.complain(console.EXIT_NO, f"{database}: no key {key}")


@app.command("list", epilog=console.EXIT_CODES_HELP)
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
        name: _parse(text, key_format, f"--{name}") for name, text in bounds.items() if text is not None
    }
    with _open(database, "r") as store:
        entries = _target(store, table, create=False)
        if count:
            console.write(b"%d\n" % len(entries.keys(**ranges, limit=limit)))
            return
        if not values:
            for key in entries.keys(**ranges, reverse=reverse, limit=limit):
                console.write(jsonl.encode_key(key) if json else _show(key, key_format) + b"\n")
            return
        for key, value in entries.items(**ranges, reverse=reverse, limit=limit):
            if json:
                console.write(jsonl.encode_line((key, value)))
            else:
                console.write(b"%b\t%b\n" % (_show(key, key_format), _show(value, value_format)))


@app.command(epilog=console.EXIT_CODES_HELP)
def load(
    database: Database,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE|-", help="A file, a directory; - is standard input.")
    ] = "-",
    form: Annotated[
        LoadFormat, typer.Option("--format", help="The format; auto recognises it.")
    ] = LoadFormat.AUTO,
    batch: Annotated[
        int, typer.Option(min=0, metavar="N", help="Commit every N entries (or 8 MiB); 0: all or nothing.")
    ] = 10_000,
    table: TableOption = None,
    json: Json = False,
) -> None:
    """Load JSON lines, the text of mdb_dump, or a directory tree (path -> content). Creates the database.

    Keys that are there are overwritten. What the source says of tables is kept; --table says where the rest
    goes.
    """
    from kvwasi import transfer
    from kvwasi.formats import FormatError

    count = 0
    with (
        _open_source(source, form, database) as opened,
        _open(database, "c") as store,
        _progress(opened) as show,
    ):
        try:
            for count in transfer.load(store, opened.entries, batch, table):
                show(count)
        except FormatError as error:
            kept = f"{count} entries before it are loaded" if batch else "nothing is loaded"
            name = "standard input" if source == "-" else source
            raise console.DataError(f"{name}: {error}; {kept}") from None
    if json:
        console.write_json({"entries": count, "skipped": opened.skipped})
    else:
        skipped = f", {opened.skipped} skipped that are no files" if opened.skipped else ""
        console.tell(f"{count} {'entry' if count == 1 else 'entries'} loaded{skipped}")


@app.command(epilog=console.EXIT_CODES_HELP)
def dump(
    database: Database,
    output: Annotated[str, typer.Option("--output", "-o", help="Write here; - is standard output.")] = "-",
    form: Annotated[
        DumpFormat, typer.Option("--format", help="JSON lines, or the text of mdb_dump (-print: of -p).")
    ] = DumpFormat.JSONL,
    table: TableOption = None,
) -> None:
    """Write all entries in key order, of all tables (--table: of one), so that load can read them.

    JSON lines are {"key": "text", "value": "text"}, with "table" in those of a table; what is not UTF-8
    stands in base64, under "key_base64" and "value_base64".
    """
    from kvwasi import transfer

    with _open(database, "r") as store:
        _target(store, table, create=False)  # tells before the output is made
        with _open_output(output, database) as stream:
            try:
                transfer.dump(store, stream, form.value, table)
            except transfer.TableNameError as error:
                raise console.DataError(f"{database}: {error}") from None


@app.command(epilog=console.EXIT_CODES_HELP)
def tables(database: Database, json: Json = False) -> None:
    """Print the names of the tables in order, one a line; with --json how many keys each has, too."""
    from kvwasi.formats import jsonl
    from kvwasi.table import encode_name

    with _open(database, "r") as store:
        for name in store.tables():
            if not json:
                console.write(encode_name(name) + b"\n")
                continue
            console.write_json(
                jsonl.encode_member("table", encode_name(name)) | {"keys": len(store.table(name))}
            )


@app.command("drop-table", epilog=console.EXIT_CODES_HELP)
def drop_table(
    database: Database,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The table.", show_default=False, autocompletion=_complete_table),
    ],
) -> None:
    """Remove a table and all that is in it."""
    with _open(database, "w") as store:
        store.drop_table(name)


@app.command(epilog=console.EXIT_CODES_HELP)
def stats(database: Database, json: Json = False) -> None:
    """Print what is known of a database: keys, bytes, sectors, commits, and what each number means."""
    with _open(database, "r") as store:
        facts = asdict(store.stats())
    console.write_facts(facts, as_json=json, words=_STATS_WORDS)


@app.command(epilog=console.EXIT_CODES_HELP)
def check(database: Database, json: Json = False) -> int:
    """Read everything and verify every checksum; changes nothing. Exit code 3 if something is damaged."""
    with _open(database, "r") as store:
        problems = store.check()
    if json:
        from kvwasi.formats import jsonl

        found = [
            {"offset": problem.offset, "kind": problem.kind, **jsonl.encode_member("key", problem.key)}
            for problem in problems
        ]
        console.write_json({"ok": not problems, "problems": found})
    for problem in () if json else problems:
        console.write(f"offset {problem.offset}: {problem.kind} damaged, key {problem.key!r}\n".encode())
    if problems:
        return console.complain(console.EXIT_DATA, f"{database}: {len(problems)} problems")
    if not json:
        console.tell(f"{database}: no problem found")
    return 0


@app.command(epilog=console.EXIT_CODES_HELP)
def compact(database: Database, json: Json = False) -> None:
    """Rewrite what is live and give the rest of the space back to the file system."""
    before = os.stat(database).st_size
    with _open(database, "w") as store:
        store.compact()
    after = os.stat(database).st_size
    if json:
        console.write_json({"file_bytes_before": before, "file_bytes": after})
    else:
        console.tell(f"{before} bytes before, {after} bytes now")


@app.command(epilog=console.EXIT_CODES_HELP)
def backup(
    database: Database,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new database.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json: Json = False,
) -> None:
    """Copy a database with all its tables into a new, compact one, which appears when it is whole."""
    with _open(database, "r") as store:
        written = store.backup(target, overwrite=overwrite)
    if json:
        console.write_json({"keys": written.keys, "tables": written.tables, "file_bytes": written.file_bytes})
    else:
        console.tell(f"keys: {written.keys}, tables: {written.tables}, bytes: {written.file_bytes}")


@app.command(epilog=console.EXIT_CODES_HELP)
def repair(
    database: Database,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The new file, in DB's directory.", show_default=False)
    ],
    json: Json = False,
) -> int:
    """Salvage a damaged database into a new file; DB is only read. Exit code 3 if something was lost."""
    import kvwasi

    report = kvwasi.repair(database, target)
    if json:
        facts = {name: value for name, value in asdict(report).items() if name != "problems"}
        console.write_json({**facts, "lost": report.lost, "problems": len(report.problems)})
    else:
        for problem in report.problems:
            console.write(f"offset {problem.offset}: {problem.kind} damaged, key {problem.key!r}\n".encode())
        console.write(f"{report}\n".encode())
    if report.lost:
        return console.complain(console.EXIT_DATA, f"{database}: not everything could be salvaged")
    return 0


@app.command(epilog=console.EXIT_CODES_HELP)
def run(
    module: Annotated[str, typer.Argument(metavar="MODULE.wasm", help="A WASI preview1 program.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="-- ARGS", help="Its arguments.")] = None,
    directories: Annotated[
        list[str] | None,
        typer.Option(
            "--dir", metavar="HOST[::GUEST][:ro][:exclusive]", help="A directory it may use; may be repeated."
        ),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="A variable it sees; without VALUE, ours."),
    ] = None,
    argv0: Annotated[str | None, typer.Option(metavar="NAME", help="Its name for itself.")] = None,
) -> int:
    """Run a WASI program on the fast WASI host. The exit code is the program's.

    :ro makes a directory read-only; :exclusive promises that nobody else changes its files (and is faster).
    """
    import signal

    from wasmtime import WasmtimeError

    from kvwasi.wasi import run_module

    preopens = [_parse_preopen(text) for text in directories or ()]
    variables = [_parse_variable(text) for text in environment or () if "=" in text or text in os.environ]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would wait for the program to end
    try:
        return run_module(module, arguments or (), variables, preopens, argv0)
    except WasmtimeError as error:
        raise console.DataError(f"{module}: {error}") from None


for part in (benchmark, crashcheck):
    part.mount(app)


def _parse(text: str, form: KeyFormat, name: str) -> bytes:
    """The bytes that an argument stands for. As text these are the bytes that the shell passed."""
    try:
        if form is KeyFormat.HEX:
            return bytes.fromhex(text)
        if form is KeyFormat.BASE64:
            return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not {form}", param_hint=name) from None
    return os.fsencode(text)


def _show(data: bytes, form: KeyFormat) -> bytes:
    if form is KeyFormat.HEX:
        return data.hex().encode("ascii")
    return binascii.b2a_base64(data, newline=False) if form is KeyFormat.BASE64 else data


def _parse_preopen(text: str) -> "Preopen":
    """``HOST[::GUEST][:ro][:exclusive]``: without GUEST the guest sees the host's name."""
    from kvwasi.wasi import Preopen

    options = set[str]()
    while text.endswith((":ro", ":exclusive")):
        text, _, option = text.rpartition(":")
        options.add(option)
    host, _, guest = text.partition("::")
    if not host:
        raise typer.BadParameter("the host's directory is missing", param_hint="--dir")
    sharing: Literal["exclusive", "shared"] = "exclusive" if "exclusive" in options else "shared"
    return Preopen(host, guest or host, write="ro" not in options, sharing=sharing)


def _parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    return name, value if equals else os.environ[name]


def _open(database: str, flag: Literal["r", "w", "c"]) -> "Store":
    import kvwasi

    return kvwasi.open(database, flag)


@contextlib.contextmanager
def _open_source(path: str, form: LoadFormat, database: str) -> "Iterator[Source]":
    from kvwasi.formats import source

    if path == "-":
        stream = console.stdin()
        yield source.Source(source.read(stream, form.value), None, lambda: 0)
        return
    with source.open_path(
        path, form.value, exclude=(database, os.path.realpath(database) + "-lock")
    ) as opened:
        yield opened


def _target(store: "Store", table: str | None, *, create: bool = True) -> "Store | Table":
    """What ``--table`` names."""
    return store if table is None else store.table(table, create=create)


@contextlib.contextmanager
def _progress(source: "Source") -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere. It is told how many entries are in."""
    if source.size_bytes is None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    with typer.progressbar(length=source.size_bytes, label="loading", file=sys.stderr) as bar:

        def show(count: int) -> None:
            bar.label = f"{count} entries"
            bar.update(source.position_bytes() - bar.pos)

        yield show


def _open_output(path: str, database: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if os.path.exists(path) and os.path.samefile(path, database):
        raise typer.BadParameter(f"{path} is the database itself")
    return console.output(path)


def main() -> None:
    """Entry point of the ``kvwasi`` command."""
    console.run(lambda: app(standalone_mode=False))
