"""``run_module``: what a command gets from its host, and what becomes of its end."""

import io
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import wasmtime

from kvwasi.wasi import Preopen, run_module

Run = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture(scope="session")
def command(compile_guest: Callable[[str], Path]) -> Path:
    return compile_guest("command")


@pytest.fixture
def run(command: Path) -> Run:
    def run_command(*args: str, stdin: bytes = b"", **options: Any) -> tuple[int, bytes, bytes]:
        out, err = io.BytesIO(), io.BytesIO()
        options = {"stdin": io.BytesIO(stdin), "stdout": out, "stderr": err} | options
        status = run_module(command, args, **options)
        return status, out.getvalue(), err.getvalue()

    return run_command


def test_arguments_come_after_the_name(run: Run, command: Path) -> None:
    assert run("args", "a b", "", "é") == (0, f"{command}\nargs\na b\n\né\n".encode(), b"")
    assert run("args", argv0="other")[1] == b"other\nargs\n"


def test_environment_is_only_what_is_given(run: Run) -> None:
    assert run("env")[1] == b""
    assert run("env", env={"A": "1", "B": "x=y"})[1] == b"A=1\nB=x=y\n"


@pytest.mark.parametrize("status", [0, 1, 7, 125, 126, 134, 200, 255, 256, 511, -1])
def test_exit_status(run: Run, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    """As a parent process sees it, those that wasmtime itself refuses included."""
    assert run("exit", str(status)) == (status % 256, b"", b"")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("how", "status"), [("abort", 134), ("divide", 136), ("overflow", 139)])
def test_a_trap_is_reported_as_a_signal(
    run: Run, how: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(how)[0] == status
    assert "wasm trap" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 300_000])
def test_stdio_through_objects(run: Run, size: int) -> None:
    data = os.urandom(size)
    assert run("cat", stdin=data) == (0, data, b"")


def test_stdio_through_text_objects(command: Path) -> None:
    out = io.StringIO()
    assert run_module(command, ["cat"], stdin=io.StringIO("é€😀" * 999), stdout=out) == 0
    assert out.getvalue() == "é€😀" * 999


def test_stdio_through_descriptors(command: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"0123456789")
    with open(tmp_path / "in", "rb", buffering=0) as source, open(tmp_path / "out", "wb") as sink:
        source.seek(4)
        sink.write(b"before ")  # buffered: must come first
        assert run_module(command, ["cat"], stdin=source, stdout=sink) == 0
        assert source.read() == b""  # the position is shared with the guest
        sink.write(b" after")
    assert (tmp_path / "out").read_bytes() == b"before 456789 after"


def test_an_exception_of_a_file_object_comes_through(command: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        run_module(command, ["cat"], stdin=io.BufferedReader(Broken()), stdout=io.BytesIO())


def test_no_descriptor_at_all(command: Path) -> None:
    assert run_module(command, ["cat"], stdin=None, stdout=None, stderr=None) == 1


def test_terminals_are_recognised(command: Path, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        with open(tmp_path / "file", "w+b") as file:
            assert run_module(command, ["tty"], stdin=terminal, stdout=file, stderr=terminal) == 0
            assert (tmp_path / "file").read_bytes() == b"101"
    finally:
        os.close(controller)
        os.close(terminal)


@pytest.mark.parametrize("sharing", ["shared", "exclusive"])
@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_stdio_of_libc_copies_a_file(
    run: Run, tmp_path: Path, sharing: Literal["shared", "exclusive"], size: int
) -> None:
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    preopens = [Preopen(tmp_path, "/work", sharing=sharing)]
    assert run("copy", "/work/from", "/work/sub/../to", preopens=preopens)[0] == 1  # sub is not there
    (tmp_path / "sub").mkdir()
    assert run("copy", "/work/from", "/work/sub/../to", preopens=preopens) == (0, b"", b"")
    assert (tmp_path / "to").read_bytes() == data


@pytest.mark.parametrize(
    ("code", "status"), [("(call $proc_exit (i32.const 200))", 200), ("unreachable", 134)]
)
def test_an_end_before_the_start(tmp_path: Path, code: str, status: int) -> None:
    (tmp_path / "early.wat").write_text(
        '(module (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))'
        f' (memory (export "memory") 1) (func $early {code}) (start $early) (func (export "_start")))'
    )
    assert run_module(tmp_path / "early.wat") == status


def test_a_module_that_is_no_command(tmp_path: Path) -> None:
    (tmp_path / "library.wat").write_text('(module (memory (export "memory") 1))')
    with pytest.raises(wasmtime.WasmtimeError, match="no _start"):
        run_module(tmp_path / "library.wat")


def test_errors_of_the_embedder(command: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_module(tmp_path / "missing.wasm")
    with pytest.raises(FileNotFoundError):
        run_module(command, ["args"], preopens=[Preopen(tmp_path / "missing", "/")])
    with pytest.raises(NotADirectoryError):
        run_module(command, ["args"], preopens=[Preopen(command, "/")])
    with pytest.raises(ValueError, match="sharing"):
        Preopen(tmp_path, "/", sharing="private")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NUL"):
        run_module(command, ["a\0b"])
