"""``kvwasi bench``: parse, measure, print. The rest is imported when it runs."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from kvwasi import console


def bench(
    directory: Annotated[str, typer.Option("--directory", "-d", help="On the disk to measure.")] = ".",
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine", "-e", metavar="NAME", help="lmdb, sqlite3, rocksdb, leveldb or diskcache; repeatable."
        ),
    ] = None,
    keys: Annotated[int, typer.Option(min=100, help="How many, of 16 bytes, with 100 bytes each.")] = 100_000,
    turns: Annotated[int, typer.Option(min=1, help="Runs of each workload on each engine.")] = 3,
    plot: Annotated[str | None, typer.Option(metavar="FILE.svg", help="Draw the ratios.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure this machine: kvwasi beside LMDB and SQLite, each commit on disk, results compared by hash.

    Takes about a minute and some 100 MB of disk, which it gives back.
    """
    from pathlib import Path

    from kvwasi.bench import harness, quick

    if plot is not None and not plot.endswith(".svg"):
        raise typer.BadParameter("a picture is an .svg file", param_hint="--plot")
    try:
        plan = quick.plan(engines or (), keys, turns)
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="--engine") from None
    for name in plan.missing:
        console.tell(f"{name} is not installed and therefore not compared: pip install {name}")
    try:
        with _counting(plan.reports) as show:
            document = quick.run(plan, Path(directory), show)
    except harness.WrongResultError as error:
        raise console.DataError(str(error)) from None
    if json:
        console.write_json(document)
    else:
        console.write(quick.table(plan, document).encode())
    if plot is not None:
        with console.output(plot) as stream:
            stream.write(quick.chart(plan, document).encode())


@contextlib.contextmanager
def _counting(total: int) -> Iterator[Callable[[str], None]]:
    """The like for ``total`` parts of a work, each told with its name when it is done."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done: None
        return
    with typer.progressbar(length=total, label="measuring", file=sys.stderr) as bar:

        def show(done: str) -> None:
            bar.label = f"{done:24}"
            bar.update(1)

        yield show


def mount(app: typer.Typer) -> None:
    """Make it a command of ``app``."""
    short = "Measure this machine: kvwasi beside LMDB and SQLite."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(bench)
