"""What a run leaves: JSON, Markdown and SVG in bench/results/, and the table of the bars over all of them.

python bench/report.py     the bars and the summary again, from the results that are there
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bars

from kvwasi.bench import plot, tables
from kvwasi.bench.harness import Measurement, as_json, from_json

RESULTS = Path(__file__).resolve().parent / "results"


def facts_text(facts: Mapping[str, str]) -> str:
    """What a figure depends on, in a line."""
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())


def write(
    suite: str, title: str, measured: Sequence[Measurement], facts: Mapping[str, str], directory: Path
) -> list[Path]:
    """JSON, Markdown and charts of one suite; returns what was written."""
    directory.mkdir(parents=True, exist_ok=True)
    document = directory / f"{suite}.json"
    document.write_text(json.dumps(as_json(title, measured, facts), indent=1) + "\n")
    head = [f"# {title}", "", tables.markdown(tables.rows(measured, bold=True))]
    items = [f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items()]
    text = directory / f"{suite}.md"
    text.write_text("\n".join([*head, *items, ""]))
    written = [document, text]
    for name, svg in charts(suite, title, measured, facts_text(facts)).items():
        (directory / f"{name}.svg").write_text(svg)
        written.append(directory / f"{name}.svg")
    return written


def charts(suite: str, title: str, measured: Sequence[Measurement], note: str) -> dict[str, str]:
    """The charts of a suite by the name of their file."""
    if suite == "threads":
        return {"threads": _threads(title, measured, note)}
    if suite == "scale":
        return _scale(measured, note)
    if suite == "cold":
        return {}
    return {suite: plot.against(title, measured, note)}


def _threads(title: str, measured: Sequence[Measurement], note: str) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for m in measured:
        series.setdefault(m.engine, []).append((float(m.workload.split("-")[1]), 1e6 / m.median))
    bare = [name for name in series if name.startswith("bare")]
    return plot.lines(title, series, x_axis="threads", y_axis="commits a second", dashed=bare, note=note)


def _scale(measured: Sequence[Measurement], note: str) -> dict[str, str]:
    def lines(metrics: Sequence[str], title: str, axis: str, factor: float = 1.0) -> str:
        series: dict[str, list[tuple[float, float]]] = {}
        engines = list(dict.fromkeys(m.engine for m in measured))
        for m in measured:
            metric, size = m.workload.split()
            if metric in metrics:
                x, y = float(size.replace(",", "")), max(m.median * factor, 1e-3)
                series.setdefault(f"{m.engine}, {metric}", []).append((x, y))
        dashed = [name for name in series if name.endswith(f", {metrics[-1]}")]
        colours = {name: engines.index(name.split(",")[0]) for name in series}
        return plot.lines(
            title, series, x_axis="keys", y_axis=axis, dashed=dashed, note=note, colours=colours
        )

    return {
        "scale-open": lines(
            ["open", "open-crashed"], "Time to open, after a clean close and a kill", "ms", 1e-3
        ),
        "scale-get": lines(["get-median", "get-p99.9"], "Random get, a transaction each", "us"),
        "scale-memory": lines(
            ["anonymous", "file-backed"], "Resident memory of the process, after 100,000 gets", "MiB"
        ),
    }


def write_bars(directory: Path) -> str:
    """The bars over all results that are there, as bars.md, .json and .svg; returns the table."""
    found = list(bars.verdicts(bars.Results(directory)))
    table = tables.markdown(bars.rows(found))
    states = [v.state for v in found]
    met, missed = states.count("met"), states.count("missed")
    head = (
        f"{met} of {len(found)} bars are met, {missed} are missed, "
        f"{len(found) - met - missed} are not measured or not at their size."
    )
    (directory / "bars.md").write_text(f"# The bars\n\n{head}\n\n{table}")
    entries = [
        {
            "what": v.bar.what,
            "needed": v.bar.needed,
            "at_most": v.bar.at_most,
            "unit": v.bar.unit,
            "measured": v.found and v.found.value,
            "of": v.found and v.found.where,
            "state": v.state,
        }
        for v in found
    ]
    (directory / "bars.json").write_text(json.dumps(entries, indent=1) + "\n")
    groups = [(v.bar.what, {v.state: v.margin}) for v in found if v.margin]
    if groups:
        axis = "measured against what is needed: from 1 on the bar is met"
        colours = {"met": 0, "missed": 5, "not at size": 7}
        svg = plot.bars("The bars", groups, reference="needed", axis=axis, note=head, colours=colours)
        (directory / "bars.svg").write_text(svg)
    return f"{head}\n\n{table}"


def write_summary(directory: Path) -> None:
    """summary.md: the store and the threads against each other engine, for the README."""
    found: list[Measurement] = []
    title = ""
    for suite in ("store", "threads"):
        if (directory / f"{suite}.json").exists():
            document = bars.Results(directory).document(suite)
            found += from_json(document)
            title = title or document["title"]
    names = dict.fromkeys(m.engine for m in found)
    others = [name for name in names if name not in ("kvwasi", "lmdb") and not name.startswith("bare")]
    if found:
        table = tables.markdown(tables.ratios(title, found, "lmdb", others))
        (directory / "summary.md").write_text(f"# In short\n\n{table}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    results = parser.parse_args().results
    write_summary(results)
    print(write_bars(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
