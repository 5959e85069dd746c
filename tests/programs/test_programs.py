"""A C program does the same natively and on our host: its output, its files, its exit status."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("ledger.c")
KVWASI = Path(sys.executable).with_name("kvwasi")
COMPILER = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

Outcome = tuple[int, bytes, bytes, dict[str, object]]


def outcome(command: list[str], directory: Path) -> Outcome:
    """Run it in a new directory; what it printed and left, with times left out."""
    directory.mkdir()
    done = subprocess.run(command, cwd=directory, input=b"first\nno newline", capture_output=True)
    tree: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            tree[name] = path.readlink()
        else:
            tree[name] = path.read_bytes() if path.is_file() else "directory"
    return done.returncode, done.stdout, done.stderr, tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of ``ledger`` and ``ledger.wasm``."""
    assert COMPILER is not None
    directory = tmp_path_factory.mktemp("built")
    zig = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi"]
    for compiler, name in (([COMPILER, "-D_GNU_SOURCE"], "ledger"), (zig, "ledger.wasm")):
        subprocess.run([*compiler, "-O1", "-Wall", "-Wextra", SOURCE, "-o", directory / name], check=True)
    return directory


@pytest.fixture(scope="module")
def natively(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome([str(built / "ledger"), "an argument"], tmp_path_factory.mktemp("native") / "place")


@pytest.mark.parametrize("sharing", ["shared", "exclusive"])
def test_the_same_as_natively(built: Path, natively: Outcome, sharing: str, tmp_path: Path) -> None:
    directory = ".::." if sharing == "shared" else ".::.:exclusive"
    command = [str(KVWASI), "run", "--dir", directory, str(built / "ledger.wasm"), "an argument"]
    status, output, errors, tree = outcome(command, tmp_path / "place")
    assert output.decode().splitlines() == natively[1].decode().splitlines()
    assert errors.decode().splitlines() == natively[2].decode().splitlines()
    assert tree == natively[3]
    assert status == natively[0] == 7
