"""The cache of compiled modules: used if it is the user's own and whole, ignored otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvwasi.wasi import codecache

_OPEN = """
import sys, kvwasi
from kvwasi.engine import _engine
compiled = []
whole = _engine.module_compile
_engine.module_compile = lambda wasm: compiled.append(1) or whole(wasm)
with kvwasi.open(sys.argv[1]) as store:
    store["k"] = "v"
    assert store["k"] == b"v"
print("compiled" if compiled else "cached")
"""


def open_one(cache: Path, tmp_path: Path) -> str:
    command = [sys.executable, "-c", _OPEN, str(tmp_path / "my.kv")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with its one entry."""
    directory = tmp_path / "cache"
    assert open_one(directory, tmp_path) == "compiled"
    return directory


def entry(cache: Path) -> Path:
    (found,) = (cache / "kvwasi").iterdir()
    return found


def test_the_second_opening_does_not_compile(cache: Path, tmp_path: Path) -> None:
    assert open_one(cache, tmp_path) == "cached"
    assert (cache / "kvwasi").stat().st_mode & 0o777 == 0o700
    assert entry(cache).stat().st_mode & 0o077 == 0
    assert f"wasmtime-{codecache.wasmtime_version()}" in entry(cache).name
    assert codecache.wasmtime_version()[0].isdigit()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "grown", "foreign"])
def test_a_damaged_entry_is_replaced(cache: Path, tmp_path: Path, damage: str) -> None:
    path = entry(cache)
    good = path.read_bytes()
    bad = {
        "empty": b"",
        "cut": good[: len(good) // 2],
        "flipped": good[:-100] + bytes([good[-100] ^ 1]) + good[-99:],
        "grown": good + b"\0",
        "foreign": b"\x7fELF" * 5000,
    }[damage]
    path.write_bytes(bad)
    assert open_one(cache, tmp_path) == "compiled"
    assert path.read_bytes() == good
    assert open_one(cache, tmp_path) == "cached"


def test_what_others_may_write_is_not_run(cache: Path, tmp_path: Path) -> None:
    entry(cache).chmod(0o622)
    assert open_one(cache, tmp_path) == "compiled"
    entry(cache).chmod(0o600)
    (cache / "kvwasi").chmod(0o777)
    assert open_one(cache, tmp_path) == "compiled"
    (cache / "kvwasi").chmod(0o700)
    assert open_one(cache, tmp_path) == "cached"


def test_a_symbolic_link_is_not_followed(cache: Path, tmp_path: Path) -> None:
    path = entry(cache)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert open_one(cache, tmp_path) == "compiled"
    assert not path.is_symlink()


def test_a_linked_directory_is_not_used(cache: Path, tmp_path: Path) -> None:
    (cache / "kvwasi").rename(tmp_path / "elsewhere")
    (cache / "kvwasi").symlink_to(tmp_path / "elsewhere")
    assert open_one(cache, tmp_path) == "compiled"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_is_another_users_is_not_run(cache: Path, tmp_path: Path) -> None:
    os.chown(entry(cache), 12345, -1)
    assert open_one(cache, tmp_path) == "compiled"
    os.chown(cache / "kvwasi", 12345, -1)
    assert open_one(cache, tmp_path) == "compiled"


def test_no_cache_at_all(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert open_one(blocked, tmp_path) == "compiled"
    assert open_one(blocked, tmp_path) == "compiled"


def test_a_relative_cache_home_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # as the XDG specification wants
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert codecache.directory() == str(tmp_path / ".cache" / "kvwasi")
