"""The installed command, run as a shell would run it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).with_name("kvwasi")
Result = subprocess.CompletedProcess[bytes]
Kv = Callable[..., Result]


@pytest.fixture(scope="session")
def command() -> str:
    assert COMMAND.exists(), "the command is not installed beside this Python"
    return str(COMMAND)


@pytest.fixture
def kv(command: str, tmp_path: Path) -> Kv:
    """Run ``kvwasi`` in a directory of the test's own. ``code`` is the exit code it must have."""

    def run(*arguments: str | bytes, code: int = 0, stdin: bytes = b"", **options: Any) -> Result:
        environment = {**os.environ, **options.pop("env", {})}
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        result = subprocess.run(
            [command, *arguments], input=stdin, cwd=tmp_path, env=environment, timeout=60, **options
        )
        errors = result.stderr or b""
        assert result.returncode == code, (arguments, result.returncode, errors)
        assert b"Traceback" not in errors
        if code not in (0, 130):
            assert errors.startswith(b"kvwasi: "), errors
            assert errors.count(b"\n") == 1, errors
        return result

    return run
