"""The engine as a C library: the example is built and run, and its files are Python's, too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvwasi

GUEST = Path(__file__).parents[2] / "guest-db"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built with the machine's C compiler or with zig's."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    build = tmp_path_factory.mktemp("example")
    zig = f"{sys.executable} -m ziglang"
    tools = [] if shutil.which("cc") and shutil.which("ar") else [f"CC={zig} cc", f"AR={zig} ar"]
    command = ["make", "-C", str(GUEST), f"BUILD={build}", *tools, "example"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return build / "settings"


def run(program: Path, *arguments: object, code: int = 0) -> str:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_example_keeps_its_settings(settings: Path, tmp_path: Path) -> None:
    path = tmp_path / "device.kv"
    assert run(settings, path) == "starts = 1\n"
    assert run(settings, path, "volume", 7) == "starts = 2\nvolume = 7\n"
    assert run(settings, path, "name", "radio") == "starts = 3\nname = radio\nvolume = 7\n"
    assert "usage" in run(settings, code=2)


def test_python_and_c_share_the_file(settings: Path, tmp_path: Path) -> None:
    path = tmp_path / "device.kv"
    run(settings, path, "volume", 7)
    with kvwasi.open(path) as store:
        assert (dict(store), dict(store.table("settings"))) == ({b"starts": b"1"}, {b"volume": b"7"})
        assert store.check() == []
        store.table("settings")["volume"] = "8"
        store["large"] = bytes(200_000)
        store.series("samples").append(1.5, 1)
        assert "another process has the file open" in run(settings, path, code=1)
        del store["large"]
    assert run(settings, path) == "starts = 2\nvolume = 8\n"
    with kvwasi.open(path, "r") as store:
        assert list(store.series("samples")) == [(1, 1.5)] and store.check() == []


def test_errors_are_one_line(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(os.urandom(20_000))
    assert "no kvwasi database" in run(settings, tmp_path / "junk", code=1)
    assert "no such file" in run(settings, tmp_path / "none" / "device.kv", code=1)
