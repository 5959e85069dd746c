"""The README is true: what it shows to type is run here, in order, and prints what it says.

``console`` blocks hold commands behind ``$ `` and their output, where ``...`` stands for anything;
``python`` blocks are programs; in ``sh`` blocks stand the commands for a fresh clone, whose targets the
Makefile must have.
"""

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TESTED_ELSEWHERE = {"pip install ."}  # tests/test_build.py

pytestmark = pytest.mark.skipif(not README.exists(), reason="not in a checkout")


@dataclass
class Block:
    """A fenced block: its language, its text, the line where it begins."""

    language: str
    text: str
    line: int


def blocks() -> list[Block]:
    text = README.read_text()
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def run(arguments: list[str], directory: Path) -> str:
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        arguments,
        cwd=directory,
        env={**os.environ, "PATH": scripts},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return result.stdout if result.returncode == 0 else f"{result.stdout}[exit code {result.returncode}]\n"


def same(expected: str, got: str) -> bool:
    got = got if got.endswith("\n") or not got else got + "\n"  # what get writes has no line end of its own
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)


def run_console(block: Block, directory: Path) -> None:
    for command, expected in re.findall(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
        got = run(["bash", "-c", command], directory)
        assert same(expected, got), f"README.md:{block.line}: {command}\nexpected:\n{expected}\ngot:\n{got}"


def test_what_the_readme_shows_is_so(tmp_path: Path) -> None:
    ran = 0
    for block in blocks():
        if block.language == "console":
            run_console(block, tmp_path)
        elif block.language == "python":
            got = run([sys.executable, "-W", "error", "-c", block.text], tmp_path)
            assert got == "", f"README.md:{block.line}: {got}"
        elif block.language == "c":
            (tmp_path / "hello.c").write_text(block.text)
        else:
            continue
        ran += 1
    assert ran > 3


def test_the_commands_for_a_fresh_clone_exist() -> None:
    lines = [line for block in blocks() if block.language == "sh" for line in block.text.splitlines()]
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for line in lines}
    for line in lines:
        command = line.split("#")[0].strip()
        if command.startswith("make "):
            assert run(["make", "-n", *command.split()[1:]], ROOT).find("[exit code") < 0, command
        else:
            assert command in TESTED_ELSEWHERE, f"no test runs: {command}"


def test_commands_and_exit_codes_are_all_there() -> None:
    import typer

    from kvwasi import cli, console

    text = README.read_text()
    for name in typer.main.get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert f"`kvwasi {name}" in text, name
    for name, code in vars(console).items():
        if name.startswith("EXIT_") and isinstance(code, int):
            assert f"| {code} |" in text, name


def test_measured_tables_are_those_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    import readme

    text = README.read_text()
    assert text.count("<!-- table: ") >= 2
    assert readme.filled(text) == text, "run `make readme`"
    assert readme.filled(text.replace("| ", "| 1", 1)) == text
