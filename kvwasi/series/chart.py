"""A line over time: as SVG, or of characters for a terminal. Any number of entries, in a pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.sax.saxutils import escape

_COLOUR, _INK, _GRID = "#0072b2", "#222222", "#dddddd"
_FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"
_SMALL = f"font-size='11' fill='{_INK}'"
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a Braille character, by column and row


class Envelope:
    """The least and the greatest value in each of ``columns`` equal spans of time.

    Spans without values lie on the line between their neighbours.

    >>> found = Envelope([(0, 1.0), (5, 3.0), (9, 2.0)], 0, 9, 3)
    >>> found.count, found.low, found.high, found.spans
    (3, 1.0, 3.0, [(1.0, 1.0), (3.0, 3.0), (2.0, 2.0)])
    """

    def __init__(self, items: Iterable[tuple[int, float]], first: int, last: int, columns: int) -> None:
        self.first, self.last, self.columns = first, last, columns
        self.count = 0
        self.spans: list[tuple[float, float]] = []
        width = max(last - first, 1)
        before = math.nan
        for time, value in items:
            self.count += 1
            if not math.isfinite(value):
                continue
            column = min((time - first) * columns // width, columns - 1)
            missing = column - len(self.spans)
            for n in range(missing):
                share = (n + 1) / (missing + 1)
                between = before * (1 - share) + value * share if self.spans else value
                self.spans.append((between, between))
            if column == len(self.spans):
                self.spans.append((value, value))
            low, high = self.spans[column]
            self.spans[column] = (min(low, value), max(high, value))
            before = value
        self.low = min((low for low, _ in self.spans), default=0.0)
        self.high = max((high for _, high in self.spans), default=0.0)

    def height_of(self, value: float, rows: int) -> int:
        """The row of a value, counted from the top."""
        if self.high == self.low:
            return rows // 2
        share = value / 2 - self.low / 2  # halves, or the range of floats could be left
        return round((1 - share / (self.high / 2 - self.low / 2)) * (rows - 1))


def text(envelope: Envelope, height: int) -> str:
    """The chart as lines of Braille characters, ``height`` of them, between its bounds and its times."""
    rows = 4 * height
    cells = [[0x2800] * ((envelope.columns + 1) // 2) for _ in range(height)]
    before: tuple[int, int] | None = None
    for column, (low, high) in enumerate(envelope.spans):
        top, bottom = envelope.height_of(high, rows), envelope.height_of(low, rows)
        if before is not None and before[1] < top:  # so that the line has no gaps
            top = before[1] + 1 if before[1] + 1 <= bottom else top
        elif before is not None and before[0] > bottom:
            bottom = max(before[0] - 1, top)
        for row in range(top, bottom + 1):
            cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
        before = (top, bottom)
    names = [f"{envelope.high:.6g}", f"{envelope.low:.6g}"]
    width = max(map(len, names))
    lines = []
    for number, line in enumerate(cells):
        name = names[0] if number == 0 else names[1] if number == height - 1 else ""
        lines.append(f"{name:>{width}} {'┤' if name else '│'}{''.join(map(chr, line))}")
    start, end = time_text(envelope.first), time_text(envelope.last)
    lines.append(f"{'':{width}}  {start}{end:>{max(len(cells[0]) - len(start), len(end) + 1)}}")
    return "\n".join(lines) + "\n"


def svg(envelope: Envelope, title: str, *, height: int = 300) -> str:
    """The chart as an SVG document: per pixel a line from the least to the greatest value."""
    left, top, right, bottom = 90, 40, 20, 40
    width = envelope.columns
    points: list[str] = []
    for column, (low, high) in enumerate(envelope.spans):
        x = left + column
        points += [f"{x},{top + envelope.height_of(value, height)}" for value in dict.fromkeys((low, high))]
    full_width, full_height = left + width + right, top + height + bottom
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {full_width} {full_height}' "
        f"width='{full_width}' height='{full_height}' {_FONT} role='img'>",
        f"<rect width='{full_width}' height='{full_height}' fill='white'/>",
        f"<text x='{left}' y='24' font-size='14' font-weight='bold' fill='{_INK}'>{escape(title)}</text>",
    ]
    for step in range(5):
        y = top + step * (height - 1) // 4
        value = envelope.high - (envelope.high / 4 - envelope.low / 4) * step
        out.append(f"<line x1='{left}' y1='{y}' x2='{left + width}' y2='{y}' stroke='{_GRID}'/>")
        out.append(f"<text x='{left - 8}' y='{y + 4}' text-anchor='end' {_SMALL}>{value:.6g}</text>")
    for at, anchor, x in ((envelope.first, "start", left), (envelope.last, "end", left + width)):
        out.append(
            f"<text x='{x}' y='{top + height + 20}' text-anchor='{anchor}' {_SMALL}>{time_text(at)}</text>"
        )
    if len(points) == 1:
        at_x, at_y = points[0].split(",")
        out.append(f"<circle cx='{at_x}' cy='{at_y}' r='2' fill='{_COLOUR}'/>")
    out.append(f"<polyline points='{' '.join(points)}' fill='none' stroke='{_COLOUR}'/>")
    return "\n".join([*out, "</svg>"]) + "\n"


def time_text(time: int) -> str:
    """A time as ISO 8601 in UTC, with as many digits of its fraction as it needs.

    >>> time_text(0), time_text(1_500_000_000), time_text(1)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.5Z', '1970-01-01T00:00:00.000000001Z')
    """
    seconds, fraction = divmod(time, 10**9)
    digits = f".{fraction:09}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{digits}Z"


__all__ = ["Envelope", "svg", "text", "time_text"]
