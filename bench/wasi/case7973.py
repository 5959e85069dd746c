"""The case of wasmtime's issue 7973: seeks and small writes to one file, opened anew and flushed each round.

    python bench/wasi/case7973.py [--turns N] [--directory DIR] [--without-wasmtime-py]

The hosts take turns; the file they leave is compared. A figure is the ratio of the native median to the
host's: above 1 is faster than native.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hosts import HOSTS, Program, in_turns

from kvwasi.wasi import _host

RESULTS = Path(__file__).parents[1] / "results"
FILE_BYTES = 22_990
ROUNDS = 999
BARS = {"shared": 0.95, "exclusive": 4.0}  # times the native speed


@dataclass(frozen=True)
class Line:
    """One host in one variant of the case."""

    host: str
    flushed: bool
    seconds: list[float]
    flush_seconds: list[float]  # of them in fsync: the disk's time
    ratio_to_native: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def flush_median(self) -> float:
        return statistics.median(self.flush_seconds)

    @property
    def verdict(self) -> str:
        """Whether the host is as fast as it is to be."""
        bar = BARS.get(self.host)
        if bar is None:
            return ""
        return f"{bar:g}: {'met' if self.ratio_to_native >= bar else 'MISSED'}"


def measure(directory: Path, *, turns: int = 5, rounds: int = ROUNDS, wasmtime_py: bool = True) -> list[Line]:
    """Run the case in a directory below ``directory`` and compare what the hosts wrote.

    ``rounds`` below 999 makes it shorter, the file smaller. Raises RuntimeError when two hosts differ.
    """
    hosts = [host for host in HOSTS if wasmtime_py or host != "wasmtime-py"]
    times: dict[tuple[str, bool], list[float]] = {(h, f): [] for f in (True, False) for h in hosts}
    flushes: dict[tuple[str, bool], list[float]] = {key: [] for key in times}
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        program = Program("issue7973", Path(place))
        digests = set()
        for turn, host in in_turns(hosts, turns):
            if host == "wasmtime-py" and turn > 0:
                continue  # half a minute each; once shows it
            for flushed in (True, False):
                file = Path(place) / "file"
                file.unlink(missing_ok=True)
                arguments = ["file", "sync" if flushed else "nosync", str(rounds)]
                run = program.run(host, arguments, Path(place))
                times[host, flushed].append(run.seconds)
                flushes[host, flushed].append(float(run.output))
                content = file.read_bytes()
                digests.add((len(content), hashlib.sha256(content).hexdigest()))
    if len(digests) != 1:
        raise RuntimeError(f"the hosts wrote different files: {digests}")
    if rounds == ROUNDS and next(iter(digests))[0] != FILE_BYTES:
        raise RuntimeError("the file has not the size that the case ends with")
    return [
        Line(
            host,
            flushed,
            seconds,
            flushes[host, flushed],
            statistics.median(times["native", flushed]) / statistics.median(seconds),
        )
        for (host, flushed), seconds in times.items()
    ]


def table(lines: list[Line]) -> str:
    """The result in Markdown."""
    rows = [
        "| 7973 case | median s | in fsync | least to most | native / this | bar |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for line in lines:
        name = line.host if line.flushed else f"{line.host}, no fsync"
        span = f"{min(line.seconds):.3f}-{max(line.seconds):.3f}"
        times = f"{line.median:.3f} | {line.flush_median:.3f} | {span}"
        rows.append(f"| {name} | {times} | {line.ratio_to_native:.2f} | {line.verdict} |")
    return "\n".join(rows) + "\n"


def environment() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "wasmtime": importlib.metadata.version("wasmtime"),
        "return_stack_refilled": _host.refills_return_stack(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the file is written")
    parser.add_argument("--without-wasmtime-py", action="store_true", help="it takes half a minute a run")
    options = parser.parse_args()
    lines = measure(options.directory, turns=options.turns, wasmtime_py=not options.without_wasmtime_py)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "environment": environment(),
        "turns": options.turns,
        "lines": [asdict(line) for line in lines],
    }
    (RESULTS / "wasi-7973.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "wasi-7973.md").write_text(table(lines))
    print(table(lines), end="")


if __name__ == "__main__":
    main()
