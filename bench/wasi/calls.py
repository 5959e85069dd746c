"""Every file call in a loop, in nanoseconds a call.

    python bench/wasi/calls.py [--loops N] [--turns N] [--directory DIR]

The same C natively (bare, and for paths with the confinement that a host owes), on our host in both modes,
and on wasmtime-py's own WASI; the hosts take turns. A ratio above 1 says that our host is the faster.
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
from hosts import HOSTS, Program

ENTRIES = 10_000
# One turn on wasmtime-py's own costs as much as all the others together; its calls are far from the noise.
SLOW = "wasmtime-py"


@dataclass(frozen=True)
class Call:
    """Medians of one call; None where the host or the variant has none."""

    name: str
    native: float
    confined: float | None
    shared: float
    exclusive: float
    wasmtime_py: float | None

    @property
    def bar(self) -> float:
        """What our host is held against: native C that does the same."""
        return self.confined or self.native


def prepare(directory: Path) -> None:
    """The tree that the program works on."""
    (directory / "file").write_bytes(bytes(65_536))
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a" / "b" / "f").write_bytes(b"f")
    os.symlink("target", directory / "a" / "b" / "l")
    (directory / "many").mkdir()
    for i in range(ENTRIES):
        os.close(os.open(directory / "many" / f"entry-{i:06}", os.O_CREAT | os.O_WRONLY))


def measure(directory: Path, *, loops: int = 10, turns: int = 3, wasmtime_py: bool = True) -> list[Call]:
    """Time every call in a directory below ``directory``."""
    found: dict[tuple[str, str, str], list[float]] = {}
    hosts = [host for host in HOSTS if wasmtime_py or host != SLOW]
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        prepare(Path(place))
        program = Program("calls", Path(place))
        for turn in range(turns):
            for host in hosts if turn % 2 == 0 else reversed(hosts):
                if host == SLOW and turn > 0:
                    continue
                scale = max(1, loops // 10) if host == SLOW else loops
                for line in program.run(host, [str(scale)], Path(place)).output.decode().splitlines():
                    name, variant, nanoseconds = line.rsplit(" ", 2)
                    found.setdefault((name, host, variant), []).append(float(nanoseconds))
    medians = {key: statistics.median(values) for key, values in found.items()}
    names = dict.fromkeys(name for name, _, _ in medians)
    return [
        Call(
            name,
            medians[name, "native", "bare"],
            medians.get((name, "native", "confined")),
            medians[name, "shared", "bare"],
            medians[name, "exclusive", "bare"],
            medians.get((name, SLOW, "bare")),
        )
        for name in names
    ]


def table(calls: Sequence[Call]) -> str:
    """The result in Markdown."""
    rows = [
        "| call | native ns | confined ns | shared ns | exclusive ns | wasmtime-py ns "
        "| native / shared | confined / shared | wasmtime-py / shared |",
        "|---|" + "---:|" * 8,
    ]
    for call in calls:
        confined = f"{call.confined:.0f}" if call.confined else ""
        ratio = f"{call.confined / call.shared:.2f}" if call.confined else ""
        slow = f"{call.wasmtime_py:.0f}" if call.wasmtime_py else ""
        slower = f"{call.wasmtime_py / call.shared:.1f}" if call.wasmtime_py else ""
        times = f"{call.native:.0f} | {confined} | {call.shared:.0f} | {call.exclusive:.0f} | {slow}"
        rows.append(f"| {call.name} | {times} | {call.native / call.shared:.2f} | {ratio} | {slower} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loops", type=int, default=10, help="scale of every loop")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the files are")
    options = parser.parse_args()
    calls = measure(options.directory, loops=options.loops, turns=options.turns)
    RESULTS.mkdir(exist_ok=True)
    document = {"environment": environment(), "calls": [asdict(call) for call in calls]}
    (RESULTS / "wasi-calls.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "wasi-calls.md").write_text(table(calls))
    print(table(calls), end="")


if __name__ == "__main__":
    main()
