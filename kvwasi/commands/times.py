"""Times on the command line: ISO 8601, nanoseconds, or before or after now."""

from __future__ import annotations

import re
import time as _time
from datetime import UTC, datetime, timedelta

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS)})")
_FRACTION = re.compile(r"([.,])(\d{7,9})(?=\D*$|[+-]\d\d:?\d\d$)")

TIME_MAX = (1 << 63) - 1
"""The last time that an entry can have, in the year 2262."""

_FORMS = "ISO 8601 (UTC unless it says so), ns since 1970, now, or a distance from now, such as -2h"
TIMES_HELP = f"as {_FORMS}"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970.

    Raises:
        ValueError: it is no time.

    >>> parse_time("1970-01-01T00:00:01.5Z"), parse_time("1970-01-01 01:00+01:00"), parse_time("17")
    (1500000000, 0, 17)
    >>> parse_time("1970-01-01T00:00:00.123456789Z")
    123456789
    """
    if text.isascii() and text.isdigit():
        return int(text)
    if text == "now":
        return _time.time_ns()
    if text[:1] in "+-" and text[1:2].isdigit():
        ago = parse_duration(text[1:])
        return _time.time_ns() + (ago if text[0] == "+" else -ago)
    nanoseconds = 0
    found = _FRACTION.search(text)
    if found is not None:  # datetime has microseconds
        digits = found[2].ljust(9, "0")
        nanoseconds = int(digits[6:])
        text = text[: found.start()] + found[1] + digits[:6] + text[found.end() :]
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000 + nanoseconds


def time_of_range(text: str) -> int:
    """The same for the bound of a range, which may be out of the range of entries.

    Raises:
        ValueError: it is no time; a sentence for the user.
    """
    try:
        return parse_time(text)
    except ValueError:
        raise ValueError(f"'{text}' is no time; write {_FORMS}") from None


def time_of_entry(text: str) -> int:
    """The same for an entry.

    Raises:
        ValueError: it is no time, or no entry can have it; a sentence for the user.
    """
    time = time_of_range(text)
    if not 0 <= time <= TIME_MAX:
        raise ValueError(f"'{text}' is out of range: times are from 1970 to 2262")
    return time


def parse_duration(text: str) -> int:
    """Nanoseconds, from a number with a unit: ns, us, ms, s, m, h, d or w.

    Raises:
        ValueError: it is no duration.

    >>> parse_duration("1.5h"), parse_duration("10us")
    (5400000000000, 10000)
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no duration such as 90s, 15m, 2h or 7d")
    whole, _, fraction = found[1].partition(".")
    unit = _UNITS[found[2]]
    part: int = int(fraction or "0") * unit // 10 ** len(fraction)
    return int(whole) * unit + part


def parse_timedelta(text: str) -> timedelta:
    """The same as a timedelta, in whole microseconds.

    Raises:
        ValueError: it is no duration, or too long a one.
    """
    try:
        return timedelta(microseconds=parse_duration(text) // 1000)
    except OverflowError:
        raise ValueError(f"'{text}' is too long") from None


__all__ = [
    "TIMES_HELP",
    "TIME_MAX",
    "parse_duration",
    "parse_time",
    "parse_timedelta",
    "time_of_entry",
    "time_of_range",
]
