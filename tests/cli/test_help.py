"""The help is whole, the completion works, and a cold start imports no more than it must."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kvwasi import cli, console

COMMANDS = [
    "put",
    "get",
    "delete",
    "incr",
    "list",
    "load",
    "dump",
    "tables",
    "drop-table",
    "stats",
    "check",
    "compact",
    "backup",
    "restore",
    "repair",
    "watch",
    "run",
    "bench",
    "crashtest",
    "torture",
    "ts",
]


def test_the_commands_are_these() -> None:
    assert list(typer.main.get_command(cli.app).commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(kv, name: str) -> None:
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert len(command.help) > 20
    shown = b" ".join(kv(name, "--help").stdout.split()).decode()
    assert command.help.split("\n")[0] in shown
    assert " ".join(console.EXIT_CODES_HELP.split()) in shown
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        assert parameter.help in shown
    assert kv(name, "-h").stdout.split() == kv(name, "--help").stdout.split()


def test_exit_codes_are_named_where_they_are_said() -> None:
    codes = (console.EXIT_NO, console.EXIT_USAGE, console.EXIT_DATA, console.EXIT_LOCKED, console.EXIT_BUG)
    for code in (*codes, console.EXIT_INTERRUPTED):
        assert f" {code} " in console.EXIT_CODES_HELP


def test_version(kv) -> None:
    from importlib.metadata import version

    assert kv("--version").stdout == f"kvwasi {version('kvwasi')}\n".encode()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("kvwasi ge", ["get"]),
        ("kvwasi get a.kv sh", ["sheep", "shoe"]),
        ("kvwasi get --key-format hex a.kv 736865", ["7368656570"]),
        ("kvwasi delete a.kv x", []),
        ("kvwasi get a.kv --table sea sh", ["shark"]),
        ("kvwasi drop-table a.kv sk", ["sky"]),
        ("kvwasi get absent.kv s", []),
        ("kvwasi dump a.kv --format m", ["mdb", "mdb-print"]),
    ],
)
def test_completion(kv, words: str, expected: list[str]) -> None:
    kv(
        "load",
        "a.kv",
        stdin=b"".join(b'{"key": "%b", "value": ""}\n' % key for key in (b"sheep", b"shoe", b"boat")),
    )
    kv("put", "a.kv", "--table", "sea", "shark", "")
    kv("put", "a.kv", "--table", "sky", "swift", "")
    position = str(len(words.split()) - 1)
    environment = {"_KVWASI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
    result = kv(env=environment)
    assert result.stdout.decode().split() == expected
    assert result.stderr == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(kv, shell: str) -> None:
    assert b"_KVWASI_COMPLETE" in kv("--show-completion", shell).stdout


def test_a_cold_get_imports_little(kv, tmp_path: Path) -> None:
    kv("put", "a.kv", "k", "v")
    code = """
import sys
from kvwasi.cli import main
sys.argv = ["kvwasi", "get", "a.kv", "k"]
try:
    main()
finally:
    heavy = {"asyncio", "http", "multiprocessing", "pydantic", "rich", "ssl", "wasmtime", "ziglang"}
    print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=True, text=True
    )
    assert result.stdout == "v"
    assert result.stderr.split() == []
