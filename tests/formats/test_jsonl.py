"""JSON lines: every entry comes back as it was, and what is malformed is named with its line."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvwasi.formats import FormatError, jsonl
from kvwasi.formats.errors import Row

ENTRIES = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=200)))


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    rows = list(jsonl.read(io.BytesIO(data)))
    assert all(row.table is None for row in rows)
    return [(row.key or b"", row.value) for row in rows]


@given(ENTRIES)
def test_round_trip(entries: list[tuple[bytes, bytes]]) -> None:
    stream = io.BytesIO()
    assert jsonl.write(entries, stream) == len(entries)
    assert read(stream.getvalue()) == entries
    assert stream.getvalue().count(b"\n") == len(entries)


@given(st.text(min_size=1), st.text())
def test_text_stands_as_text(key: str, value: str) -> None:
    line = jsonl.encode_line((key.encode(), value.encode()))
    assert json.loads(line) == {"key": key, "value": value}


def test_bytes_that_are_not_utf8_stand_in_base64() -> None:
    assert (
        jsonl.encode_line((b"\xff", b"\xed\xa0\x80")) == b'{"key_base64": "/w==", "value_base64": "7aCA"}\n'
    )


def test_empty_lines_are_skipped_and_the_last_line_end_may_be_missing() -> None:
    assert read(b'\n{"key": "a", "value": ""}\n \r\n{"key": "b", "value": "2"}') == [
        (b"a", b""),
        (b"b", b"2"),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'\xff{"key": "a"}', "not UTF-8 at byte 1"),
        (b"3", 'not an object like {"key": "k", "value": "v"}'),
        (b'[["key", "a"], ["value", "b"]]', 'not an object like {"key": "k", "value": "v"}'),
        (b"{}", '"key" is missing'),
        (b'{"key": "a"}', '"value" is missing'),
        (b'{"key": "a", "value": 3}', '"value" is not a string'),
        (b'{"key": "a", "value": "b", "ttl": "3"}', 'unknown member "ttl"'),
        (b'{"key": "a", "key": "b", "value": ""}', '"key" is given twice'),
        (b'{"key": "a", "key_base64": "YQ==", "value": ""}', '"key" is given twice'),
        (b'{"key": "\\ud800", "value": ""}', '"key" holds half of a surrogate pair'),
        (b'{"key": "a", "value_base64": "YQ"}', '"value_base64" is not base64'),
        ('{"key": "a", "value_base64": "é"}'.encode(), '"value_base64" is not base64'),
    ],
)
def test_malformed(line: bytes, problem: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(b'{"key": "a", "value": ""}\n' + line + b"\n")
    assert str(caught.value) == f"line 2: {problem}"
    assert caught.value.line == 2


@given(st.binary(max_size=200))
def test_any_input_is_read_or_refused(data: bytes) -> None:
    try:
        read(data)
    except FormatError as error:
        assert error.line >= 1


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_entries_of_tables(table: bytes, key: bytes, value: bytes) -> None:
    lines = (
        jsonl.encode_table(table) + jsonl.encode_line((key, value), table) + jsonl.encode_line((key, value))
    )
    rows = list(jsonl.read(io.BytesIO(lines)))
    assert rows == [
        Row(None, b"", table, line=1),
        Row(key, value, table, line=2),
        Row(key, value, line=3),
    ]


def test_tables_are_found_ahead() -> None:
    lines = b'{"table": "\\u0000a"}\n{"table": "b", "key": "k", "value": ""}\nx\n"table"\n'
    lines += b'{"table_base64": "/w=="}\n'
    rows = list(jsonl.read_tables(io.BytesIO(lines)))
    assert rows == [Row(None, b"", b"\0a", line=1), Row(None, b"", b"\xff", line=5)]
