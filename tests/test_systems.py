"""Systems that the tests do not run on: the C compiles for them, and what replaces Linux's calls works."""

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SOURCES = sorted(
    path
    for pattern in ("kvwasi/*/native/*.c", "guest-db/src/*.c", "guest-db/native/*.c")
    for path in ROOT.glob(pattern)
)
INCLUDED = ("guest-db/include", "guest-db/src", "kvwasi/wasi/native", "kvwasi/engine/native")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")

# What has to do with files, links, listings, polling and sockets.
PORTABLE_TESTS = ("dir", "fd_io", "fd_stat", "path", "path_open", "poll_sock", "sandbox", "sharing")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", ["aarch64-macos", "aarch64-linux-gnu"])
def test_the_c_compiles_for(target: str, tmp_path: Path) -> None:
    includes = [f"-I{ROOT / name}" for name in INCLUDED] + [f"-I{sysconfig.get_path('include')}"]

    def compile_one(numbered: tuple[int, Path]) -> str:
        number, source = numbered
        flags = ("-target", target, "-std=gnu11", "-D_GNU_SOURCE", *WARNINGS, *includes)
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            *flags,
            "-c",
            str(source),
            "-o",
            str(tmp_path / f"{number}.o"),
        ]
        return subprocess.run(command, capture_output=True, text=True).stderr

    assert len(SOURCES) > 60
    with ThreadPoolExecutor(2) as pool:
        told = [text for text in pool.map(compile_one, enumerate(SOURCES)) if text]
    assert not told, "\n".join(told)
    assert len(list(tmp_path.glob("*.o"))) == len(SOURCES)


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="the system has none of Linux's calls anyway")
def test_the_host_needs_no_more_than_posix(tmp_path: Path) -> None:
    """Its own tests, of a package that was built without what Linux has beyond POSIX."""
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "-qq", "--no-build-isolation", "--no-deps", "--target", str(site)]
    install += ["--config-settings", "setup-args=-Dportable=true", str(ROOT)]
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(site)}
    subprocess.run([sys.executable, *install], env=environment, check=True, timeout=300)
    program = (
        "import pytest, kvwasi.wasi._host as h; assert not h.LINUX_CALLS; raise SystemExit(pytest.main())"
    )
    tests = [str(ROOT / f"tests/wasi/test_{name}.py") for name in PORTABLE_TESTS]
    done = subprocess.run(
        [sys.executable, "-c", program, "-q", "-p", "no:cacheprovider", *tests],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
