"""kvwasi run: the program's streams, arguments, directories and exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* spin | args | env NAME | copy FROM TO | cat | exit N | abort */
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "env"))
        return puts(getenv(argv[2]) ? getenv(argv[2]) : "(none)") < 0;
    if (argc > 1 && !strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    if (argc > 1 && !strcmp(argv[1], "spin"))
        for (volatile int i = puts("spinning") + fflush(stdout);; i++) {
        }
    if (argc > 1 && !strcmp(argv[1], "abort"))
        abort();
    if (argc > 1 && (!strcmp(argv[1], "copy") || !strcmp(argv[1], "cat"))) {
        FILE *in = argc > 2 ? fopen(argv[2], "rb") : stdin, *out = argc > 3 ? fopen(argv[3], "wb") : stdout;
        if (!in || !out)
            return perror("copy"), 9;
        for (int c; (c = getc(in)) != EOF;)
            putc(c, out);
        return fclose(out) ? 8 : 0;
    }
    for (int i = 0; i < argc; i++)
        puts(argv[i]);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("program")
    (place / "tool.c").write_text(PROGRAM)
    compiler = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-O1"]
    subprocess.run([*compiler, "tool.c", "-o", "tool.wasm"], cwd=place, check=True, timeout=100)
    return str(place / "tool.wasm")


def test_arguments(kv, program: str) -> None:
    assert kv("run", program, "a", "b c").stdout.splitlines() == [program.encode(), b"a", b"b c"]
    assert kv("run", "--argv0", "tool", program, "--", "--dir", "-x").stdout == b"tool\n--dir\n-x\n"


def test_environment(kv, program: str) -> None:
    assert kv("run", program, "env", "HOME").stdout == b"(none)\n"
    assert kv("run", program, "--env", "A=b=c", "env", "A").stdout == b"b=c\n"
    assert (
        kv("run", program, "--env", "OURS", "env", "OURS", env={"OURS": "inherited"}).stdout == b"inherited\n"
    )


def test_streams_are_bytes(kv, program: str) -> None:
    assert kv("run", program, "cat", stdin=bytes(range(256))).stdout == bytes(range(256))


@pytest.mark.parametrize("sharing", ["", ":exclusive"])
def test_directories(kv, program: str, sharing: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_bytes(b"content")
    kv("run", program, "--dir", f"data::/d{sharing}", "copy", "/d/in", "/d/out")
    assert (tmp_path / "data" / "out").read_bytes() == b"content"
    kv("run", program, "--dir", "data", "copy", "data/in", "data/again")  # under the host's name
    assert (tmp_path / "data" / "again").read_bytes() == b"content"


def run(command: str, directory: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([command, "run", *arguments], cwd=directory, capture_output=True, timeout=60)


def test_a_directory_may_be_read_only_or_absent(command: str, program: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"content")
    for options in (
        ["--dir", ".::/d:ro"],
        ["--dir", ".::/d:ro:exclusive"],
        ["--dir", ".::/d:exclusive:ro"],
        [],
    ):
        result = run(command, tmp_path, program, *options, "copy", "/d/in", "/d/out")
        assert result.returncode == 9, options
        assert not (tmp_path / "out").exists()


def test_the_exit_code_is_the_programs(command: str, program: str, tmp_path: Path) -> None:
    assert run(command, tmp_path, program, "exit", "42").returncode == 42
    trapped = run(command, tmp_path, program, "abort")
    assert trapped.returncode == 134
    assert b"unreachable" in trapped.stderr
    assert b"Traceback" not in trapped.stderr


def test_interrupted(command: str, program: str, tmp_path: Path) -> None:
    arguments = [command, "run", program, "spin"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"spinning\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, b"", b"")  # a shell reports 130


def test_what_cannot_be_run(kv, program: str, tmp_path: Path) -> None:
    (tmp_path / "text.wasm").write_bytes(b"no module")
    (tmp_path / "cut.wasm").write_bytes(Path(program).read_bytes()[:1000])
    kv("run", "text.wasm", code=3)
    kv("run", "cut.wasm", code=3)
    kv("run", ".", code=3)
    kv("run", "absent.wasm", code=1)
    assert b"absent" in kv("run", "--dir", "absent::/d", program, code=1).stderr
    kv("run", "--dir", "::/d", program, code=2)
