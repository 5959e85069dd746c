"""Every file call in a loop, in nanoseconds a call.

    python bench/wasi/calls.py [--loops N] [--turns N] [--directory DIR]

The same C natively (bare, and for paths with the confinement that a host owes), on our host in both modes,
and on wasmtime-py's own WASI; the hosts take turns. A figure is the median of all loops of all turns, its
spread half the distance between the quartiles. A ratio above 1 says that our host is the faster.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from case7973 import RESULTS, environment
from hosts import HOSTS, Program, in_turns

ENTRIES = 10_000
SLOW = "wasmtime-py"
SLOW_DIVISOR = 10  # its loops are shorter: its calls are far from the noise

# What shared mode is held to.
OF_NATIVE = 0.8  # of native C that does the same, confinement included
TIMES_SLOW = 10  # times the speed of wasmtime-py's own, where that one hands the call to another thread
NOT_HANDED_OVER = ("fd_seek", "fd_tell", "fd_fdstat_set_flags")  # those are not to be slower


@dataclass(frozen=True)
class Figure:
    """Nanoseconds a call, of each loop in each turn."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        if len(self.samples) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (third - first) / 2 / self.median

    def __str__(self) -> str:
        return f"{self.median:.0f} ±{self.spread:.0%}"


@dataclass(frozen=True)
class Call:
    """The figures of one call; None where the host or the variant has none."""

    name: str
    native: Figure
    confined: Figure | None
    shared: Figure
    exclusive: Figure
    wasmtime_py: Figure | None

    @property
    def peer(self) -> Figure:
        """What our host is held against: native C that does the same."""
        return self.confined or self.native

    def of_peer(self) -> str:
        """The speed of shared mode as a part of native C's, and whether that is enough."""
        ratio = self.peer.median / self.shared.median
        return f"{ratio:.2f} {'met' if ratio >= OF_NATIVE else 'MISSED'}"

    def of_slow(self) -> str:
        """The same against wasmtime-py's own.

        The same C natively is the measure of what can be had: where that, too, is not ten times as fast, the
        time is the kernel's or the disk's, and to be as fast as native C is all that a host can do.
        """
        if self.wasmtime_py is None:
            return ""
        ratio = self.wasmtime_py.median / self.shared.median
        reachable = self.wasmtime_py.median / self.peer.median
        if self.name in NOT_HANDED_OVER:
            verdict = "met" if ratio >= 1 else "MISSED"
        elif ratio >= TIMES_SLOW:
            verdict = "met"
        elif ratio >= OF_NATIVE * reachable and reachable < TIMES_SLOW / OF_NATIVE:
            verdict = f"out of reach: native C {reachable:.1f}"
        else:
            verdict = "MISSED"
        return f"{ratio:.1f} {verdict}"


def prepare(directory: Path) -> None:
    """The tree that the program works on."""
    (directory / "file").write_bytes(bytes(65_536))
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a" / "b" / "f").write_bytes(b"f")
    os.symlink("target", directory / "a" / "b" / "l")
    (directory / "many").mkdir()
    for i in range(ENTRIES):
        os.close(os.open(directory / "many" / f"entry-{i:06}", os.O_CREAT | os.O_WRONLY))


def measure(directory: Path, *, loops: int = 10, turns: int = 5, wasmtime_py: bool = True) -> list[Call]:
    """Time every call in a directory below ``directory``."""
    found: dict[tuple[str, str, str], list[float]] = {}
    hosts = [host for host in HOSTS if wasmtime_py or host != SLOW]
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        prepare(Path(place))
        program = Program("calls", Path(place))
        for _, host in in_turns(hosts, turns):
            scale = max(1, loops // SLOW_DIVISOR) if host == SLOW else loops
            for line in program.run(host, [str(scale)], Path(place)).output.decode().splitlines():
                name, variant, *nanoseconds = line.split("\t")
                found.setdefault((name, host, variant), []).extend(map(float, nanoseconds))
    figures = {key: Figure(samples) for key, samples in found.items()}
    names = dict.fromkeys(name for name, _, _ in figures)
    return [
        Call(
            name,
            figures[name, "native", "bare"],
            figures.get((name, "native", "confined")),
            figures[name, "shared", "bare"],
            figures[name, "exclusive", "bare"],
            figures.get((name, SLOW, "bare")),
        )
        for name in names
    ]


def table(calls: Sequence[Call]) -> str:
    """The result in Markdown."""
    rows = [
        "| ns a call | native | native, confined | shared | exclusive | wasmtime-py "
        f"| native / shared | same C natively / shared (bar {OF_NATIVE}) "
        f"| wasmtime-py / shared (bar {TIMES_SLOW}) |",
        "|---|" + "---:|" * 8,
    ]
    for call in calls:
        figures = [call.native, call.confined or "", call.shared, call.exclusive, call.wasmtime_py or ""]
        ratios = [f"{call.native.median / call.shared.median:.2f}", call.of_peer(), call.of_slow()]
        rows.append("| " + " | ".join([call.name, *map(str, figures), *ratios]) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loops", type=int, default=10, help="scale of every loop")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the files are")
    options = parser.parse_args()
    calls = measure(options.directory, loops=options.loops, turns=options.turns)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "environment": environment(),
        "turns": options.turns,
        "calls": [asdict(call) for call in calls],
    }
    (RESULTS / "wasi-calls.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "wasi-calls.md").write_text(table(calls))
    print(table(calls), end="")


if __name__ == "__main__":
    main()
