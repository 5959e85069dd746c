"""Conformance programs on our host: our own, and those that Node.js tests its WASI with.

    python tests/conformance/run.py [--directory DIR]

Node.js's are in its Debian source package, compiled. apt fetches and authenticates it (with the machine's own
list of sources, whose ``deb-src`` may be missing). Nothing is installed.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import programs

SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))


class FetchError(Exception):
    """The programs could not be had."""


@dataclass(frozen=True)
class Case:
    """One program and what Node's tests expect of it, in their own words."""

    name: str
    status: int = 0
    stdout: bytes = b""
    stdin: bytes = b""
    sandbox: str = "fixture"
    # What it insists on and we do otherwise, as its own message says it; and why.
    differs: bytes = b""
    why: str = field(default="", compare=False)


HELLO = b"hello from input.txt"
CAPABLE = "a path that leads out is PERM; POSIX has no NOTCAPABLE"
CASES = (
    Case("cant_dotdot", differs=b"errno == ENOTCAPABLE", why=CAPABLE),
    Case("clock_getres"),
    Case("exitcode", status=120),
    Case("fd_prestat_get_refresh"),
    Case("freopen", stdout=b"hello from input2.txt\n"),
    Case("ftruncate"),
    Case("getentropy"),
    Case("getrusage"),
    Case("gettimeofday"),
    Case("main_args"),
    Case("notdir"),
    Case("poll"),
    Case("preopen_populates"),
    Case(
        "readdir",
        differs=b"cnt == 4",
        why="'.' and '..' are listed (POSIX readdir); Node 18 left them out",
    ),
    Case("read_file", stdout=HELLO + b"\n"),
    Case("read_file_twice", stdout=(HELLO + b"\n") * 2),
    Case("stat"),
    Case("sock"),
    Case("write_file"),
    Case("stdin", stdin=b"hello world", stdout=b"hello world"),
    Case("stdin", stdin=b"x" * 33, stdout=b"x" * 31),
    Case(
        "create_symlink",
        stdout=HELLO,
        sandbox="links",
        differs=b"strlen(target) + 1",
        why="the bytes placed are counted, and no NUL is (POSIX readlink); Node 18 counted one",
    ),
    Case("follow_symlink", stdout=HELLO, sandbox="links"),
    Case("link", sandbox="links"),
    Case("symlink_escape", sandbox="links", differs=b"errno == ENOTCAPABLE", why=CAPABLE),
    Case("symlink_loop", sandbox="links"),
)


def fetch(directory: Path) -> Path:
    """Node's ``test`` folder, from the newest source package that apt knows."""
    if not shutil.which("apt-get"):
        raise FetchError("the programs come from a Debian source package, and there is no apt-get")
    downloads = directory / "downloads"
    if not list(downloads.glob("nodejs_*.orig.tar.*")):
        _download(downloads)
    archive = max(downloads.glob("nodejs_*.orig.tar.*"))
    unpacked = directory / archive.name.split(".orig.")[0]
    if not unpacked.exists():
        print(f"unpacking {archive.name}", flush=True)
        with tarfile.open(archive) as tar:
            wanted = [m for m in tar if "/test/wasi/wasm/" in m.name or "/test/fixtures/wasi" in m.name]
            tar.extractall(directory / "partial", wanted, filter="data")
        (root,) = (directory / "partial").iterdir()
        root.rename(unpacked)
        (directory / "partial").rmdir()
    return unpacked / "test"


def _download(downloads: Path) -> None:
    lists, parts = downloads / "lists", downloads / "sources"
    for folder in (lists / "partial", parts):
        folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        for file in [source] if source.is_file() else sorted(source.glob("*")):
            if file.suffix == ".sources":
                text = file.read_text().replace("Types: deb\n", "Types: deb-src\n")
            elif file.suffix == ".list":
                lines = [line for line in file.read_text().splitlines() if line.startswith("deb ")]
                text = "".join(f"deb-src {line.removeprefix('deb ')}\n" for line in lines)
            else:
                continue
            (parts / file.name).write_text(text)
    settings = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(parts.resolve()),
        "Dir::State::Lists": str(lists.resolve()),
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    print("asking apt for the source package nodejs", flush=True)
    subprocess.run([*apt, "update"], check=True)
    # The archive alone is needed; that a mirror lacks another part of the package does no harm.
    done = subprocess.run([*apt, "source", "--download-only", "--tar-only", "nodejs"], cwd=downloads)
    if not list(downloads.glob("nodejs_*.orig.tar.*")):
        raise FetchError(f"apt-get source nodejs ended with {done.returncode} and fetched nothing")


def fixture(sandbox: Path, tests: Path) -> None:
    """Node's own directory of fixtures."""
    shutil.copytree(tests / "fixtures" / "wasi", sandbox)
    (sandbox / "subdir").mkdir(exist_ok=True)


def links(sandbox: Path, tests: Path) -> None:
    """Links that lead to a file, out of the directory, and in a circle."""
    (sandbox / "subdir").mkdir(parents=True)
    (sandbox / "input.txt").write_bytes(HELLO)
    (sandbox.parent / "outside.txt").write_text("this should be inaccessible")
    (sandbox / "subdir" / "input_link.txt").symlink_to("../input.txt")
    (sandbox / "subdir" / "outside.txt").symlink_to("../../outside.txt")
    (sandbox / "subdir" / "loop1").symlink_to("loop2")
    (sandbox / "subdir" / "loop2").symlink_to("loop1")


SANDBOXES: dict[str, Callable[[Path, Path], None]] = {"fixture": fixture, "links": links}


def run_case(case: Case, tests: Path, sharing: programs.Sharing) -> str:
    """``passed``, or what was otherwise."""
    runner = programs.Runner(tests / "wasi" / "wasm" / f"{case.name}.wasm")
    with tempfile.TemporaryDirectory() as place:
        sandbox, scratch = Path(place) / "sandbox", Path(place) / "tmp"
        SANDBOXES[case.sandbox](sandbox, tests)
        scratch.mkdir()
        done = runner.run(
            ["foo", "-bar", "--baz=value"],
            {"/sandbox": sandbox, "/tmp": scratch},
            sharing,
            {"NODE_PLATFORM": "linux"},
            case.stdin,
        )
    if case.differs:
        return "differs" if case.differs in done.stderr else f"expected to differ: {done}"
    right = (done.status, done.stdout, done.stderr) == (case.status, case.stdout, b"")
    return "passed" if right else str(done)


def check_node(directory: Path) -> int:
    """Print the table; return how many programs did something else than is expected."""
    tests = fetch(directory)
    wrong = 0
    for case in CASES:
        results = [run_case(case, tests, sharing) for sharing in programs.SHARINGS]
        print(f"  {case.name:24} {'  '.join(f'{result:8}' for result in results)} {case.why}".rstrip())
        wrong += sum(result not in ("passed", "differs") for result in results)
    return wrong


def check_ours(directory: Path) -> int:
    """The same for our own programs."""
    directory.mkdir(parents=True, exist_ok=True)
    runner = programs.Runner(programs.compile_checks(directory))
    wrong = 0
    for name in programs.groups(runner):
        results = []
        for sharing in programs.SHARINGS:
            with tempfile.TemporaryDirectory() as place:
                done = runner.run(["conformance", name], {"/": Path(place)}, sharing)
            results.append("passed" if done.status == 0 else done.stdout.decode())
        print(f"  {name:24} {'  '.join(f'{result:8}' for result in results)} ".rstrip())
        wrong += sum(result != "passed" for result in results)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/conformance"), help="for downloads")
    options = parser.parse_args()
    print(f"  {'program':24} {'  '.join(programs.SHARINGS)}")
    wrong = check_ours(options.directory)
    try:
        wrong += check_node(options.directory)
    except FetchError as error:
        print(error)
        return 2
    print(f"{wrong} programs are wrong" if wrong else "all as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
