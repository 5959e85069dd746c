"""``kvwasi ts``."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

import kvwasi
from kvwasi import cli, console
from kvwasi.commands.times import parse_duration, parse_time
from kvwasi.series.chart import Envelope, text, time_text


def entries(tmp_path: Path, name: str = "s") -> list[tuple[int, object]]:
    with kvwasi.open(tmp_path / "a.kv", "r") as store:
        return list(store.series(name))


def test_append_and_list(kv, tmp_path: Path) -> None:
    before = time.time_ns()
    kv("ts", "append", "a.kv", "s", "21.5")
    kv("ts", "append", "a.kv", "s", "22", "23.25", "--json")
    (first, one), (second, two), (third, three) = entries(tmp_path)
    assert (one, two, three) == (21.5, 22.0, 23.25) and before < first < second == third - 1
    listed = kv("ts", "list", "a.kv", "s", "--time-format", "ns").stdout
    assert listed == f"{first}\t21.5\n{second}\t22.0\n{third}\t23.25\n".encode()
    assert kv("ts", "list", "a.kv", "s", "-r", "-n", "1").stdout == f"{time_text(third)}\t23.25\n".encode()
    assert kv("ts", "list", "a.kv").stdout == b"s\n"
    assert json.loads(kv("ts", "list", "a.kv", "--json").stdout) == {
        "series": "s",
        "values": "float",
        "entries": 3,
    }


def test_times(kv, tmp_path: Path) -> None:
    for at in (
        "2020-01-01",
        "2020-01-01T00:00:00.000000001Z",
        "2020-01-01 03:00+02:00",
        "1600000000000000000",
        "-1h",
    ):
        kv("ts", "append", "a.kv", "s", "1", "--at", at)
    year = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    times = [at for at, _ in entries(tmp_path)]
    assert times[:4] == [year, year + 1, year + 3600 * 10**9, 1_600_000_000_000_000_000]
    assert abs(times[4] - (time.time_ns() - 3600 * 10**9)) < 300 * 10**9
    assert kv("ts", "count", "a.kv", "s", "--from", "-2h", "--to", "now").stdout == b"1\n"
    assert kv("ts", "count", "a.kv", "s", "--to", "2020-01-02").stdout == b"3\n"
    assert json.loads(kv("ts", "count", "a.kv", "s", "--json").stdout) == {"entries": 5}
    assert b"is not after" in kv("ts", "append", "a.kv", "s", "1", "--at", "2020-01-01", code=3).stderr
    kv("ts", "append", "a.kv", "s", "1", "--at", "2020-01-01", "--bump")
    assert len(entries(tmp_path)) == 6


@pytest.mark.parametrize("at", ["soon", "-5", "2020-13-01", "-2x", "1.5", ""])
def test_impossible_times(kv, at: str) -> None:
    assert b"is no time" in kv("ts", "append", "a.kv", "s", "1", "--at", at, code=2).stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1970-01-01T00:00:00.1234567Z", 123_456_700),
        ("1970-01-01T01:00:00.123456789+01:00", 123_456_789),
        ("2262-04-11T23:47:16.854775807Z", (1 << 63) - 1),
        ("1969-12-31T23:59:59Z", -(10**9)),
    ],
)
def test_parse_time(text: str, expected: int) -> None:
    assert parse_time(text) == expected
    if expected >= 0:
        assert parse_time(time_text(expected)) == expected


def test_parse_duration() -> None:
    assert [parse_duration(t) for t in ("1ns", "1us", "1ms", "1s", "1m", "1h", "1d", "1w", "0.5s")] == [
        1, 10**3, 10**6, 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9, 7 * 86400 * 10**9, 5 * 10**8,
    ]  # fmt: skip
    for wrong in ("", "5", "h", "1 h", "-1h", "1h1m"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(wrong)


def test_kinds(kv, tmp_path: Path) -> None:
    kv("ts", "append", "a.kv", "i", "5")
    kv("ts", "append", "a.kv", "b", "five")
    kv("ts", "append", "a.kv", "f", "5", "--kind", "float")
    kv("ts", "append", "a.kv", "t", "5", "--kind", "bytes")
    kv("ts", "append", "a.kv", "t", "6")
    assert [[value for _, value in entries(tmp_path, name)] for name in "ibft"] == [
        [5],
        [b"five"],
        [5.0],
        [b"5", b"6"],
    ]
    assert b"of the kind int" in kv("ts", "append", "a.kv", "i", "5.5", code=3).stderr


def test_export_and_append_again(kv, tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv") as store:
        store.series("f").append_many([1.5, -0.25, 1e300], [1, 10**9, 10**18])
        store.series("b").append_many(['say "hi", you', "ünïcode", ""], [1, 2, 3])
        store.series("raw").append(b"\xff\0", 1)
    for name in ("f", "b"):
        for form in ("iso", "ns"):
            exported = kv("ts", "export", "a.kv", name, "--time-format", form).stdout
            told = kv(
                "ts",
                "append",
                "a.kv",
                name + form,
                "-",
                "--kind",
                "bytes" if name == "b" else "auto",
                stdin=exported,
            )
            assert told.stderr == b"3 entries appended\n"
            assert entries(tmp_path, name + form) == entries(tmp_path, name)
    kv("ts", "export", "a.kv", "f", "-o", "f.jsonl", "--format", "jsonl", "--from", "2")
    assert [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()] == [
        {"time": "1970-01-01T00:00:01Z", "value": -0.25},
        {"time": "2001-09-09T01:46:40Z", "value": 1e300},
    ]
    assert json.loads(kv("ts", "list", "a.kv", "raw", "--json").stdout)["value_base64"] == "/wA="
    assert b"no UTF-8" in kv("ts", "export", "a.kv", "raw", code=3).stderr


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"1,2\nx,3\n", b"line 2: 'x' is no time"),
        (b"1,2\n3,4,5\n", b"line 2: 3 fields"),
        (b"1,2\n3\n", b"either all lines have a time"),
        (b"5,1\n5,2\n", b"is not after"),
        (b'1,"2\n3,4\n', b"line 2: unexpected end of data"),
        (b'1,2\n3,"4"5\n', b"line 2: ',' expected after '\"'"),
        (b'1,"\n\n"\nx,4\n', b"line 4: 'x' is no time; write ISO 8601"),
        (b"1,2\n3000-01-01,3\n", b"line 2: '3000-01-01' is out of range: times are from 1970 to 2262"),
        (b"1969-12-31,3\n", b"line 1: '1969-12-31' is out of range: times are from 1970 to 2262"),
        (b"1,9223372036854775808\n", b"64 bits, not 9223372036854775808"),
    ],
)
def test_bad_lines_append_nothing(kv, tmp_path: Path, lines: bytes, message: bytes) -> None:
    kv("ts", "append", "a.kv", "s", "7", "--at", "1")
    assert message in kv("ts", "append", "a.kv", "s", "-", stdin=lines, code=3).stderr
    assert entries(tmp_path) == [(1, 7)]


def test_statuses(kv) -> None:
    kv("ts", "append", "a.kv", "s", "-", stdin=b"1,10\n2,20\n3,30\n")
    kv("ts", "mark", "a.kv", "s", "2", "deleted")
    kv("ts", "mark", "a.kv", "s", "3", "user1")
    assert kv("ts", "list", "a.kv", "s", "--time-format", "ns").stdout == b"1\t10\n3\t30\n"
    assert kv("ts", "count", "a.kv", "s", "--status", "deleted").stdout == b"1\n"
    assert kv("ts", "list", "a.kv", "s", "--status", "user1", "--time-format", "ns").stdout == b"3\t30\n"
    assert b"no entry at 9" in kv("ts", "mark", "a.kv", "s", "9", "user1", code=1).stderr


def test_retention(kv, tmp_path: Path) -> None:
    kv(
        "ts",
        "append",
        "a.kv",
        "s",
        "-",
        "--keep-count",
        "20",
        stdin=b"".join(b"%d,1\n" % n for n in range(100)),
    )
    assert 20 <= len(entries(tmp_path)) < 60
    kv("ts", "append", "a.kv", "s", "1", "--at", "1000", "--keep-age", "10us", "--json")
    assert b"--keep-age" in kv("ts", "append", "a.kv", "s", "1", "--keep-age", "long", code=2).stderr


def test_plot(kv, tmp_path: Path) -> None:
    kv("ts", "append", "a.kv", "s", "-", stdin=b"".join(b"%d,%d\n" % (n, n * n) for n in range(1000)))
    drawn = kv("ts", "plot", "a.kv", "s", env={"COLUMNS": "60", "LINES": "20"}).stdout.decode()
    lines = drawn.splitlines()
    assert len(lines) == 15 and lines[0].startswith("998001 ┤") and lines[13].strip().startswith("0 ┤")
    assert max(map(len, lines)) <= 60 and len(re.findall("[\u2801-\u28ff]", drawn)) > 40
    kv("ts", "plot", "a.kv", "s", "-o", "s.svg", "--from", "100")
    picture = ElementTree.parse(tmp_path / "s.svg").getroot()
    points = picture.find("{*}polyline").get("points").split()  # type: ignore[union-attr]
    assert len(points) > 800 and "900 entries" in "".join(picture.itertext())
    assert b".svg or .png" in kv("ts", "plot", "a.kv", "s", "-o", "s.gif", code=2).stderr
    assert b"no entries there" in kv("ts", "plot", "a.kv", "s", "--from", "2000", code=3).stderr
    kv("ts", "append", "a.kv", "words", "one")
    assert b"no numbers" in kv("ts", "plot", "a.kv", "words", code=3).stderr


def test_png_needs_a_library(kv, tmp_path: Path) -> None:
    (tmp_path / "blocked" / "matplotlib").mkdir(parents=True)
    (tmp_path / "blocked" / "matplotlib" / "__init__.py").write_text("raise ImportError('not here')\n")
    kv("ts", "append", "a.kv", "s", "1")
    told = kv("ts", "plot", "a.kv", "s", "-o", "s.png", code=3, env={"PYTHONPATH": str(tmp_path / "blocked")})
    assert b"pip install matplotlib" in told.stderr and not (tmp_path / "s.png").exists()


def test_a_chart_of_odd_values() -> None:
    for items in (
        [(5, 1.0)],
        [(0, float("nan")), (1, 2.0), (9, float("inf"))],
        [(0, -1e308), (9, 1e308)],
        [(0, 3.0), (9, 3.0)],
    ):
        envelope = Envelope(items, items[0][0], items[-1][0], 20)
        assert envelope.count == len(items)
        assert len(text(envelope, 6).splitlines()) == 7


def test_what_is_not_there(kv) -> None:
    kv("put", "a.kv", "k", "v")
    for command in (("list",), ("count",), ("export",), ("plot",), ("mark", "1", "deleted")):
        told = kv("ts", command[0], "a.kv", "none", *command[1:], code=1).stderr
        assert b"there is no series 'none'" in told
    kv("ts", "list", "missing.kv", "s", code=1)


def test_the_group_and_its_commands_are_documented(kv) -> None:
    group = typer.main.get_command(cli.app).commands["ts"]  # type: ignore[attr-defined]
    assert list(group.commands) == ["append", "list", "count", "mark", "export", "plot", "drop"]
    for name, command in group.commands.items():
        shown = b" ".join(kv("ts", name, "--help").stdout.split()).decode()
        assert " ".join(console.EXIT_CODES_HELP.split()) in shown
        for parameter in command.params:
            assert parameter.help and parameter.help in shown, (name, parameter.name)
