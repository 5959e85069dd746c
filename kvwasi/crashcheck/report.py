"""What a run of the suite came to: as tables, as JSON, as a picture."""

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from kvwasi.crashcheck.campaign import Outcome, Violation
from kvwasi.crashcheck.damage import HARMLESS, DamageReport
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.names import reproducing
from kvwasi.crashcheck.states import COUNTED_LEVELS, LEVELS
from kvwasi.crashcheck.suite import Others

__all__ = ["Row", "as_json", "as_markdown", "as_summary", "as_svg", "rows"]

SHOWN_VIOLATIONS = 20
OUTCOMES = {
    "right": "right",
    "error": "typed error",
    "other": "as the lie says",
    "wrong": "silently wrong",
    "changed": "changed by reading",
    "slow": "too slow",
    "memory": "too much memory",
    "signal": "signal",
    "bug": "untyped error",
}
"""Of damage, see :mod:`.damage`, as headings."""


@dataclass
class Row:
    """One engine in one mode."""

    engine: str
    mode: str
    states: Counter[str] = field(default_factory=Counter)
    """Unique ones, by level; second cuts included."""
    second: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    """By level; those of the creation are not in here."""
    creation: Counter[str] = field(default_factory=Counter)
    """Violations from before the first flush of the database's life had returned."""
    kinds: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0

    @property
    def counted(self) -> int:
        """Unique states without those that are only for information."""
        return self.states.total() - self.states["L6"]

    @property
    def wrong(self) -> int:
        """Violations of promises."""
        both = self.violations + self.creation
        return both.total() - both["L6"]


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """One for each engine and mode, in the order of the engines' modes."""
    found: dict[tuple[str, str], Row] = {}
    for outcome in outcomes:
        plan = outcome.plan
        row = found.setdefault((plan.engine, plan.mode), Row(plan.engine, plan.mode))
        row.states.update(outcome.states)
        row.second += outcome.second
        row.cpu_s += outcome.cpu_s
        for violation in outcome.violations:
            (row.violations if violation.created else row.creation)[violation.level] += 1
            if violation.counted:
                row.kinds[violation.kind] += 1
    return list(found.values())


def _violations(outcomes: Sequence[Outcome]) -> list[Violation]:
    return [violation for outcome in outcomes for violation in outcome.violations]


def facts(seed: int, engines: Sequence[str]) -> dict[str, str]:
    """What was run, and on what."""
    return {
        "engines": "; ".join(ENGINES[engine].version() for engine in engines),
        **_revision(),
        "seed": str(seed),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }


def _revision() -> dict[str, str]:
    """The commit that the package was built from, where it runs in a checkout."""
    git = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10)
    except OSError:
        return {}
    return {"commit": done.stdout.strip()} if done.returncode == 0 else {}


def as_json(outcomes: Sequence[Outcome], others: Others, about: dict[str, str]) -> dict[str, Any]:
    """Everything that tables and pictures are made from."""
    return {
        "about": about,
        "levels": LEVELS,
        "rows": [
            {**vars(row), "states_counted": row.counted, "violations_counted": row.wrong}
            for row in rows(outcomes)
        ],
        "recordings": [
            {
                "plan": str(outcome.plan),
                "events": outcome.events,
                "states": outcome.counted_states,
                "second": outcome.second,
                "violations": sum(violation.counted for violation in outcome.violations),
                "errors": outcome.errors,
            }
            for outcome in outcomes
        ],
        "share": others.share,
        "faults": [
            {
                "engine": engine,
                "mode": mode,
                "runs": report.runs,
                "errors": report.errors,
                "findings": len(report.findings),
            }
            for (engine, mode), report in others.faults.items()
        ],
        "damage": {engine: report.outcomes for engine, report in others.damage.items()},
        "situations": dict(others.situations),
        "failures": {
            engine: [
                {"command": reproducing(name), "what": what}
                for name, what in others.failures(engine)[:SHOWN_VIOLATIONS]
            ]
            for engine in ENGINES
        },
        "violations": [
            {**asdict(violation), "command": violation.command}
            for row in rows(outcomes)
            for violation in [
                v
                for v in _violations(outcomes)
                if v.counted and v.plan.startswith(f"{row.engine}/{row.mode}/")
            ][:SHOWN_VIOLATIONS]
        ],
    }


def as_markdown(outcomes: Sequence[Outcome], others: Others, about: dict[str, str]) -> str:
    """Tables: what each mode came to, the same by level; faults, damage, situations."""
    lines = [*_cuts(outcomes), *_others(others)]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    return "\n".join(lines) + "\n"


def _cuts(outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return []
    lines = [
        "| after a power cut | states | of them second cuts | violations | while being created |"
        " not opened | wrong contents | other | by signal | states a CPU second |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    table = rows(outcomes)
    for row in table:
        other = row.wrong - row.kinds["open"] - row.kinds["contents"] - row.kinds["signal"]
        creation = row.creation.total() - row.creation["L6"]
        speed = row.states.total() / row.cpu_s if row.cpu_s else 0.0
        lines.append(
            f"| {row.engine} {row.mode} | {row.counted} | {row.second} | {row.wrong} | {creation} |"
            f" {row.kinds['open']} | {row.kinds['contents']} | {other} | {row.kinds['signal']} |"
            f" {speed:.0f} |"
        )
    lines += ["", "Violations / states, by level:", ""]
    lines.append("|  | " + " | ".join(LEVELS) + " |")
    lines.append("|---" + "|---:" * len(LEVELS) + "|")
    for row in table:
        cells = [f"{row.violations[level] + row.creation[level]} / {row.states[level]}" for level in LEVELS]
        lines.append(f"| {row.engine} {row.mode} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"- {level}: {meaning}" for level, meaning in LEVELS.items()), ""]


def _others(others: Others) -> list[str]:
    lines: list[str] = []
    if others.faults:
        lines += [
            "| calls that fail | runs | calls answered with an error | promises broken |",
            "|---|---:|---:|---:|",
        ]
        for (engine, mode), report in others.faults.items():
            cells = f"{report.runs.total()} | {report.errors.total()} | {len(report.findings)}"
            lines.append(f"| {engine} {mode} | {cells} |")
        lines.append("")
    if others.damage:
        lines.append("| damaged files | files | " + " | ".join(OUTCOMES.values()) + " |")
        lines.append("|---" + "|---:" * (1 + len(OUTCOMES)) + "|")
        for engine, damage in others.damage.items():
            for kind, counts in [*_groups(damage).items(), ("**all**", _all_outcomes(damage))]:
                cells = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
                lines.append(f"| {engine}: {kind} | {counts.total()} | {cells} |")
        lines.append("")
    if others.situations:
        wrong = [name for name, what in others.situations if what]
        names = ", ".join(name for name, _ in others.situations)
        lines += [f"Situations: {len(others.situations)}, {len(wrong)} of them wrong ({names}).", ""]
    if others.faults or others.damage:
        lines += [f"- of all faults and places of damage: {others.share:g}"]
    return lines


def _groups(damage: DamageReport) -> dict[str, Counter[str]]:
    """Kinds of damage, like ones together."""
    names = ("bit flipped", "byte changed", "cut short", "blocks", "crafted", "other files")
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    for kind, counts in damage.outcomes.items():
        if kind[0].isdigit():
            name = "blocks"
        elif kind.endswith("crafted"):
            name = "crafted"
        elif kind.startswith("cut"):
            name = "cut short"
        else:
            name = kind if kind in found else "other files"
        found[name].update(counts)
    return {name: counts for name, counts in found.items() if counts}


def as_summary(outcomes: Sequence[Outcome], others: Others) -> str:
    """One table for a README: what was done, and what became of it."""
    lines = [
        "|  | cases | promises broken | of them: not opened | wrong contents | signal | other |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for engine in ENGINES:
        for row in rows(outcomes):
            if row.engine == engine:
                kinds = _told(row.wrong, row.kinds)
                lines.append(
                    f"| {engine} {row.mode}: power cuts | {row.counted:,} | {row.wrong:,} | {kinds} |"
                )
        reports = [report for (name, _), report in others.faults.items() if name == engine]
        if reports:
            found = [finding for report in reports for _, finding in report.findings]
            kinds = _told(len(found), Counter(one.kind for one in found))
            runs = sum(report.runs.total() for report in reports)
            lines.append(f"| {engine}: calls that fail | {runs:,} | {len(found):,} | {kinds} |")
        if engine in others.damage:
            damage, counts = others.damage[engine], _all_outcomes(others.damage[engine])
            kinds = f"- | {counts['wrong']:,} | {counts['signal']:,} | -"
            lines.append(f"| {engine}: damaged files | {damage.files:,} | {damage.wrong:,} | {kinds} |")
    return "\n".join(lines) + "\n"


def _told(wrong: int, kinds: Counter[str]) -> str:
    """Cells: of so many findings each kind that has a column, and the rest."""
    told = [kinds[kind] for kind in ("open", "contents", "signal")]
    return " | ".join(f"{count:,}" for count in (*told, wrong - sum(told)))


def _all_outcomes(damage: DamageReport) -> Counter[str]:
    return sum(damage.outcomes.values(), Counter[str]())


def as_svg(outcomes: Sequence[Outcome], others: Others) -> str:
    """A field for each mode and level: how many states, and which part of them is wrong; below, the rest."""
    table = rows(outcomes)
    left, top, width, height = 170, 70, 92, 40
    below = top + height * len(table) + 90
    panel = _panel(others)
    across, down = left + width * len(LEVELS) + 20, below + (60 + height * len(panel) if panel else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}"'
        f' height="{down}" font-family="sans-serif" font-size="13">',
        f'<rect width="{across}" height="{down}" fill="white"/>',
        _text(left, 26, "Power cuts: wrong states of all unique states, by level", anchor="start", size=17),
    ]
    for column, level in enumerate(LEVELS):
        parts.append(_text(left + width * (column + 0.5), top - 10, level, weight="bold"))
    for number, row in enumerate(table):
        y = top + height * number
        parts.append(_text(left - 10, y + height / 2 + 5, f"{row.engine} {row.mode}", anchor="end"))
        for column, level in enumerate(LEVELS):
            wrong = row.violations[level] + row.creation[level]
            x, counts = left + width * column, level in COUNTED_LEVELS
            parts += _field(x, y, width, height, wrong, row.states[level], counts=counts)
    y = top + height * len(table) + 24
    for number, (level, meaning) in enumerate(LEVELS.items()):
        x, line = left + (number % 3) * 260, y + 18 * (number // 3)
        parts.append(_text(x, line, f"{level}: {meaning}", anchor="start", size=11))
    if panel:
        title = "Calls that fail, damaged files, situations: promises broken of all cases"
        parts.append(_text(left, below, title, anchor="start", size=17))
    columns = list(dict.fromkeys(name for fields in panel.values() for name in fields))
    for number, name in enumerate(columns):
        parts.append(_text(left + width * (number + 0.5), below + 32, name, size=11, weight="bold"))
    for number, (engine, fields) in enumerate(panel.items()):
        y = below + 42 + height * number
        parts.append(_text(left - 10, y + height / 2 + 5, engine, anchor="end"))
        for place, name in enumerate(columns):
            parts += _field(left + width * place, y, width, height, *fields.get(name, (0, 0)))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(others: Others) -> dict[str, dict[str, tuple[int, int]]]:
    """For each engine, what was done to it: how many cases broke a promise, of how many."""
    panel: dict[str, dict[str, tuple[int, int]]] = {}
    for (engine, _), report in others.faults.items():
        wrong, runs = panel.setdefault(engine, {}).get("failing calls", (0, 0))
        panel[engine]["failing calls"] = wrong + len(report.findings), runs + report.runs.total()
    for engine, damage in others.damage.items():
        for kind, counts in _groups(damage).items():
            harmless = sum(counts[outcome] for outcome in HARMLESS)
            panel.setdefault(engine, {})[kind] = counts.total() - harmless, counts.total()
    if others.situations:
        wrong = sum(bool(what) for _, what in others.situations)
        panel.setdefault("kvwasi", {})["situations"] = wrong, len(others.situations)
    return panel


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "normal", size: int = 13
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _field(
    x: float, y: float, width: int, height: int, wrong: int, states: int, *, counts: bool = True
) -> list[str]:
    colour = "#eeeeee"
    if states and counts:
        colour = "#cfe8cf" if wrong == 0 else "#f6cfa8" if wrong < states / 20 else "#e89a90"
    box = f'<rect x="{x}" y="{y}" width="{width - 3}" height="{height - 3}" rx="3" fill="{colour}"/>'
    if not states:
        return [box]
    middle = x + (width - 3) / 2
    return [
        box,
        _text(middle, y + 17, f"{wrong}", weight="bold"),
        _text(middle, y + 31, f"of {states}", size=11),
    ]
