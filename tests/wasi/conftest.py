"""Guests for the tests of the WASI host: C programs compiled by zig, once a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
            compiler = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi"]
            subprocess.run(
                [*compiler, "-O1", "-Wall", "-Werror", str(PROGRAMS / f"{name}.c"), "-o", str(module)],
                check=True,
            )
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
    # Not at the top: wasmtime's signal handlers must come after those of pytest's faulthandler.
    from wasi_guest import Guest

    instance = Guest(mode, [(root, "/", True)])
    yield instance
    instance.close()
