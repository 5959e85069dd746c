"""Programs that were written for files, not for this project: SQLite, zstd and brotli, on every host.

    python bench/wasi/real.py [--turns N] [--directory DIR] [--sources DIR]

Their sources are fetched from PyPI and npm, with ``pip`` and ``npm``, compiled for the machine and, by zig,
for WASI. What they print and write is the same on each host, or the run is void.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from case7973 import RESULTS, environment
from hosts import HOSTS, PROGRAMS, Program

INPUT_BYTES = 4_000_000


@dataclass(frozen=True)
class Real:
    """A program: where its source comes from, how it is compiled and what it is asked to do."""

    name: str
    package: tuple[str, str]  # ("pypi" or "npm", requirement)
    sources: tuple[str, ...]  # patterns within the package, or a driver of ours
    includes: tuple[str, ...]
    flags: tuple[str, ...]
    wasi_flags: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]


REALS = (
    Real(
        "sqlite",
        ("npm", "better-sqlite3@12.11.1"),
        ("real/sqlite_work.c", "deps/sqlite3/sqlite3.c"),
        ("deps/sqlite3",),
        ("-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL"),
        (
            "-DSQLITE_WASI",
            *(f"-D_WASI_EMULATED_{name}" for name in ("GETPID", "SIGNAL", "MMAN", "PROCESS_CLOCKS")),
            *(f"-lwasi-emulated-{name}" for name in ("getpid", "signal", "mman", "process-clocks")),
        ),
        (("database", "150000"),),
        ("database",),
    ),
    Real(
        "zstd",
        ("pypi", "zstandard==0.25.0"),
        ("real/zstd_work.c", "zstd/zstd.c"),
        ("zstd",),
        (),
        (),
        (("input", "packed", "unpacked"),),
        ("packed", "unpacked"),
    ),
    Real(
        "brotli",
        ("pypi", "brotli==1.2.1"),
        ("c/tools/brotli.c", "c/common/*.c", "c/enc/*.c", "c/dec/*.c"),
        ("c/include",),
        (),
        ("-D_WASI_EMULATED_PROCESS_CLOCKS", "-Dchown(path,user,group)=0", "-lwasi-emulated-process-clocks"),
        (("-f", "-n", "-q", "3", "-o", "packed", "input"), ("-d", "-f", "-n", "-o", "unpacked", "packed")),
        ("packed", "unpacked"),
    ),
)


@dataclass(frozen=True)
class Line:
    """One program on one host: seconds of each turn."""

    program: str
    host: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def fetch(real: Real, directory: Path) -> Path:
    """The unpacked source package, fetched once into ``directory``. Raises CalledProcessError."""
    registry, requirement = real.package
    place = directory / real.name
    if not place.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as work:
            if registry == "npm":
                command = ["npm", "pack", "--silent", "--pack-destination", work, requirement]
            else:
                pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
                command = [*pip, "-d", work, requirement]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            archive = next(path for path in Path(work).iterdir() if path.name.endswith((".tgz", ".tar.gz")))
            with tarfile.open(archive) as tar:
                tar.extractall(Path(work) / "out", filter="data")
            next((Path(work) / "out").iterdir()).rename(place)
    return place


def compile_real(real: Real, package: Path, directory: Path) -> Program:
    """Both binaries."""
    sources: list[Path] = []
    for pattern in real.sources:
        sources += [PROGRAMS / pattern] if pattern.startswith("real/") else sorted(package.glob(pattern))
    flags = ["-w", *real.flags, *(f"-I{package / include}" for include in real.includes)]
    return Program(real.name, directory, sources, flags, real.wasi_flags)


def write_input(path: Path) -> None:
    """Something to compress: the source of this Python's library."""
    library = Path(sysconfig.get_path("stdlib"))
    content = b"".join(file.read_bytes() for file in sorted(library.glob("*.py")))
    path.write_bytes(content[:INPUT_BYTES])


def measure(
    sources: Path,
    directory: Path,
    *,
    turns: int = 3,
    hosts: Sequence[str] = HOSTS,
    reals: Sequence[Real] = REALS,
) -> list[Line]:
    """Run every program on every host in turn. Raises RuntimeError when two hosts differ."""
    lines = []
    for real in reals:
        package = fetch(real, sources)
        with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
            program = compile_real(real, package, Path(place))
            write_input(Path(place) / "input")
            results = set()
            times: dict[str, list[float]] = {host: [] for host in hosts}
            for turn in range(turns):
                for host in hosts if turn % 2 == 0 else reversed(hosts):
                    for output in real.outputs:
                        (Path(place) / output).unlink(missing_ok=True)
                    runs = [program.run(host, list(arguments), Path(place)) for arguments in real.runs]
                    times[host].append(sum(run.seconds for run in runs))
                    digest = hashlib.sha256(b"".join(run.output for run in runs))
                    for output in real.outputs:
                        digest.update((Path(place) / output).read_bytes())
                    results.add(digest.hexdigest())
            if len(results) != 1:
                raise RuntimeError(f"{real.name} gives different results on different hosts")
            lines += [Line(real.name, host, seconds) for host, seconds in times.items()]
    return lines


def table(lines: Sequence[Line]) -> str:
    """The result in Markdown: seconds."""
    hosts = list(dict.fromkeys(line.host for line in lines))
    rows = ["| program | " + " | ".join(f"{host} s" for host in hosts) + " |", "|---|" + "---:|" * len(hosts)]
    for name in dict.fromkeys(line.program for line in lines):
        medians = {line.host: line.median for line in lines if line.program == name}
        rows.append(f"| {name} | " + " | ".join(f"{medians[host]:.2f}" for host in hosts) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the programs work")
    parser.add_argument(
        "--sources", type=Path, default=Path("build/real-programs"), help="where sources are kept"
    )
    options = parser.parse_args()
    lines = measure(options.sources, options.directory, turns=options.turns)
    RESULTS.mkdir(exist_ok=True)
    document = {"environment": environment(), "lines": [asdict(line) for line in lines]}
    (RESULTS / "wasi-programs.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "wasi-programs.md").write_text(table(lines))
    print(table(lines), end="")


if __name__ == "__main__":
    main()
