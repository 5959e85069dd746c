"""``kvwasi watch``: what changes, as it changes."""

import errno
import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvwasi import console
from kvwasi.commands.arguments import (
    Database,
    KeyFormat,
    KeyFormatOption,
    TableOption,
    parse,
    show,
)
from kvwasi.commands.tables import target
from kvwasi.errors import NoSuchDatabaseError

if TYPE_CHECKING:
    from kvwasi import Store

_INTERVAL_MAX_S = 86_400
_SETTLED_LOOKS = 2  # after a change, because two in the same tick of the file's clock look like one


def watch(
    database: Database,
    prefix: Annotated[str | None, typer.Option(help="Only keys that begin so.")] = None,
    series: Annotated[
        str | None, typer.Option("--series", "-s", metavar="NAME", help="New entries of this time series.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between looks.")] = 0.5,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    key_format: KeyFormatOption = KeyFormat.TEXT,
    table: TableOption = None,
) -> None:
    """Print changes as they are made, until interrupted: `put KEY VALUE`, `delete KEY`, or a series' entries.

    Whoever writes the database goes on undisturbed. Of a key that changes more than once between two looks,
    the last value is shown.
    """
    import kvwasi

    if not interval <= _INTERVAL_MAX_S:  # nan, too
        raise typer.BadParameter(f"at most {_INTERVAL_MAX_S} seconds", param_hint="--interval")
    if series is not None and (prefix is not None or table is not None):
        raise typer.BadParameter("--series has neither a prefix nor a table")
    wanted = None if prefix is None else parse(prefix, key_format, "--prefix")
    what: _Keys | _Entries = _Keys(wanted, table, key_format) if series is None else _Entries(series)
    seen: Any = None
    left = count
    for _ in _changed(database, interval):
        lines, seen = kvwasi.peek(database, lambda store, seen=seen: what.look(store, seen))  # type: ignore[misc]
        for line in lines[:left]:
            console.write(what.show(line, as_json=as_json))
        console.flush()
        left = None if left is None else left - len(lines)
        if left is not None and left <= 0:
            return


def _changed(path: str, interval: float) -> Iterator[None]:
    """Once for each look at which the file may have changed."""
    before, settled = None, 0
    while True:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise NoSuchDatabaseError(errno.ENOENT, "no such database", path) from None
        now = status.st_ino, status.st_size, status.st_mtime_ns
        settled = 0 if now != before else settled + 1
        before = now
        if settled < _SETTLED_LOOKS:
            yield
        time.sleep(interval)


class _Keys:
    """The keys of a range. What was seen of them is a hash of each value."""

    def __init__(self, prefix: bytes | None, table: str | None, form: KeyFormat) -> None:
        self._prefix = prefix
        self._table = table
        self._form = form

    def look(self, store: "Store", seen: dict[bytes, int] | None) -> tuple[list[Any], dict[bytes, int]]:
        """Changes since what was seen, and what is seen now. The first look finds no change."""
        from kvwasi.engine._engine import hash64

        now: dict[bytes, int] = {}
        changes: list[tuple[bytes, bytes | None]] = []
        if self._table is None or self._table in store.tables():
            for key, value in target(store, self._table).items(prefix=self._prefix):
                now[key] = hash64(value)
                if seen is not None and seen.get(key) != now[key]:
                    changes.append((key, value))
        changes += [(key, None) for key in seen or () if key not in now]
        return sorted(changes, key=lambda change: change[0]), now

    def show(self, change: tuple[bytes, bytes | None], *, as_json: bool) -> bytes:
        """A change as a line."""
        key, value = change
        verb = "put" if value is not None else "delete"
        if as_json:
            from kvwasi.formats import jsonl

            members = {"change": verb} | jsonl.encode_member("key", key)
            if value is not None:
                members |= jsonl.encode_member("value", value)
            return json.dumps(members).encode() + b"\n"
        shown = [verb.encode(), show(key, self._form), *([] if value is None else [value])]
        return b"\t".join(shown) + b"\n"


class _Entries:
    """A time series. What was seen of it is the time of the newest entry."""

    def __init__(self, name: str) -> None:
        self._name = name

    def look(self, store: "Store", seen: int | None) -> tuple[list[Any], int]:
        """Entries since what was seen, and what is seen now. The first look finds none."""
        with store.snapshot() as snapshot:
            series = snapshot.series(self._name)
            newest = next(series.entries(reverse=True), None)
            found = [] if seen is None else list(series.items(start=seen + 1))
        if newest is not None:
            return found, newest.time
        return found, -1 if seen is None else seen  # it may have been cleaned

    def show(self, entry: Any, *, as_json: bool) -> bytes:
        """An entry as a line."""
        from kvwasi.commands.series import TimeFormat, show_entry

        return show_entry(*entry, form=TimeFormat.ISO, as_json=as_json)


def mount(app: typer.Typer) -> None:
    """Make it a command of ``app``."""
    short = "Print changes as they are made, until interrupted."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(watch)
