"""Conformance programs on our host: compiled, run in this process, one group of checks at a time."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import wasmtime

from kvwasi.wasi import Preopen, Wasi

HERE = Path(__file__).parent
Sharing = Literal["shared", "exclusive"]
SHARINGS: tuple[Sharing, ...] = ("shared", "exclusive")


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit status (134 for a trap, as after ``abort``) and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


def compile_checks(directory: Path) -> Path:
    """Our own programs, as one module; ``_start`` without arguments prints the names of the groups."""
    module = directory / "conformance.wasm"
    zig = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "--target=wasm32-wasi",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    subprocess.run([*zig, *sorted(HERE.glob("*.c")), "-o", module], check=True)
    return module


class Runner:
    """Runs one module, compiled once."""

    def __init__(self, module: Path) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module.from_file(self._engine, os.fspath(module))

    def run(
        self,
        args: Sequence[str],
        directories: Mapping[str, Path],
        sharing: Sharing,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> Outcome:
        """Run it with ``args`` as the whole argv; ``directories`` are guest path -> host path."""
        linker, store = wasmtime.Linker(self._engine), wasmtime.Store(self._engine)
        preopens = [Preopen(host, guest, sharing=sharing) for guest, host in directories.items()]
        read_end, write_end = os.pipe()
        os.write(write_end, stdin)
        os.close(write_end)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                with Wasi(args, env or {}, read_end, out.fileno(), err.fileno(), preopens) as wasi:
                    wasi.add_to_linker(linker)
                    wasi.add_to_store(store)
                    instance = linker.instantiate(store, self._module)
                    wasi.attach(store, instance)
                    status = _call(instance.exports(store)["_start"], store)
            finally:
                os.close(read_end)
            out.seek(0)
            err.seek(0)
            return Outcome(status, out.read(), err.read())


def _call(start: object, store: wasmtime.Store) -> int:
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as ended:
        return ended.code
    except wasmtime.Trap:
        return 134
    return 0


def groups(runner: Runner) -> list[str]:
    """The names of the groups of our own checks."""
    return runner.run(["conformance"], {}, "shared").stdout.decode().split()
