"""Guests for the tests of the WASI host: C programs compiled by zig, once a run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wasi_guest import Guest, Mode

PROGRAMS = Path(__file__).parent / "programs"

CompileGuest = Callable[[str], Path]


@pytest.fixture(scope="session")
def compile_guest(tmp_path_factory: pytest.TempPathFactory) -> CompileGuest:
    """Compile ``programs/NAME.c`` to a WASI command, and return the module's path."""
    directory = tmp_path_factory.mktemp("guests")

    def compile_one(name: str) -> Path:
        module = directory / f"{name}.wasm"
        if not module.exists():
            command = [
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                "--target=wasm32-wasi",
                "-O1",
                "-Wall",
                "-Werror",
            ]
            subprocess.run([*command, str(PROGRAMS / f"{name}.c"), "-o", str(module)], check=True)
        return module

    return compile_one


@pytest.fixture(params=["shared", "exclusive"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Both sharing modes."""
    selected: Mode = request.param
    return selected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory that is the guest's descriptor 3."""
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def guest(mode: Mode, root: Path) -> Iterator[Guest]:
    """A guest with ``root`` preopened."""
    instance = Guest(mode, [(root, "/", True)])
    yield instance
    instance.close()
