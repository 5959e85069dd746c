"""Guests for the tests of the WASI host: C programs compiled by zig, once a run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
