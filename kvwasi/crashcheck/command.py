"""``kvwasi crashtest`` and ``kvwasi torture``: parse, run, print. The rest is imported when it runs."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kvwasi import console

if TYPE_CHECKING:
    from kvwasi.crashcheck.campaign import Outcome
    from kvwasi.crashcheck.suite import Others, Progress

STATES = 4000
SHARE = 0.01
KILLS = 1000


class EngineName(StrEnum):
    """Which engines ``crashtest`` looks at."""

    KVWASI = "kvwasi"
    LMDB = "lmdb"
    BOTH = "both"


class Part(StrEnum):
    """What ``crashtest`` does."""

    CUTS = "cuts"
    FAULTS = "faults"
    DAMAGE = "damage"
    SITUATIONS = "situations"


def crashtest(
    states: Annotated[int, typer.Option(min=1, help="Unique states of the disk to look at.")] = STATES,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same states.")] = 1,
    engine: Annotated[
        EngineName, typer.Option(help="lmdb needs the package lmdb and a C compiler.")
    ] = EngineName.KVWASI,
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Only this; may be given again. Without it, all.", show_default=False),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="The part of all faults and places of damage that is tried.")
    ] = SHARE,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 1,
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the report here: Markdown, JSON and SVG.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reproduce: Annotated[
        str | None, typer.Option(metavar="NAME", help="Look only at this state, as a report names it.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --reproduce: leave the state in this directory.")
    ] = None,
) -> int:
    """Cut the power, in simulation: every state that the disk may be in must open with all that was promised.

    Cuts: workloads run while each of their storage calls is recorded; from that, the disks that a power cut
    at any moment may leave are built, opened and compared with the history. Faults: each call fails in turn.
    Damage: files are changed in every way. Situations: pipes, links, two openers, forks, kills, too little
    memory. Exit code 3 if kvwasi breaks a promise.
    """
    _need_parts(engine)
    if reproduce is not None:
        return _reproduce(reproduce, keep)
    if keep is not None:
        raise typer.BadParameter("--keep needs --reproduce")
    from kvwasi.crashcheck import report
    from kvwasi.crashcheck.suite import run_others, run_suite

    engines = ["kvwasi", "lmdb"] if engine is EngineName.BOTH else [engine.value]
    parts = [one.value for one in part or Part]
    outcomes: list[Outcome] = []
    if "cuts" in parts:
        with _progress() as show:
            outcomes = run_suite(engines, states, seed, jobs=jobs, progress=show)
    others = run_others(engines, parts, seed, share, jobs)
    about = report.facts(seed, engines)
    if output is not None:
        _write_report(output, outcomes, others, about)
    if json:
        console.write_json(report.as_json(outcomes, others, about))
    else:
        console.write(report.as_markdown(outcomes, others, about).encode())
    return _verdict(outcomes, others)


def torture(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A directory on the disk to be tried; made if need be.")
    ],
    kills: Annotated[
        int | None, typer.Option(min=1, help="So many kills.", show_default=f"{KILLS}, or as --seconds allow")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="As long as this.", show_default=False)] = None,
    processes: Annotated[int, typer.Option(min=1, help="Writers at a time, each with its own database.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Threads that commit in each writer.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of what is written.", show_default="another each time")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill real writers with SIGKILL at random moments; all that they acknowledged must be there.

    Exit code 3 if something is lost; the database then stays in PATH.
    """
    import random

    from kvwasi.crashcheck import torture as room

    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter("a number of seconds", param_hint="--seconds")
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    if kills is None and seconds is None:
        kills = KILLS
    try:
        score = room.torture(
            path, kills=kills, seconds=seconds, processes=processes, threads=threads, seed=seed
        )
    except room.LossError as error:
        raise console.DataError(f"{error} (--seed {seed} --threads {threads})") from None
    if json:
        console.write_json({"kills": score.kills, "commits": score.commits, "seed": seed})
    else:
        console.tell(f"{score.kills} kills, {score.commits} commits acknowledged, all there and nothing else")


def _need_parts(engine: EngineName) -> None:
    if engine is EngineName.KVWASI:
        return
    from importlib.util import find_spec

    from kvwasi.crashcheck import preload

    if find_spec("lmdb") is None:
        raise console.DataError("LMDB is not installed: pip install lmdb")
    try:
        preload.library()
    except preload.NoCompilerError as error:
        raise console.DataError(f"LMDB's calls cannot be recorded: {error}") from None


def _reproduce(name: str, keep: str | None) -> int:
    if keep is not None:
        os.makedirs(keep, exist_ok=True)
    try:
        found = _reproduced(name, keep)
    except (ValueError, KeyError, IndexError):
        raise typer.BadParameter(f"'{name}' names no state", param_hint="--reproduce") from None
    for what in found:
        console.write(f"{what}\n".encode())
    if found:
        return console.complain(console.EXIT_DATA, f"{name}: this state breaks a promise")
    console.tell("this state is as it should be")
    return 0


def _reproduced(name: str, keep: str | None) -> list[str]:
    """What is wrong with what a report names."""
    if name.startswith("fault/"):
        from kvwasi.crashcheck.faults import reproduce_fault

        finding = reproduce_fault(name)
        return [f"{finding.kind}: {finding.what}"] if finding else []
    if name.startswith("damage/"):
        from kvwasi.crashcheck.damage import reproduce_damage

        return [what for what in [reproduce_damage(name, keep)] if what]
    if name.startswith("situation/"):
        from kvwasi.crashcheck.situations import reproduce_situation

        return [what for what in [reproduce_situation(name)] if what]
    from kvwasi.crashcheck.campaign import reproduce

    return [f"{violation.kind}: {violation.what}" for violation in reproduce(name, keep)]


def _write_report(directory: str, outcomes: "list[Outcome]", others: "Others", about: dict[str, str]) -> None:
    import json

    from kvwasi.crashcheck import report

    os.makedirs(directory, exist_ok=True)
    texts = {
        "md": report.as_markdown(outcomes, others, about),
        "json": json.dumps(report.as_json(outcomes, others, about), indent=1) + "\n",
        "svg": report.as_svg(outcomes, others),
        "summary.md": report.as_summary(outcomes, others),
    }
    for suffix, text in texts.items():
        with open(os.path.join(directory, f"crashtest.{suffix}"), "w") as stream:
            stream.write(text)


def _verdict(outcomes: "list[Outcome]", others: "Others") -> int:
    from kvwasi.crashcheck.names import reproducing

    broken = [
        (str(violation), f"{violation.kind}: {violation.what}")
        for outcome in outcomes
        for violation in outcome.violations
        if violation.counted and outcome.plan.engine == "kvwasi"
    ]
    broken += others.failures("kvwasi")
    for name, what in broken[:10]:
        console.tell(f"{reproducing(name)}\n    {what}")
    if broken:
        return console.complain(console.EXIT_DATA, f"{len(broken)} cases break a promise of kvwasi")
    return 0


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A progress bar on a terminal, nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, of: None
        return
    with typer.progressbar(length=1, label="states", file=sys.stderr) as bar:

        def show(done: int, of: int) -> None:
            bar.length = of
            bar.label = f"{done} states"
            bar.update(min(done, of) - bar.pos)

        yield show


def mount(app: typer.Typer) -> None:
    """Add the commands to the application."""
    short = "Cut the power, in simulation, at every moment."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(crashtest)
    short = "Kill real writers; all that they acknowledged must be there."
    app.command(epilog=console.EXIT_CODES_HELP, short_help=short)(torture)
