"""``kvwasi ts``: time series."""

import os
import shutil
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvwasi import console
from kvwasi.commands.arguments import Database, Json, at_most, look, open_output, open_store
from kvwasi.commands.times import TIME_MAX, TIMES_HELP, parse_timedelta, time_of_entry, time_of_range

if TYPE_CHECKING:
    from kvwasi import Retention, Series, Status, Store

ts = typer.Typer(
    name="ts",
    help="Time series: append, list, count, export, plot, drop.",
    epilog=console.EXIT_CODES_HELP,
    no_args_is_help=False,
    rich_markup_mode=None,
)


class ValueKind(StrEnum):
    """What the values of a new series are."""

    AUTO = "auto"
    BYTES = "bytes"
    FLOAT = "float"
    INT = "int"


class StatusName(StrEnum):
    """What has become of an entry."""

    WRITTEN = "written"
    USER1 = "user1"
    USER2 = "user2"
    DELETED = "deleted"


class ExportFormat(StrEnum):
    """What ``ts export`` writes."""

    CSV = "csv"
    JSONL = "jsonl"


class TimeFormat(StrEnum):
    """How times are printed."""

    ISO = "iso"
    NS = "ns"


SeriesName = Annotated[str, typer.Argument(metavar="SERIES", help="Its name.", show_default=False)]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help=f"From this time on: {TIMES_HELP}.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to this time, without it.")]
StatusOption = Annotated[
    StatusName | None, typer.Option("--status", help="Only those; without it all but the deleted ones.")
]
TimeFormatOption = Annotated[TimeFormat, typer.Option("--time-format", help="How times are printed.")]


def append(
    database: Database,
    series: SeriesName,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="VALUE...|-", help="Values; - reads lines: VALUE, or TIME,VALUE.", show_default=False
        ),
    ],
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help=f"The time of the value, {TIMES_HELP}.")
    ] = None,
    kind: Annotated[
        ValueKind,
        typer.Option(
            help="Of a new series' values; auto: int, float or bytes, whichever fits all values of the "
            "first call."
        ),
    ] = ValueKind.AUTO,
    bump: Annotated[
        bool, typer.Option("--bump", help="Take the next free nanosecond after a time that is taken.")
    ] = False,
    keep_age: Annotated[
        str | None, typer.Option(metavar="DURATION", help="From now on entries go that are older, as in 7d.")
    ] = None,
    keep_count: Annotated[
        int | None, typer.Option(min=1, help="From now on keep this many entries, the oldest go.")
    ] = None,
    keep_bytes: Annotated[
        int | None, typer.Option(min=1, help="From now on keep this many bytes, the oldest go.")
    ] = None,
    json: Json = False,
) -> None:
    """Append entries; on disk when the command ends. Creates the database and the series.

    With - it reads the CSV that `ts export` writes, too; a new series of bytes that look like numbers needs
    --kind bytes.
    """
    rows: list[tuple[int | None, str]] = [(None, value) for value in values]
    if values == ["-"]:
        rows = list(_read_rows(console.stdin().read()))
    if at is not None:
        if len(rows) != 1:
            raise typer.BadParameter("--at is for one value")
        rows = [(_time(at, "--at", time_of_entry), rows[0][1])]
    with open_store(database, "c") as store:
        opened = store.series(series, retention=_retention(keep_age, keep_count, keep_bytes))
        parsed = _values([text for _, text in rows], opened.kind or kind)
        times = [time for time, _ in rows if time is not None]
        if times and len(times) != len(rows):
            raise console.DataError("either all lines have a time, or none has")
        count = opened.append_many(parsed, times or None, on_conflict="bump" if bump else "error")
    if json:
        console.write_json({"entries": count})
    elif values == ["-"]:
        console.tell(f"{count} {'entry' if count == 1 else 'entries'} appended")


def list_(
    database: Database,
    series: Annotated[
        str | None, typer.Argument(metavar="[SERIES]", help="The series; without it, the names of all.")
    ] = None,
    start: From = None,
    stop: To = None,
    status: StatusOption = None,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Newest first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="At most so many.")] = None,
    time_format: TimeFormatOption = TimeFormat.ISO,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines; null stands for NaN and infinities.")
    ] = False,
) -> None:
    """Print entries in the order of their times: TIME, a tab, VALUE."""
    with open_store(database, "r") as store:
        if series is None:
            _print_names(store, as_json=json)
            return
        opened = _existing(store, series)
        items = opened.items(*_range(start, stop), status=_status(status), reverse=reverse)
        for time, value in at_most(items, limit):
            console.write(show_entry(time, value, form=time_format, as_json=json))


def count(
    database: Database,
    series: SeriesName,
    start: From = None,
    stop: To = None,
    status: StatusOption = None,
    json: Json = False,
) -> None:
    """Print how many entries there are; takes as long for millions as for a few."""
    bounds, wanted = _range(start, stop), _status(status)
    found = look(database, lambda store: _existing(store, series).count(*bounds, status=wanted))
    if json:
        console.write_json({"entries": found})
    else:
        console.write(b"%d\n" % found)


def mark(
    database: Database,
    series: SeriesName,
    at: Annotated[str, typer.Argument(metavar="TIME", help=f"Its time, {TIMES_HELP}.", show_default=False)],
    status: Annotated[
        StatusName,
        typer.Argument(metavar="STATUS", help="written, user1, user2 or deleted.", show_default=False),
    ],
) -> int:
    """Say what has become of the entry of exactly this time."""
    time = _time(at, "TIME", time_of_entry)
    with open_store(database, "w") as store:
        wanted = _status(status)
        assert wanted is not None
        if _existing(store, series).set_status(time, wanted):
            return 0
    return console.complain(console.EXIT_NO, f"{database}: the series {series} has no entry at {at}")


def export(
    database: Database,
    series: SeriesName,
    output: Annotated[str, typer.Option("--output", "-o", help="Write here; - is standard output.")] = "-",
    form: Annotated[ExportFormat, typer.Option("--format", help="CSV or JSON lines.")] = ExportFormat.CSV,
    start: From = None,
    stop: To = None,
    status: StatusOption = None,
    time_format: TimeFormatOption = TimeFormat.ISO,
) -> None:
    """Write entries as CSV, which `ts append -` reads again, or as JSON lines.

    A series of bytes that look like numbers needs `ts append --kind bytes` to be one again. Values that are
    bytes and no UTF-8 stand in base64 in JSON, under value_base64; CSV refuses them. For NaN and infinities
    JSON has null.
    """
    with open_store(database, "r") as store:
        items = _existing(store, series).items(*_range(start, stop), status=_status(status))
        with open_output(output, database) as stream:
            if form is ExportFormat.JSONL:
                for time, value in items:
                    stream.write(_json_line(time, value, time_format))
                return
            stream.write(b"time,value\n")
            for time, value in items:
                stream.write(f"{_shown(time, time_format)},{_csv_field(value)}\n".encode())


def plot(
    database: Database,
    series: SeriesName,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE.svg|FILE.png", help="Draw here.")
    ] = None,
    start: From = None,
    stop: To = None,
    status: StatusOption = None,
) -> None:
    """Draw a series of numbers: into a file, or in the terminal."""
    from kvwasi.series import chart

    if output is not None and not output.endswith((".svg", ".png")):
        raise typer.BadParameter("the name of a picture ends with .svg or .png", param_hint="--output")
    with open_store(database, "r") as store, store.snapshot() as snapshot:
        opened = snapshot.series(series)
        _existing(store, series)
        if opened.kind == "bytes":
            raise console.DataError(f"{database}: the values of the series {series} are no numbers")
        bounds, wanted = _range(start, stop), _status(status)
        first = next(opened.items(*bounds, status=wanted), None)
        last = next(opened.items(*bounds, status=wanted, reverse=True), None)
        if first is None or last is None:
            raise console.DataError(f"{database}: the series {series} has no entries there")
        items = opened.items(*bounds, status=wanted)
        if output is not None and output.endswith(".png"):
            _draw_png(items, _printable(series), output)
            return
        size = shutil.get_terminal_size()
        columns = 800 if output is not None else 2 * max(size.columns - 16, 16)
        envelope = chart.Envelope(items, first[0], last[0], columns)
    if output is None:
        console.write(chart.text(envelope, min(max(size.lines - 6, 6), 20)).encode())
    else:
        with open_output(output, database) as stream:
            stream.write(chart.svg(envelope, f"{_printable(series)}: {envelope.count:,} entries").encode())


def _draw_png(items: Iterator[tuple[int, Any]], title: str, path: str) -> None:
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise console.DataError("PNG needs matplotlib: pip install matplotlib (SVG needs nothing)") from None
    matplotlib.use("Agg")
    import numpy
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    times, values = zip(*items, strict=True)
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    axes.plot(numpy.array(times, "datetime64[ns]"), values, linewidth=1)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def drop(database: Database, series: SeriesName) -> None:
    """Remove a series and all that is in it."""
    with open_store(database, "w") as store:
        store.drop_series(series)


# --- arguments ---


def _time(text: str, name: str, read: Callable[[str], int]) -> int:
    try:
        return read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def _range(start: str | None, stop: str | None) -> tuple[int | None, int | None]:
    """Its bounds, clamped to the times that there are."""
    first = None if start is None else max(_time(start, "--from", time_of_range), 0)
    last = None if stop is None else max(_time(stop, "--to", time_of_range), 0)
    if first is not None and first > TIME_MAX:
        return TIME_MAX, TIME_MAX  # nothing, also if there is an entry at the last time
    return first, None if last is None or last > TIME_MAX else last


def _status(name: StatusName | None) -> "Status | None":
    from kvwasi import Status

    return None if name is None else Status[name.name]


def _retention(age: str | None, entries: int | None, size: int | None) -> "Retention | None":
    if age is None and entries is None and size is None:
        return None
    from kvwasi import Retention

    try:
        return Retention(None if age is None else parse_timedelta(age), entries, size)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--keep-age") from None


def _existing(store: "Store", series: str) -> "Series":
    from kvwasi import NoSuchTableError

    if series not in store.series_names():
        raise NoSuchTableError(f"there is no series {series!r}")
    return store.series(series)


def _read_rows(data: bytes) -> Iterator[tuple[int | None, str]]:
    """Lines of VALUE or TIME,VALUE; a first line `time,value` is passed over."""
    import csv
    import io

    csv.field_size_limit(1 << 30)  # as long as a value may be
    # no newline may be translated or added to: those in quotes belong to values
    reader = csv.reader(
        io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""),
        strict=True,  # or a quote without its end would take all the lines behind it
    )
    try:
        for number, fields in enumerate(reader):
            if len(fields) == 1:
                yield None, fields[0]
            elif len(fields) != 2:
                raise ValueError(f"{len(fields)} fields, not TIME,VALUE")
            elif number > 0 or fields != ["time", "value"]:
                yield time_of_entry(fields[0]), fields[1]
    except (csv.Error, ValueError) as error:
        raise console.DataError(f"line {reader.line_num}: {error}") from None


def _values(texts: list[str], kind: str) -> list[Any]:
    """Values as the series has them."""
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bytes": os.fsencode}
    if kind == "auto":
        kind = next(name for name in kinds if _all_parse(texts, kinds[name]))
    try:
        values = [kinds[kind](text) for text in texts]
    except ValueError as error:
        raise console.DataError(f"the series has values of the kind {kind}: {error}") from None
    if kind == "int":
        for value in values:
            if not -(1 << 63) <= value < 1 << 63:
                raise console.DataError(f"a series stores whole numbers of 64 bits, not {value}")
    return values


def _all_parse(texts: list[str], parse: Any) -> bool:
    try:
        for text in texts:
            parse(text)
    except ValueError:
        return False
    return True


# --- printing ---


def _print_names(store: "Store", *, as_json: bool) -> None:
    from kvwasi.names import encode_name

    for name in store.series_names():
        if not as_json:
            console.write(encode_name(name) + b"\n")
            continue
        opened = store.series(name)
        console.write_json({"series": name, "values": opened.kind, "entries": opened.count()})


def show_entry(time: int, value: Any, *, form: TimeFormat, as_json: bool) -> bytes:
    """An entry as a line."""
    if as_json:
        return _json_line(time, value, form)
    return _shown(time, form).encode() + b"\t" + _plain(value) + b"\n"


def _shown(time: int, form: TimeFormat) -> str:
    from kvwasi.series import chart

    return str(time) if form is TimeFormat.NS else chart.time_text(time)


def _printable(name: str) -> str:
    """A name for a picture: neither SVG nor a font has control characters or what is not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _plain(value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


def _json_line(time: int, value: Any, form: TimeFormat) -> bytes:
    import json
    import math

    from kvwasi.formats import jsonl

    if not isinstance(value, bytes) and not math.isfinite(value):
        value = None  # JSON has neither NaN nor infinities
    member = jsonl.encode_member("value", value) if isinstance(value, bytes) else {"value": value}
    return (
        json.dumps({"time": time if form is TimeFormat.NS else _shown(time, form), **member}).encode() + b"\n"
    )


def _csv_field(value: Any) -> str:
    if not isinstance(value, bytes):
        return repr(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise console.DataError("a value is no UTF-8: export it with --format jsonl") from None
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def mount(app: typer.Typer) -> None:
    """Make them a group of commands of ``app``."""
    short = {
        count: "Print how many entries there are.",
        export: "Write entries as CSV or JSON lines.",
    }
    for command in (append, count, mark, export, plot, drop):
        ts.command(epilog=console.EXIT_CODES_HELP, short_help=short.get(command))(command)
        if command is append:
            ts.command("list", epilog=console.EXIT_CODES_HELP)(list_)
    app.add_typer(ts)
