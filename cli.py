"""The ``kvwasi`` command: its families of commands, put together."""

from typing import Annotated

import typer

from kvwasi import console
from kvwasi.bench import command as benchmark
from kvwasi.commands import entries, exchange, run, series, tables, upkeep, watch
from kvwasi.crashcheck import command as crashcheck

app = typer.Typer(
    name="kvwasi",
    help="An embedded key-value store in sandboxed WebAssembly, and a fast WASI host.",
    epilog=console.EXIT_CODES_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for family in (entries, exchange, tables, upkeep, series, watch, run, benchmark, crashcheck):
    family.mount(app)


def main() -> None:
    """Entry point of the ``kvwasi`` command."""
    console.run(lambda: app(standalone_mode=False))
