"""JSON lines: one object a line, ``{"key": "text", "value": "text"}``.

JSON has no byte strings. Bytes that are UTF-8 stand as text under ``key`` and ``value``; any others stand
in base64 (RFC 4648, padded) under ``key_base64`` and ``value_base64``. Strict UTF-8 decoding is one to one,
so every entry comes back exactly as it was. Lines end in ``\\n`` and are UTF-8 whatever the locale is.

An entry of a named table has its name under ``table`` (or ``table_base64``); a line with nothing else says
that there is a table of that name.
"""

import base64
import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from kvwasi.formats.errors import Entry, FormatError, Row


def encode_member(name: str, data: bytes) -> dict[str, str]:
    """One member of the object: as text where it is UTF-8, else in base64.

    >>> encode_member("key", b"caf\\xc3\\xa9"), encode_member("key", b"\\xff")
    ({'key': 'café'}, {'key_base64': '/w=='})
    """
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}


def encode_key(key: bytes) -> bytes:
    """A key alone as a line, with its line end."""
    return json.dumps(encode_member("key", key), ensure_ascii=False).encode("utf-8") + b"\n"


def encode_table(table: bytes) -> bytes:
    """A table's name alone as a line, with its line end."""
    return json.dumps(encode_member("table", table), ensure_ascii=False).encode("utf-8") + b"\n"


def encode_line(entry: Entry, table: bytes | None = None) -> bytes:
    """One entry as a line, with its line end."""
    key, value = entry
    members = encode_member("key", key) | encode_member("value", value)
    if table is not None:
        members = encode_member("table", table) | members
    return json.dumps(members, ensure_ascii=False).encode("utf-8") + b"\n"


def write(entries: Iterable[Entry], stream: BinaryIO, table: bytes | None = None) -> int:
    """Write ``entries``, of ``table``, and return how many there were."""
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007
        stream.write(encode_line(entry, table))
    return count


def read(stream: BinaryIO) -> Iterator[Row]:
    """Yield the entries of ``stream``; empty lines are skipped. Raises FormatError with the line's number."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield _parse_line(line, number)
        except UnicodeDecodeError as error:
            raise FormatError(number, f"not UTF-8 at byte {error.start + 1}") from None
        except json.JSONDecodeError as error:
            raise FormatError(number, f"not JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise FormatError(number, "not JSON: nested too deeply") from None
        except ValueError as error:
            raise FormatError(number, str(error)) from None


def read_tables(stream: BinaryIO) -> Iterator[Row]:
    """Yield the lines that have a table's name alone, which dump writes before all of its entries.

    All others are passed over, without a look at whether they are right.
    """
    for number, line in enumerate(stream, 1):
        if b'"table' in line and b'"key' not in line:
            with contextlib.suppress(ValueError, RecursionError):
                yield _parse_line(line, number)


def _parse_line(line: bytes, number: int) -> Row:
    pairs = json.loads(line.decode("utf-8").rstrip(), object_pairs_hook=_Members)
    if not isinstance(pairs, _Members):
        raise ValueError('not an object like {"key": "k", "value": "v"}')
    found: dict[str, bytes] = {}
    for name, value in pairs:
        plain = name.removesuffix("_base64")
        if plain not in ("key", "value", "table"):
            raise ValueError(f'unknown member "{name}"')
        if plain in found:
            raise ValueError(f'"{plain}" is given twice')
        if not isinstance(value, str):
            raise ValueError(f'"{name}" is not a string')
        found[plain] = _decode_member(name, value)
    if found.keys() == {"table"}:
        return Row(None, b"", found["table"], line=number)
    for name in ("key", "value"):
        if name not in found:
            raise ValueError(f'"{name}" is missing')
    return Row(found["key"], found["value"], found.get("table"), line=number)


class _Members(list[tuple[str, object]]):
    """An object as its pairs, so that a member given twice is seen."""


def _decode_member(name: str, value: str) -> bytes:
    if not name.endswith("_base64"):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f'"{name}" holds half of a surrogate pair') from None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # binascii.Error, or a character that is not ASCII
        raise ValueError(f'"{name}" is not base64') from None
