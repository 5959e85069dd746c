"""``kvwasi load`` and ``dump``: from other formats and to them."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kvwasi import console
from kvwasi.commands.arguments import Database, Json, TableOption, open_output, open_store
from kvwasi.commands.tables import target

if TYPE_CHECKING:
    from kvwasi.formats.source import Source


_STDIN = "standard input"


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


def load(
    database: Database,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE|-", help="A file, directory or database; - is standard input."),
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
    """Load JSON lines, the text of mdb_dump, a directory tree (path -> content) or another database.

    Creates the database. Keys that are there are overwritten, but time series and tables that expire are not
    merged with such as are there. What the source says of tables is kept; --table
    says where the rest goes. Other databases are lmdb:PATH (with all its named databases),
    sqlite:FILE?table=T&key=K&value=V and dbm:PATH; what was loaded from them is read again and compared.
    """
    from kvwasi import transfer
    from kvwasi.formats import ForeignError, FormatError

    count = 0
    name = _STDIN if source == "-" else source
    with (
        _open_source(source, form, database) as opened,
        open_store(database, "c") as store,
        _progress(opened) as show,
    ):
        target(store, table)  # not one of another kind
        try:
            for count in transfer.load(store, opened.entries, batch, table, opened.tables):
                show(count)
        except (FormatError, ForeignError) as error:
            kept = f"{count} entries before it are loaded" if batch and count else "nothing is loaded"
            problem = f"{name}: {error}" if isinstance(error, FormatError) else error
            raise console.DataError(f"{problem}; {kept}") from None
        if opened.again is not None and (wrong := transfer.compare(store, opened.again(), table)):
            raise console.DataError(f"{wrong} of {count} entries are not what {source} has")
    for note in opened.notes:
        console.tell(f"{name}: {note}")
    if json:
        console.write_json({"entries": count, "skipped": opened.skipped})
    else:
        what = "have no value" if opened.again else "are no files"
        skipped = f", {opened.skipped} skipped that {what}" if opened.skipped else ""
        verified = " and compared" if opened.again else ""
        console.tell(f"{count} {'entry' if count == 1 else 'entries'} loaded{verified}{skipped}")


def dump(
    database: Database,
    output: Annotated[str, typer.Option("--output", "-o", help="Write here; - is standard output.")] = "-",
    form: Annotated[
        DumpFormat, typer.Option("--format", help="JSON lines, or the text of mdb_dump (-print: of -p).")
    ] = DumpFormat.JSONL,
    table: TableOption = None,
) -> None:
    """Write all entries in key order, of all tables (--table: of one), so that load can read them.

    JSON lines are {"key": "text", "value": "text"}, with "table" in those of a table, but not with --table:
    what load reads then goes to a table of your choice. What is not UTF-8 stands in base64, under
    "key_base64" and "value_base64".
    """
    from kvwasi import transfer

    with open_store(database, "r") as store:
        target(store, table, create=False)  # tells before the output is made
        with open_output(output, database) as stream:
            try:
                left_out = transfer.dump(store, stream, form.value, table)
            except transfer.TableNameError as error:
                raise console.DataError(f"{database}: {error}") from None
    if left_out:
        console.tell(f"{left_out} time series or tables that expire are left out: the format has none")


@contextlib.contextmanager
def _open_source(path: str, form: LoadFormat, database: str) -> "Iterator[Source]":
    from kvwasi.formats import ForeignError, NoSuchSourceError, source

    exclude = (database, os.path.realpath(database) + "-lock")
    try:
        if path == "-":
            yield source.of_stream(console.stdin(), _STDIN, form.value)
            return
        with source.open_path(path, form.value, exclude=exclude) as opened:
            yield opened
    except NoSuchSourceError:
        raise
    except ForeignError as error:
        raise console.DataError(str(error)) from None


@contextlib.contextmanager
def _progress(source: "Source") -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere. It is told how many entries are in."""
    if source.size is None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    with typer.progressbar(length=source.size, label="loading", file=sys.stderr) as bar:

        def show(count: int) -> None:
            bar.label = f"{count} entries"
            bar.update(source.position() - bar.pos)

        yield show


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    short = "Load JSON lines, mdb_dump's text, a tree or another database."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(load)
    short = "Write all entries in key order, as text that load reads."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(dump)
