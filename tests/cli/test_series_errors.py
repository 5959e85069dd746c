"""``kvwasi ts``: awkward values and times, and what is refused in one line."""

import json
import sys
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

import kvwasi

AWKWARD = [
    *(bytes([code]) for code in range(128)),
    *("\x85 \xa0 \u2028 \u2029 \ufeff \ue000 \U0010ffff".encode().split(b" ")),
    *map(b"".join, product([b"", b"a", b'"', b",", b"\n", b"\r", b" ", b"\x0c", b"\x1c", b"\0"], repeat=3)),
    b"time,value",
    b"-",
    b"7",
    b"x" * 200_000,
    b'"\n' * 100_000,
]
TIME_MAX = (1 << 63) - 1


def entries(tmp_path: Path, name: str = "s") -> list[tuple[int, object]]:
    with kvwasi.open(tmp_path / "a.kv", "r") as store:
        return list(store.series(name))


@pytest.mark.parametrize("form", ["iso", "ns"])
def test_what_export_writes_append_reads(kv, tmp_path: Path, form: str) -> None:
    with kvwasi.open(tmp_path / "a.kv") as store:
        store.series("s").append_many(AWKWARD, range(len(AWKWARD)))
    exported = kv("ts", "export", "a.kv", "s", "--time-format", form).stdout
    kv("ts", "append", "a.kv", "copy", "-", "--kind", "bytes", stdin=exported)
    assert entries(tmp_path, "copy") == list(enumerate(AWKWARD))


def test_lines_that_are_not_utf8(kv, tmp_path: Path) -> None:
    kv("ts", "append", "a.kv", "s", "-", stdin=b'1,\xff\xfe\r\n2,"\xe2\x80\n"\n3,\xc3\xa9')
    assert entries(tmp_path) == [(1, b"\xff\xfe"), (2, b"\xe2\x80\n"), (3, b"\xc3\xa9")]


@pytest.mark.parametrize("at", ["1969-12-31", "1960-01-01", "3000-01-01", "+300000d", "9223372036854775808"])
def test_times_that_no_entry_has(kv, at: str) -> None:
    kv("ts", "append", "a.kv", "s", "1", "--at", "0")
    message = f"'{at}' is out of range: times are from 1970 to 2262".encode()
    assert message in kv("ts", "append", "a.kv", "s", "1", "--at", at, code=2).stderr
    assert message in kv("ts", "mark", "a.kv", "s", at, "deleted", code=2).stderr


def test_ranges_beyond_all_times(kv) -> None:
    kv("ts", "append", "a.kv", "s", "-", stdin=b"0,1\n%d,2\n" % TIME_MAX)
    for far in ("9999-12-31", "+300000d", str(TIME_MAX + 1)):
        for bounds, expected in (
            (("--to", far), 2),
            (("--from", far), 0),
            (("--from", far, "--to", far), 0),
            (("--from", "1960-01-01", "--to", far), 2),
            (("--from", far, "--to", "2020-01-01"), 0),
        ):
            assert kv("ts", "count", "a.kv", "s", *bounds).stdout == b"%d\n" % expected
            assert len(kv("ts", "list", "a.kv", "s", *bounds).stdout.splitlines()) == expected
            assert len(kv("ts", "export", "a.kv", "s", *bounds).stdout.splitlines()) == expected + 1
    assert kv("ts", "count", "a.kv", "s", "--to", str(TIME_MAX)).stdout == b"1\n"


def test_what_is_no_time(kv) -> None:
    told = kv("ts", "count", "a.kv", "s", "--from", "yesterday", code=2).stderr
    assert b"'yesterday' is no time; write ISO 8601 (UTC unless it says so), ns since 1970, now, or " in told


@pytest.mark.parametrize("number", ["99999999999999999999", str(1 << 63), str(-(1 << 63) - 1)])
def test_whole_numbers_of_more_than_64_bits(kv, number: str) -> None:
    told = kv("ts", "append", "a.kv", "--kind", "int", "s", "--", number, code=3).stderr
    assert f"64 bits, not {number}".encode() in told
    assert f"64 bits, not {number}".encode() in kv("ts", "append", "a.kv", "s", "--", number, code=3).stderr


def test_the_widest_whole_numbers(kv, tmp_path: Path) -> None:
    kv("ts", "append", "a.kv", "s", "--", str((1 << 63) - 1), str(-(1 << 63)))
    assert [value for _, value in entries(tmp_path)] == [(1 << 63) - 1, -(1 << 63)]


@pytest.mark.parametrize("limit", [str(sys.maxsize), str(sys.maxsize + 1), "99999999999999999999"])
def test_a_limit_beyond_all_entries(kv, limit: str) -> None:
    kv("ts", "append", "a.kv", "s", "5", "--at", "0")
    assert kv("ts", "list", "a.kv", "s", "-n", limit).stdout == b"1970-01-01T00:00:00Z\t5\n"


@pytest.mark.parametrize(
    ("name", "shown"), [(b"caf\xe9 <1>", "caf\\udce9 <1>"), (b"a\x01b", "a\\x01b"), ("é".encode(), "é")]
)
def test_names_in_a_picture(kv, tmp_path: Path, name: bytes, shown: str) -> None:
    kv("ts", "append", "a.kv", name, "1")
    kv("ts", "plot", "a.kv", name, "-o", "x.svg")
    picture = ElementTree.parse(tmp_path / "x.svg").getroot()
    assert f"{shown}: 1 entries" in "".join(picture.itertext())


def test_json_has_no_nan(kv) -> None:
    kv("ts", "append", "a.kv", "s", "--", "nan", "inf", "-inf", "1.5")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for command in (("list", "--json"), ("export", "--format", "jsonl")):
        lines = kv("ts", command[0], "a.kv", "s", *command[1:]).stdout.splitlines()
        values = [json.loads(line, parse_constant=refuse)["value"] for line in lines]
        assert values == [None, None, None, 1.5]
    listed = [line.split(b"\t")[1] for line in kv("ts", "list", "a.kv", "s").stdout.splitlines()]
    assert listed == [b"nan", b"inf", b"-inf", b"1.5"]


def test_the_kind_of_all_values_of_the_first_call(kv, tmp_path: Path) -> None:
    kv("ts", "append", "a.kv", "f", "1", "2.5")
    kv("ts", "append", "a.kv", "b", "1", "x")
    assert [[value for _, value in entries(tmp_path, name)] for name in "fb"] == [[1.0, 2.5], [b"1", b"x"]]
    told = b" ".join(kv("ts", "append", "--help").stdout.split())
    assert b"auto: int, float or bytes, whichever fits all values of the first call." in told
    assert b"look like numbers needs --kind bytes" in told
    told = b" ".join(kv("ts", "export", "--help").stdout.split())
    assert b"look like numbers needs `ts append --kind bytes`" in told


def test_drop(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    for name in ("s", "other"):
        kv("ts", "append", "a.kv", name, "1", "--at", "0")
    kv("ts", "drop", "a.kv", "s")
    assert kv("ts", "list", "a.kv").stdout == b"other\n"
    assert kv("get", "a.kv", "k").stdout == b"v"
    kv("ts", "append", "a.kv", "s", "words", "--at", "0")
    assert entries(tmp_path) == [(0, b"words")]
    assert kv("ts", "drop", "a.kv", "x", code=1).stderr == b"kvwasi: there is no series 'x'\n"
    kv("ts", "drop", "missing.kv", "s", code=1)
    assert not (tmp_path / "missing.kv").exists()
