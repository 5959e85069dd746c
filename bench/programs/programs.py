"""Real C programs on four hosts: SQLite, Lua and zstd, whose sources come from package registries.

    PYTHONPATH=bench/wasi python bench/programs/programs.py [--turns N] [--directory DIR]

Each program does file work natively, on our host in both modes and on wasmtime-py's own WASI. The hosts take
turns; what a program prints and the files that it leaves are compared byte for byte.
"""

import argparse
import hashlib
import json
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from case7973 import environment
from hosts import HOSTS, Program, in_turns
from packages import LUA, SQLITE, ZSTD, Package

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"

SQLITE_FLAGS = ("-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL")
# longjmp by WebAssembly's exceptions: Lua's errors and coroutines need it.
LUA_WASI_FLAGS = (
    *("-mexception-handling", "-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"),
    *("-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_PROCESS_CLOCKS"),
    *("-lwasi-emulated-signal", "-lwasi-emulated-process-clocks"),
)
# As its authors ask for on a system without processes; and the test insists on a PATH.
LUA_TEST_SETUP = "_port = true; os.getenv = function() return '' end"
CLOCK = re.compile(rb"test done on .*")  # it prints the time


@dataclass(frozen=True)
class Sources:
    """Where the unpacked packages are."""

    sqlite: Path
    lua: Path
    zstd: Path


@dataclass(frozen=True)
class Case:
    """One program with its arguments; ``prepare`` readies the empty directory that it runs in."""

    name: str
    program: str
    args: tuple[str, ...]
    prepare: Callable[[Path, Sources], None]


@dataclass(frozen=True)
class Line:
    """One case on one host."""

    case: str
    host: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _nothing(directory: Path, sources: Sources) -> None:
    pass


def _lua_script(directory: Path, sources: Sources) -> None:
    shutil.copy(HERE / "files.lua", directory)
    (directory / "files").mkdir()


def _lua_tests(directory: Path, sources: Sources) -> None:
    shutil.copy(sources.lua / "testes" / "files.lua", directory)


def _tree(directory: Path, sources: Sources) -> None:
    """All the sources, as a directory tree to pack."""
    for source in (sources.sqlite, sources.lua.parent, sources.zstd):
        shutil.copytree(source, directory / "tree" / source.name)


def _small_files(directory: Path, sources: Sources) -> None:
    """Many small files: pieces of the sources."""
    text = (sources.zstd / "zstd.c").read_bytes()
    for i in range(2000):
        file = directory / "tree" / f"{i % 40:02}" / f"{i:04}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text[i * 900 : i * 900 + i % 3000])


def _packed(case: "Case", fill: Callable[[Path, Sources], None], native: Program) -> Case:
    """A case that starts from what another leaves when it is run natively."""

    def prepare(directory: Path, sources: Sources) -> None:
        fill(directory, sources)
        native.run("native", ["pack", "tree", "tree.zst", "3"], directory)
        shutil.rmtree(directory / "tree")

    return Case(case.name, case.program, case.args, prepare)


def fetch(directory: Path) -> Sources:
    """Have the packages; raises PackageError."""
    return Sources(SQLITE.fetch(directory), LUA.fetch(directory), ZSTD.fetch(directory))


def build(sources: Sources, directory: Path) -> dict[str, Program]:
    """Compile the three programs, each for both targets, into ``directory``."""
    print("compiling", flush=True)
    directory.mkdir(parents=True, exist_ok=True)
    return {
        "sqlite_work": Program(
            "sqlite_work",
            directory,
            [HERE / "sqlite_work.c", sources.sqlite / "sqlite3.c"],
            [f"-I{sources.sqlite}", *SQLITE_FLAGS],
            native_flags=["-lm"],
        ),
        "lua": Program(
            "lua",
            directory,
            [HERE / "lua_wasi.c", sources.lua / "onelua.c"],
            ["-include", str(HERE / "lua_wasi.h")],
            native_flags=["-lm"],
            wasi_flags=LUA_WASI_FLAGS,
        ),
        "zstd_tree": Program(
            "zstd_tree",
            directory,
            [HERE / "zstd_tree.c", sources.zstd / "zstd.c"],
            [f"-I{sources.zstd}", "-DZSTD_DISABLE_ASM", "-Wno-deprecated-declarations"],
        ),
    }


def cases(programs: dict[str, Program], scale: int) -> list[Case]:
    """What is run; ``scale`` divides the work."""
    rows, transactions, files = 50_000 // scale, 1000 // scale, 2000 // scale
    zstd = programs["zstd_tree"]
    unpack = ("unpack", "tree.zst", "out")
    return [
        Case("SQLite, every commit on disk", "sqlite_work", ("db", str(rows), "100", "full"), _nothing),
        Case("SQLite, no fsync", "sqlite_work", ("db", str(rows), str(transactions), "off"), _nothing),
        Case("Lua, files", "lua", ("files.lua", "files", str(files)), _lua_script),
        Case("Lua's own test of files", "lua", ("-e", LUA_TEST_SETUP, "files.lua"), _lua_tests),
        Case("zstd, pack sources", "zstd_tree", ("pack", "tree", "tree.zst", "3"), _tree),
        Case("zstd, pack small files", "zstd_tree", ("pack", "tree", "tree.zst", "1"), _small_files),
        _packed(Case("zstd, unpack sources", "zstd_tree", unpack, _nothing), _tree, zstd),
        _packed(Case("zstd, unpack small files", "zstd_tree", unpack, _nothing), _small_files, zstd),
    ]


def tree_digest(directory: Path) -> str:
    """One hash of all names and contents below a directory."""
    whole = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        whole.update(f"{path.relative_to(directory)} {path.is_file()} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def measure(
    directory: Path, sources: Sources, programs: dict[str, Program], *, turns: int, scale: int = 1
) -> list[Line]:
    """Run all cases; raises RuntimeError when a host prints or leaves something else than natively."""
    lines = []
    for case in cases(programs, scale):
        times: dict[str, list[float]] = {host: [] for host in HOSTS}
        expected = None
        for _, host in in_turns(HOSTS, turns):
            with tempfile.TemporaryDirectory(prefix="kvwasi-programs-", dir=directory) as place:
                case.prepare(Path(place), sources)
                run = programs[case.program].run(host, case.args, Path(place))
                found = (CLOCK.sub(b"", run.output), tree_digest(Path(place)))
            expected = expected or found
            if found != expected:
                raise RuntimeError(f"{case.name}: {host} differs from native:\n{run.output.decode()}")
            times[host].append(run.seconds)
        lines += [Line(case.name, host, seconds) for host, seconds in times.items()]
        print(f"{case.name}: the same output and files on {', '.join(HOSTS)}", flush=True)
    return lines


def table(lines: Sequence[Line]) -> str:
    """The medians in Markdown, each with how many times the native speed it is."""
    rows = [
        "| seconds (native / this) | " + " | ".join(HOSTS) + " |",
        "|---|" + "---:|" * len(HOSTS),
    ]
    for case in dict.fromkeys(line.case for line in lines):
        of = {line.host: line.median for line in lines if line.case == case}
        cells = [f"{of[host]:.3f} ({of['native'] / of[host]:.2f})" for host in HOSTS[1:]]
        rows.append(f"| {case} | {of['native']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--scale", type=int, default=1, help="divide the work by this")
    parser.add_argument("--directory", type=Path, default=Path("build/programs"), help="for all that is made")
    options = parser.parse_args()
    directory = options.directory.resolve()
    sources = fetch(directory)
    programs = build(sources, directory / "bin")
    lines = measure(directory, sources, programs, turns=options.turns, scale=options.scale)
    packages: list[Package] = [SQLITE, LUA, ZSTD]
    document = {
        "environment": environment(),
        "packages": {package.name: package.version for package in packages},
        "turns": options.turns,
        "lines": [asdict(line) for line in lines],
    }
    (RESULTS / "programs.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "programs.md").write_text(table(lines))
    print(table(lines), end="")


if __name__ == "__main__":
    main()
