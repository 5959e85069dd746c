"""``stats``, ``check``, ``compact``, ``backup``, ``restore``, ``repair``."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kvwasi import console
from kvwasi.commands.arguments import Database, Json, look, open_store

if TYPE_CHECKING:
    from kvwasi.backup import Backup

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]

# What stats says of the numbers whose names do not say it all.
_STATS_WORDS = {
    "keys": "of the store itself; `tables --json` counts those of tables",
    "live_bytes": "records that the present state refers to",
    "commits": "since the database was made",
    "durable_position": "of the log, in bytes since the database was made: what is known to be on disk",
    "end_position": "of the log: its end",
    "index_nodes": "of 4096 bytes",
    "memory_bytes": "of the engine, its cache among them",
    "recovered_commits": "taken over by this opening after an unclean stop",
    "discarded_bytes": "of an unfinished write that this opening found",
    "cursors": "iterators that are open now",
    "format_version": "of the file",
    "erase_max": "the most that any sector was used again",
    "snapshots": "open now",
    "cached_nodes": "of the index, in memory",
    "changed_nodes": "of those, not yet in the file",
    "node_loads": "read from the file since opening",
    "tail_bytes": "of the log behind the newest checkpoint, which opening replays",
    "tail_records": "in these bytes",
    "checkpoint": "number of the newest one",
    "database_id": "random, drawn when the file was made",
    "generation": "of the sectors in which new entries lie",
    "cache_bytes": "the limit of the memory for the index",
    "erases": "how often a sector was used again, over all of them",
    "sectors_free": "to be used again",
    "pinned_bytes": "held for old snapshots, checkpoints and readers only",
    "snapshot_age_seconds": "how long the oldest snapshot has been open",
    "kept_checkpoints": "kept for readers in other processes, while one writes",
    "reader_age_seconds": "how long the oldest of those has been kept",
}


def stats(database: Database, json: Json = False) -> None:
    """Print what is known of a database: keys, bytes, sectors, commits, and what each number means."""
    facts = asdict(look(database, lambda store: store.stats()))
    console.write_facts(facts, as_json=json, words=_STATS_WORDS)


def check(database: Database, json: Json = False) -> int:
    """Read everything and verify every checksum; changes nothing. Exit code 3 if something is damaged."""
    with open_store(database, "r") as store:
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


def compact(database: Database, json: Json = False) -> None:
    """Rewrite what is live and give the rest of the space back to the file system."""
    with open_store(database, "w") as store:
        before = os.stat(database).st_size
        store.compact()
    after = os.stat(database).st_size
    if json:
        console.write_json({"file_bytes_before": before, "file_bytes": after})
    else:
        console.tell(f"{before} bytes before, {after} bytes now")


def backup(
    database: Database,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new database.", show_default=False)],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="BACKUP", help="Copy only what has changed since this one."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Copy a database with all its tables into a new, compact one, which appears when it is whole.

    With --since, TARGET continues an earlier backup: `kvwasi restore` makes a database of both.
    """
    with open_store(database, "r") as store:
        _tell_of(store.backup(target, since=since, overwrite=overwrite), json)


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="The last one.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new database.", show_default=False)],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a database of a backup and of those that it continues, which lie beside it.

    It appears when it is whole and found to hold exactly what there was.
    """
    import kvwasi

    _tell_of(kvwasi.restore(backup, target, overwrite=overwrite), json)


def _tell_of(written: "Backup", json: bool) -> None:
    facts = {name: value for name, value in asdict(written).items() if name != "path"}
    if json:
        console.write_json(facts)
        return
    deleted = f", deleted: {written.deleted}" if written.deleted else ""
    console.tell(f"keys: {written.keys}{deleted}, tables: {written.tables}, bytes: {written.file_bytes}")


def repair(
    database: Database,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The new file, in DB's directory.", show_default=False)
    ],
    json: Json = False,
) -> int:
    """Salvage a damaged database into a new file; DB is only read. Exit code 3 if something was lost."""
    import kvwasi

    try:
        report = kvwasi.repair(database, target)
    except ValueError as error:
        if isinstance(error, kvwasi.KvError):
            raise
        raise typer.BadParameter(str(error), param_hint="TARGET") from None
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


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    short = {
        stats: "Print what is known of a database: keys, bytes, sectors.",
        compact: "Rewrite what is live, and give back the rest of the space.",
        backup: "Copy a database into a new, compact one, while it is used.",
        restore: "Make a database of a backup and those that it continues.",
    }
    for command in (stats, check, compact, backup, restore, repair):
        app.command(epilog=console.EXIT_CODES_HELP, short_help=short.get(command))(command)
