"""Small charts as SVG: bars, lines, stacked bars. No dependency; each function returns the file's text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from kvwasi.bench.harness import Measurement
from kvwasi.bench.tables import ratio

# Okabe and Ito's colours, which the colour-blind can tell apart; the first is the project's own.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a6d00", "#7f7f7f", "#000000")
INK, GRID, FAINT = "#222222", "#dddddd", "#666666"
FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"
CUT = 30  # a comparison's bars end at 1 / CUT and CUT times the reference
SLOW = ("guest-stock", "diskcache")  # left out of comparisons, which they would stretch
CHARACTER = 6.3  # pixels of an average character at the size of 11


def colour(number: int) -> str:
    """Of the ``number``-th series."""
    return COLOURS[number % len(COLOURS)]


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, fill: str = INK, more: str = ""
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{fill}' {more}>"
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, more: str = "") -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{stroke}' {more}/>"


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{height:.1f}' fill='{fill}'/>"
    )


def _wrap(text: str, characters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= characters:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _document(width: float, height: float, title: str, note: str, body: Sequence[str]) -> str:
    """Title above, the note below; ``body`` lies between 40 and ``height``."""
    notes = _wrap(note, int((width - 20) / 5.6)) if note else []
    full = height + 14 * len(notes) + 10
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {full:.0f}' "
        f"width='{width:.0f}' height='{full:.0f}' {FONT} role='img' aria-label={quoteattr(title)}>",
        f"<rect width='{width:.0f}' height='{full:.0f}' fill='white'/>",
        _text(10, 22, title, size=14, more="font-weight='bold'"),
        *body,
        *(_text(10, height + 8 + 14 * n, line, size=10, fill=FAINT) for n, line in enumerate(notes)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _colours(names: Sequence[str], given: Mapping[str, int] | None) -> dict[str, str]:
    """The colour of each series: by its place, or the one that it is given."""
    return {name: colour((given or {}).get(name, number)) for number, name in enumerate(names)}


def _legend(
    of: Mapping[str, str], width: float, y: float, dashed: Sequence[str] = ()
) -> tuple[list[str], float]:
    """Names with their colours in rows; returns the height of all."""
    out, x, top = [], 10.0, y
    for name, fill in of.items():
        space = 34 + len(name) * CHARACTER
        if x + space > width and x > 10:
            x, y = 10.0, y + 18
        if name in dashed:
            out += [_box(x, y + 4, 5, 3, fill), _box(x + 8, y + 4, 5, 3, fill)]
        else:
            out.append(_box(x, y, 12, 11, fill))
        out.append(_text(x + 18, y + 10, name))
        x += space
    return out, y + 18 - top


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a logarithmic axis; only the powers where it is long."""
    steps = (1, 2, 5) if high / low <= 1000 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"


def bars(
    title: str,
    groups: Sequence[tuple[str, Mapping[str, float]]],
    *,
    reference: str | None = None,
    axis: str = "",
    note: str = "",
    colours: Mapping[str, int] | None = None,
) -> str:
    """Groups of horizontal bars over a logarithmic axis, one bar a series.

    With ``reference`` the bars begin at 1, which is that series: to the right is better, to the left worse.
    """
    names = list(dict.fromkeys(name for _, values in groups for name in values))
    of = _colours(names, colours)
    values = [value for _, row in groups for value in row.values() if value > 0]
    low, high = min(values), max(values)
    if reference is not None:
        low, high = max(1 / CUT, min(low, 1.0)), min(CUT, max(high, 1.0))
    low, high = (
        10 ** (math.floor(math.log10(low) * 3 - 0.3) / 3),
        10 ** (math.ceil(math.log10(high) * 3 + 0.3) / 3),
    )
    left = 20 + max(len(name) for name, _ in groups) * CHARACTER
    width, bar = max(860.0, left + 560), 11.0
    right = width - 60

    def x_of(value: float) -> float:
        return left + (right - left) * (math.log10(value) - math.log10(low)) / (
            math.log10(high) - math.log10(low)
        )

    legend, used = _legend(of, width, 36)
    top = y = 36 + used + 10
    body: list[str] = []
    for name, row in groups:
        body.append(_text(left - 8, y + bar * len(row) / 2 + 4, name, anchor="end"))
        for series, value in row.items():
            shown = min(max(value, low), high)
            start, end = x_of(1.0 if reference else low), x_of(shown)
            body.append(_box(min(start, end), y, abs(end - start), bar - 2, of[series]))
            figure = f"{value:.3g}" if shown == value else f"{value:.3g} (cut)"
            body.append(_text(max(start, end) + 4, y + bar - 2, figure, size=9, fill=FAINT))
            y += bar
        y += 9
    grid = []
    for mark in _ticks(low, high):
        strong = reference is not None and mark == 1
        grid.append(_line(x_of(mark), top - 4, x_of(mark), y, FAINT if strong else GRID))
        grid.append(_text(x_of(mark), y + 14, _short(mark), anchor="middle", size=10))
    body.append(_text((left + right) / 2, y + 32, axis, anchor="middle"))
    return _document(width, y + 46, title, note, [*legend, *grid, *body])


def against(title: str, measured: Sequence[Measurement], note: str, reference: str = "lmdb") -> str:
    """The speed of every engine as a multiple of ``reference``'s."""
    groups = []
    for workload in dict.fromkeys(m.workload for m in measured):
        of = {m.engine: m for m in measured if m.workload == workload}
        row = {
            name: value
            for name, m in of.items()
            if name != reference and name not in SLOW and (value := ratio(m, of.get(reference)))
        }
        if row:
            groups.append((workload, row))
    if not groups:
        return _document(760, 60, title, note, [_text(10, 50, f"{reference} was not measured")])
    axis = f"speed, {reference} = 1 (to the right is faster, or smaller)"
    return bars(title, groups, reference=reference, axis=axis, note=note)


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_axis: str = "",
    y_axis: str = "",
    dashed: Sequence[str] = (),
    note: str = "",
    colours: Mapping[str, int] | None = None,
) -> str:
    """Lines over two logarithmic axes."""
    of = _colours(list(series), colours)
    points = [point for line in series.values() for point in line]
    xs = sorted({x for x, _ in points})
    low, high = min(y for _, y in points) / 1.3, max(y for _, y in points) * 1.3
    width, height, left = 760.0, 440.0, 70.0
    legend, used = _legend(of, width, 36, dashed)
    top, bottom, right = 36 + used + 12, height - 46, width - 30

    def x_of(value: float) -> float:
        if len(xs) == 1:
            return (left + right) / 2
        return left + 20 + (right - left - 40) * math.log(value / xs[0]) / math.log(xs[-1] / xs[0])

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * math.log(value / low) / math.log(high / low)

    body = [_line(left, bottom, right, bottom, FAINT), _line(left, top, left, bottom, FAINT)]
    for x in xs:
        body.append(_line(x_of(x), top, x_of(x), bottom))
        body.append(_text(x_of(x), bottom + 15, _short(x), anchor="middle", size=10))
    for mark in _ticks(low, high):
        body.append(_line(left, y_of(mark), right, y_of(mark)))
        body.append(_text(left - 6, y_of(mark) + 4, _short(mark), anchor="end", size=10))
    for name, line in series.items():
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        more = "stroke-dasharray='5 4'" if name in dashed else ""
        body.append(f"<polyline points='{path}' fill='none' stroke='{of[name]}' stroke-width='2' {more}/>")
        body += [f"<circle cx='{x_of(x):.1f}' cy='{y_of(y):.1f}' r='3' fill='{of[name]}'/>" for x, y in line]
    body.append(_text((left + right) / 2, bottom + 34, x_axis, anchor="middle"))
    turned = f"transform='rotate(-90 16 {(top + bottom) / 2:.0f})'"
    body.append(_text(16, (top + bottom) / 2, y_axis, anchor="middle", more=turned))
    return _document(width, height, title, note, [*legend, *body])


def stacks(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, unit: str, note: str = ""
) -> str:
    """Bars that fill the width, each with its own parts; what these are stands below the bar."""
    width, left = 860.0, 20.0
    body: list[str] = []
    shared = list(dict.fromkeys(name for _, parts in groups for name, _ in parts))
    if len(shared) > len(COLOURS):  # then each group has colours of its own
        shared = []
    y = 44.0
    for name, parts in groups:
        total = sum(value for _, value in parts)
        body.append(_text(left, y + 8, f"{name}: {total:,.0f} {unit}", size=12, more="font-weight='bold'"))
        y += 16
        x = left
        for number, (part, value) in enumerate(parts):
            paint = shared.index(part) if shared else number
            span = (width - 2 * left) * value / total if total else 0
            body.append(_box(x, y, span, 24, colour(paint)))
            if span > 40:
                white = INK if paint % len(COLOURS) in (1, 4) else "white"
                body.append(_text(x + span / 2, y + 16, f"{value:,.0f}", anchor="middle", fill=white))
            x += span
        y += 40
        for number, (part, value) in enumerate(parts):
            column, row = number % 2, number // 2
            paint = shared.index(part) if shared else number
            at, down = left + column * (width / 2 - left), y + 16 * row
            body += [
                _box(at, down - 9, 10, 10, colour(paint)),
                _text(at + 16, down, f"{part}: {value:,.0f} {unit}"),
            ]
        y += 16 * ((len(parts) + 1) // 2) + 18
    return _document(width, y, title, note, body)
