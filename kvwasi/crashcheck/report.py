"""What a run of the suite came to: as tables, as JSON, as a picture."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from kvwasi.crashcheck.campaign import Outcome, Violation
from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.states import LEVELS

__all__ = ["Row", "as_json", "as_markdown", "as_svg", "rows"]

SHOWN_VIOLATIONS = 20


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
        "seed": str(seed),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }


def as_json(outcomes: Sequence[Outcome], about: dict[str, str]) -> dict[str, Any]:
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


def as_markdown(outcomes: Sequence[Outcome], about: dict[str, str]) -> str:
    """Two tables: what each mode came to, and by level."""
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
    lines += ["", *(f"- {level}: {meaning}" for level, meaning in LEVELS.items()), ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    return "\n".join(lines) + "\n"


def as_svg(outcomes: Sequence[Outcome]) -> str:
    """A field for each mode and level: how many states, and which part of them is wrong."""
    table = rows(outcomes)
    left, top, width, height = 170, 70, 92, 40
    across, down = left + width * len(LEVELS) + 20, top + height * len(table) + 90
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
            x = left + width * column
            parts += _field(x, y, width, height, wrong, row.states[level])
    y = top + height * len(table) + 24
    for number, (level, meaning) in enumerate(LEVELS.items()):
        x, line = left + (number % 3) * 260, y + 18 * (number // 3)
        parts.append(_text(x, line, f"{level}: {meaning}", anchor="start", size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "normal", size: int = 13
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _field(x: float, y: float, width: int, height: int, wrong: int, states: int) -> list[str]:
    colour = "#eeeeee"
    if states:
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
