"""Which table a command is about, of which kind; ``tables`` and ``drop-table``."""

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from kvwasi import console
from kvwasi.commands.arguments import Database, Json, complete_table, look, open_store

if TYPE_CHECKING:
    from kvwasi import DuplicatesTable, ExpiringTable, Store, Table

    Opened: TypeAlias = Store | Table | DuplicatesTable | ExpiringTable


class Kind(StrEnum):
    """What a table keeps of a key."""

    PLAIN = "plain"
    DUPSORT = "dupsort"
    EXPIRES = "expires"

    def names(self, store: "Store") -> list[str]:
        """The tables of this kind, in order."""
        return store.tables(dupsort=self is Kind.DUPSORT, expires=self is Kind.EXPIRES)

    def open(self, store: "Store", name: str, *, create: bool) -> "Table | DuplicatesTable | ExpiringTable":
        """The table of this kind and name."""
        if self is Kind.DUPSORT:
            return store.table(name, create=create, dupsort=True)
        if self is Kind.EXPIRES:
            return store.table(name, create=create, expires=True)
        return store.table(name, create=create)


KindOption = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        help="What the table is: plain, with several values a key (dupsort), or with entries that expire. "
        "Without it, what there is of that name.",
    ),
]


def kind_of(store: "Store", name: str) -> Kind | None:
    """What there is of a name; a plain table first, for each kind has names of its own."""
    from kvwasi import KeyTooLargeError, NoSuchTableError

    for kind in Kind:
        with contextlib.suppress(NoSuchTableError, KeyTooLargeError):  # a plain one's name may be the longest
            kind.open(store, name, create=False)
            return kind
    return None


def opened(store: "Store", table: str | None, kind: Kind | None, *, create: bool) -> "Opened":
    """What ``--table`` and ``--kind`` name."""
    if table is None:
        if kind is not None:
            raise typer.BadParameter("--kind is that of a --table")
        return store
    return (kind or kind_of(store, table) or Kind.PLAIN).open(store, table, create=create)


def expiring(store: "Store", table: str) -> Kind:
    """The kind of a table for what expires. Refused if it would stand beside another table of that name."""
    there = kind_of(store, table)
    if there not in (None, Kind.EXPIRES):
        raise typer.BadParameter(
            f"there is a table {table} of the kind {there}; --kind expires makes another one of that name"
        )
    return Kind.EXPIRES


def target(store: "Store", table: str | None, *, create: bool = True) -> "Store | Table":
    """What ``--table`` names, for a command that knows nothing but keys and values."""
    if table is None:
        return store
    kind = kind_of(store, table)
    if kind not in (None, Kind.PLAIN):
        raise typer.BadParameter(f"the table {table} is of the kind {kind}: this is for plain ones")
    return store.table(table, create=create)


def tables(database: Database, json: Json = False) -> None:
    """Print the tables in order, one a line, with a tab and their kind behind those that are not plain; with
    --json how much is in each, too.
    """
    from kvwasi.formats import jsonl
    from kvwasi.names import encode_name

    def read(store: "Store") -> list[tuple[str, Kind, int]]:
        found = [(name, kind) for kind in Kind for name in kind.names(store)]
        return [
            (name, kind, len(kind.open(store, name, create=False)) if json else 0)
            for name, kind in sorted(found)
        ]

    for name, kind, size in look(database, read):
        raw, plain = encode_name(name), kind is Kind.PLAIN
        if json:
            told = {"keys": size} if plain else {"kind": kind.value, "entries": size}
            console.write_json({**jsonl.encode_member("table", raw), **told})
        else:
            console.write(raw + (b"" if plain else b"\t" + kind.value.encode()) + b"\n")


def drop_table(
    database: Database,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The table.", show_default=False, autocompletion=complete_table),
    ],
    kind: KindOption = None,
) -> None:
    """Remove a table and all that is in it."""
    with open_store(database, "w") as store:
        which = kind or kind_of(store, name)
        store.drop_table(name, dupsort=which is Kind.DUPSORT, expires=which is Kind.EXPIRES)


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    short = "Print the names of the tables, and their kinds."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(tables)
    app.command("drop-table", epilog=console.EXIT_CODES_HELP)(drop_table)
