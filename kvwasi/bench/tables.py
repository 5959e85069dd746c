"""Measurements as tables: medians with their spread, ratios in which above 1 is faster."""

from __future__ import annotations

from collections.abc import Sequence

from kvwasi.bench.harness import Measurement


def quantity(value: float, unit: str) -> str:
    """A figure with three digits and a unit that suits it."""
    if unit == "us" and value >= 1000:
        value, unit = value / 1000, "ms"
    if unit == "ms" and value >= 10_000:
        value, unit = value / 1000, "s"
    if unit == "MiB" and value >= 10_000:
        value, unit = value / 1024, "GiB"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} {unit}"


def cell(measurement: Measurement | None, operations: int) -> str:
    """Median and spread; how many operations where they are fewer than the others'."""
    if measurement is None:
        return "-"
    text = quantity(measurement.median, measurement.unit)
    if len(measurement.turns) > 1:
        text += f" ±{measurement.spread:.0%}"
    return text if measurement.operations >= operations else f"{text} ({measurement.operations:,})"


def ratio(first: Measurement | None, other: Measurement | None) -> float | None:
    """How often the first goes into the other: above 1 the first is faster, or smaller.

    None where there is nothing to compare: a database that was filled with fewer entries is another one.
    """
    if first is None or other is None or first.median == 0:
        return None
    if first.workload.startswith("fill") and first.operations != other.operations:
        return None
    return other.median / first.median


def times(value: float | None) -> str:
    """A ratio for people."""
    return "-" if value is None else f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def rows(measured: Sequence[Measurement], reference: str = "lmdb", *, bold: bool = False) -> list[list[str]]:
    """A row a workload, a column an engine, and the first engine's ratio to ``reference``."""
    names = list(dict.fromkeys(m.engine for m in measured))
    mark = "**" if bold else ""
    out = [["", *names, *([f"{names[0]}, {reference} = 1"] if reference in names else [])]]
    for workload in dict.fromkeys(m.workload for m in measured):
        of = {m.engine: m for m in measured if m.workload == workload}
        what = next(iter(of.values())).what
        most = max(m.operations for m in of.values())
        line = [f"{workload}: {what}", *(cell(of.get(name), most) for name in names)]
        if reference in names:
            line.append(f"{mark}{times(ratio(of.get(names[0]), of.get(reference)))}{mark}")
        out.append(line)
    return out


def ratios(
    title: str, measured: Sequence[Measurement], reference: str, others: Sequence[str]
) -> list[list[str]]:
    """A row a workload: the first engine and ``reference`` with times, and the first one's ratio to each."""
    first = measured[0].engine
    out = [[title, first, reference, *(f"{first} / {name}" for name in (reference, *others))]]
    for workload in dict.fromkeys(m.workload for m in measured):
        of = {m.engine: m for m in measured if m.workload == workload}
        own, most = of.get(first), max(m.operations for m in of.values())
        if own is None:
            continue
        line = [f"{workload}: {own.what}", cell(own, most), cell(of.get(reference), most)]
        line.append(f"**{times(ratio(own, of.get(reference)))}**")
        out.append(line + [times(ratio(own, of.get(name))) for name in others])
    return out


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table, its first line the head."""
    head, *body = lines
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled) + "\n"


def plain(lines: Sequence[Sequence[str]]) -> str:
    """The same for a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ""
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [word.rjust(width) for word, width in zip(line[1:], widths[1:], strict=True)]
        text += ("  " + "   ".join(cells)).rstrip() + "\n"
    return text
