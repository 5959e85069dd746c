"""The layers: calls go one way, one room touches the operating system, nothing grows without bound."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 550
C_LINE_MAX = 140  # Python's is ruff's

# From the bottom to the top; a room may use those below it, and `errors`, which uses nothing.
LAYERS = [
    "kvwasi.wasi",
    "kvwasi.engine",
    "kvwasi",
    "kvwasi.bench",
    "kvwasi.crashcheck",
    "kvwasi.commands",
    "kvwasi.cli",
]
LEAVES = {"kvwasi.errors"}
# What touches files, processes and devices.
SYSTEM_MODULES = {"fcntl", "mmap", "socket", "subprocess", "shutil", "tempfile", "glob", "select"}
SYSTEM_CALLS = re.compile(
    r"\bos\.(open|close|read|write|pread|pwrite|stat|lstat|fstat|unlink|remove|rename|replace|mkdir|makedirs|rmdir|"
    r"listdir|scandir|link|symlink|readlink|ftruncate|truncate|fsync|fdatasync|chmod|chown|dup|dup2)\("
)


def room_of(module: str) -> str:
    rooms = [layer for layer in LAYERS if module == layer or module.startswith(layer + ".")]
    return max(rooms, key=len)


def python_files() -> Iterator[tuple[str, Path]]:
    yield "kvwasi.cli", ROOT / "cli.py"
    for path in sorted((ROOT / "kvwasi").rglob("*.py*")):
        if path.suffix in (".py", ".pyx") and "__pycache__" not in path.parts:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    if path.suffix == ".pyx":
        sources = [path, *path.parent.glob("*.pxi")]
        for source in sources:
            found = re.findall(r"^\s*(?:from|import|cimport)\s+(kvwasi[\w.]*)", source.read_text(), re.M)
            names.update(found)
        return names
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name == "kvwasi" or name.startswith("kvwasi.")}


FILES = list(python_files())


@pytest.mark.parametrize(("module", "path"), FILES, ids=[name for name, _ in FILES])
def test_imports_point_down(module: str, path: Path) -> None:
    here = LAYERS.index(room_of(module))
    for name in imported(path):
        if any(name == leaf or name.startswith(leaf + ".") for leaf in LEAVES) or name == "kvwasi.errors":
            continue
        if here < LAYERS.index("kvwasi") and name in ("kvwasi.errors", "kvwasi"):
            assert name != "kvwasi", f"{module} imports the package above it"
            continue
        assert LAYERS.index(room_of(name)) <= here, f"{module} imports {name}, which is above it"


@pytest.mark.parametrize("name", ["kvwasi/errors.py"])
def test_leaves_import_nothing(name: str) -> None:
    assert imported(ROOT / name) == set()


@pytest.mark.parametrize(
    "name",
    [
        f"kvwasi/{name}"
        for name in (
            "store.py",
            "savepoint.py",
            "snapshot.py",
            "table.py",
            "transaction.py",
            "ranges.py",
            "engine",
        )
    ],
)
def test_only_one_room_touches_the_operating_system(name: str) -> None:
    place = ROOT / name
    for path in [place] if place.is_file() else sorted({*place.glob("*.py*"), *place.glob("*.pxi")}):
        text = path.read_text()
        assert not SYSTEM_CALLS.search(text), path
        for module in SYSTEM_MODULES:
            assert not re.search(rf"^\s*(import|from) {module}\b", text, re.M), f"{path}: {module}"


def test_the_native_engine_layer_makes_no_file_calls() -> None:
    for path in sorted((ROOT / "kvwasi/engine/native").glob("*.[ch]")):
        text = path.read_text()
        assert not re.search(r"#include <(fcntl|unistd|dirent|sys/stat|sys/file|sys/uio)\.h>", text), path


def test_includes_point_down() -> None:
    own = {
        "guest-db": {path.name for path in (ROOT / "guest-db").rglob("*.h")},
        "wasi": {path.name for path in (ROOT / "kvwasi/wasi/native").glob("*.h")},
        "engine": {path.name for path in (ROOT / "kvwasi/engine/native").glob("*.h")},
    }
    for room, place, above in (
        ("guest-db", ROOT / "guest-db" / "src", own["wasi"] | own["engine"]),
        ("wasi", ROOT / "kvwasi/wasi/native", own["engine"] | own["guest-db"]),
        ("engine", ROOT / "kvwasi/engine/native", {"host.h", "host_internal.h", "file.h", "fd_table.h"}),
    ):
        for path in sorted(place.glob("*.[ch]")):
            included = set(re.findall(r'^#include "([^"]+)"', path.read_text(), re.M))
            wrong = (included & above) - own[room]
            assert not wrong, f"{path} includes {wrong}"


def test_files_have_a_size_one_can_read() -> None:
    long = {}
    for pattern in (
        "*.py",
        "kvwasi/**/*.py",
        "kvwasi/**/*.p[xy]*",
        "kvwasi/**/*.[ch]",
        "guest-db/src/*.[ch]",
    ):
        for path in ROOT.glob(pattern):
            lines = path.read_bytes().count(b"\n")
            if lines > LINES_MAX and path.suffix != ".pyc":
                long[str(path.relative_to(ROOT))] = lines
    assert not long, f"longer than {LINES_MAX} lines: find the wall in them: {long}"


def test_lines_of_c_have_a_length_one_can_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in ("kvwasi", "guest-db", "bench", "tests")
        for path in (ROOT / room).rglob("*.[chp]*")
        if path.suffix in (".c", ".h", ".pyx", ".pxd", ".pxi")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > C_LINE_MAX
    ]
    assert not long, f"longer than {C_LINE_MAX} characters: {long}"


def test_tests_do_not_sleep() -> None:
    for path in [*(ROOT / "tests/store").glob("*.py"), *(ROOT / "tests/engine").glob("*.py")]:
        assert "sleep(" not in path.read_text(), path
