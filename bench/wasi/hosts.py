"""One C program on four hosts: natively, through our host in both modes, and wasmtime-py's own WASI."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime

from kvwasi.wasi import Preopen, Wasi

PROGRAMS = Path(__file__).parent / "programs"
HOSTS = ("native", "shared", "exclusive", "wasmtime-py")


def in_turns(hosts: Sequence[str], turns: int) -> Iterator[tuple[int, str]]:
    """Each host in each turn; the other way round in every other one, so that none keeps its place."""
    for turn in range(turns):
        for host in hosts if turn % 2 == 0 else reversed(hosts):
            yield turn, host


@dataclass(frozen=True)
class Run:
    """How long the program ran, without compilation, and what it printed."""

    seconds: float
    output: bytes


WARNINGS = ("-Wall", "-Wextra", "-Werror")


class Program:
    """A program of ``programs/``, compiled for the machine and for WASI.

    Arguments:
        name: what the program is called.
        directory: where the two executables go.
        sources: other files than ``programs/NAME.c``.
        flags, native_flags, wasi_flags: the compiler's, for both and for each.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        sources: Sequence[Path] = (),
        flags: Sequence[str] = WARNINGS,
        native_flags: Sequence[str] = (),
        wasi_flags: Sequence[str] = (),
    ) -> None:
        files = [str(source) for source in sources or [PROGRAMS / f"{name}.c"]]
        self._native = directory.resolve() / name  # it is run elsewhere
        self._module = directory.resolve() / f"{name}.wasm"
        zig = [sys.executable, "-m", "ziglang", "cc"]
        native = next(([cc] for cc in ("cc", "gcc", "clang") if shutil.which(cc)), zig)
        common = ["-O2", *flags, *files]
        for command in (
            [*native, "-D_GNU_SOURCE", *common, *native_flags, "-o", str(self._native)],
            [*zig, "--target=wasm32-wasi", *common, *wasi_flags, "-o", str(self._module)],
        ):
            subprocess.run(command, check=True)

    def run(self, host: str, args: Sequence[str], directory: Path) -> Run:
        """Run it in ``directory``, in a process of its own. Raises RuntimeError when it fails."""
        if host == "native":
            start = time.perf_counter()
            done = subprocess.run([str(self._native), *args], cwd=directory, stdout=subprocess.PIPE)
            seconds, status = time.perf_counter() - start, done.returncode
        else:
            reader, writer = os.pipe()
            command = [sys.executable, __file__, str(writer), host, str(self._module)]
            done = subprocess.run(
                [*command, str(directory), *args], stdout=subprocess.PIPE, pass_fds=[writer]
            )
            os.close(writer)
            with open(reader) as result:
                words = (result.read() or "0 1").split()
            seconds, status = float(words[0]), int(words[1])
        if status or done.returncode:
            raise RuntimeError(f"{self._native.name} {' '.join(args)} on {host} ended with {status}")
        return Run(seconds, done.stdout)


def run_wasm(host: str, module_path: str, directory: str, args: Sequence[str]) -> tuple[float, int]:
    """Run a module in this process: the time from ``_start`` to its end, and its exit status."""
    # As run_module does for a small module: in a process of several threads each system call, whoever makes
    # it, costs some 40 ns more than in the native program, which has one.
    config = wasmtime.Config()
    config.parallel_compilation = False
    engine = wasmtime.Engine(config)
    module = wasmtime.Module.from_file(engine, module_path)
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    argv = [Path(module_path).stem, *args]
    start: Any
    if host == "wasmtime-py":
        wasi_config = wasmtime.WasiConfig()
        wasi_config.argv = argv
        wasi_config.preopen_dir(directory, ".")
        wasi_config.inherit_stdout()
        wasi_config.inherit_stderr()
        linker.define_wasi()
        store.set_wasi(wasi_config)
        start = linker.instantiate(store, module).exports(store)["_start"]
        return _timed(lambda: start(store))
    preopen = Preopen(directory, ".", sharing="exclusive" if host == "exclusive" else "shared")
    with Wasi(argv, preopens=[preopen]) as wasi:
        wasi.add_to_linker(linker)
        wasi.add_to_store(store)
        instance = linker.instantiate(store, module)
        wasi.attach(store, instance)
        start = instance.exports(store)["_start"]
        return _timed(lambda: start(store))


def _timed(call: Callable[[], object]) -> tuple[float, int]:
    status = 0
    start = time.perf_counter()
    try:
        call()
    except wasmtime.ExitTrap as ended:
        status = ended.code
    return time.perf_counter() - start, status


if __name__ == "__main__":
    result_fd, of_host, of_module, of_directory, *of_args = sys.argv[1:]
    os.write(int(result_fd), "{} {}".format(*run_wasm(of_host, of_module, of_directory, of_args)).encode())
