"""The command as a Unix process: its streams, its exit codes, one line for every error."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_LOCKED = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 128 + signal.SIGINT

EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 not found, there already, or another value than --expect; 2 wrong usage; "
    "3 malformed input, a damaged database, a limit or an input/output error; 4 locked by another process; "
    "70 a bug; 130 interrupted. Errors are one line on standard error."
)


class DataError(Exception):
    """What a command was given cannot be used: one line, exit code 3."""


def stdin() -> BinaryIO:
    """Standard input as bytes."""
    if sys.stdin is None:
        raise DataError("standard input is closed")
    return sys.stdin.buffer


def stdout() -> BinaryIO:
    """Standard output for bytes."""
    if sys.stdout is None:
        raise DataError("standard output is closed")
    return sys.stdout.buffer


def write(data: bytes) -> None:
    """Write to standard output, as it is."""
    try:
        stdout().write(data)
    except OSError as error:
        raise _named(error) from None


@contextlib.contextmanager
def output(path: str) -> Iterator[BinaryIO]:
    """A file to write, or standard output for ``-``. Its failures name it; those of the store pass."""
    try:
        if path == "-":
            yield stdout()
        else:
            with open(path, "wb") as stream:
                yield stream
    except OSError as error:
        if error.filename is not None or type(error).__module__ != "builtins":
            raise
        raise _named(error) if path == "-" else OSError(error.errno, error.strerror, path) from None


def write_json(value: object) -> None:
    """Write one line of JSON to standard output."""
    import json

    write(json.dumps(value).encode("ascii") + b"\n")


def write_facts(facts: dict[str, object], *, as_json: bool, words: Mapping[str, str] | None = None) -> None:
    """Write names, values and what ``words`` says of them, one a line, or all as one JSON object."""
    if as_json:
        write_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        said = (words or {}).get(name)
        write(f"{name:<{width}}  {value}{f'  ({said})' if said else ''}\n".encode())


def tell(message: str) -> None:
    """Say what was done: on standard error, because standard output is for data."""
    if sys.stderr is not None:
        print(message, file=sys.stderr)


def complain(code: int, message: str) -> int:
    """Say in one line what is wrong; returns the exit code."""
    tell("kvwasi: " + " ".join(message.split()))
    return code


def run(command: Callable[[], Any]) -> None:
    """Run ``command`` and exit with the code it returns (None: 0) or that its error stands for."""
    try:
        _prepare()
        code = command() or 0
        flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        code = _fail(error)
    sys.exit(cast(int, code))


def _prepare() -> None:
    """Die quietly of a closed pipe, as tools do; keep a database from becoming descriptor 0, 1 or 2."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def flush() -> None:
    """Hand over what was written so far."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _named(error) from None


def _named(error: OSError) -> OSError:
    """The failure of standard output; what it still holds goes nowhere, or the exit would fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return OSError(error.errno, error.strerror, "standard output")


def _fail(error: Exception) -> int:
    """The one translation of an error to an exit code and a line."""
    usage = getattr(error, "format_message", None)  # errors of Typer
    if usage is not None:
        message = usage()
        if re.match(r"No such option: -\d", message):
            message += ": before an argument that begins with a dash comes --"
        return complain(EXIT_USAGE, f"{message} (--help says more)")
    if isinstance(error, FileNotFoundError):
        return complain(EXIT_NO, _describe(error))
    if isinstance(error, MemoryError):
        return complain(EXIT_DATA, "out of memory")
    from kvwasi.errors import DatabaseExistsError

    if isinstance(error, DatabaseExistsError):
        return complain(EXIT_NO, _describe(error))
    if isinstance(error, (OSError, DataError)):
        return complain(EXIT_DATA, _describe(error))
    from kvwasi import DatabaseLockedError, KvError, NoSuchTableError

    if isinstance(error, NoSuchTableError):
        return complain(EXIT_NO, str(error))
    if isinstance(error, KvError):
        return complain(EXIT_LOCKED if isinstance(error, DatabaseLockedError) else EXIT_DATA, str(error))
    if type(error).__name__ == "Abort":  # Typer's word for Ctrl-C, in some versions
        return EXIT_INTERRUPTED
    if os.environ.get("KVWASI_TRACEBACK"):
        raise error
    return complain(EXIT_BUG, f"{type(error).__name__}: {error} (a bug; KVWASI_TRACEBACK=1 shows where)")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else error.strerror
    return str(error)
