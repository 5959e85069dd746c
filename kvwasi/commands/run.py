"""``kvwasi run``: somebody's program on the WASI host."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvwasi import console

if TYPE_CHECKING:
    from kvwasi.wasi import Preopen


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
    variables = [
        _parse_variable(text) for text in environment or () if "=" in text or not text or text in os.environ
    ]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would wait for the program to end
    try:
        return run_module(module, arguments or (), variables, preopens, argv0)
    except WasmtimeError as error:
        raise console.DataError(f"{module}: {error}") from None


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
    if not name:
        raise typer.BadParameter("the variable's name is missing", param_hint="--env")
    return name, value if equals else os.environ[name]


def mount(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    app.command(epilog=console.EXIT_CODES_HELP)(run)
