"""Running a command module from a file, as ``kvwasi run`` does."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

import wasmtime

from kvwasi.wasi.host import Preopen, Stdio, StrPath, Wasi, standard_streams_flushed

__all__ = ["run_module"]

# A larger module is compiled by several threads, which stay: then each system call costs more.
_PARALLEL_BYTES = 4 << 20  # much of a module may be debug information
_SIGNAL_BASE = 128
# As a shell reports a native program that dies of the same cause.
_SIGNALS = {
    wasmtime.TrapCode.UNREACHABLE: 6,  # SIGABRT: abort() of wasi-libc is `unreachable`
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: 8,  # SIGFPE
    wasmtime.TrapCode.INTEGER_OVERFLOW: 8,
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: 8,
    wasmtime.TrapCode.STACK_OVERFLOW: 11,  # SIGSEGV
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: 11,
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: 11,
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: 11,
}
_SIGABRT = 6
_STATUS_MASK = 0xFF  # what wait(2) leaves of an exit status


class _Exit(Exception):
    """The guest called ``proc_exit``. wasmtime's own refuses every status from 126 on."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status & _STATUS_MASK


def _proc_exit(status: int) -> None:
    raise _Exit(status)


def run_module(
    path: StrPath,
    args: Sequence[str] = (),
    env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    preopens: Iterable[Preopen] = (),
    argv0: str | None = None,
    *,
    stdin: Stdio = 0,
    stdout: Stdio = 1,
    stderr: Stdio = 2,
) -> int:
    """Run the command module (or WebAssembly text) at ``path`` and return its exit status, 0 to 255.

    Arguments:
        path: a module with a ``_start``, that imports nothing but ``wasi_snapshot_preview1``.
        args: what follows the name in the guest's ``argv``.
        env: the guest's whole environment.
        preopens: the directories it can reach.
        argv0: its name; by default the file's.
        stdin, stdout, stderr: as for :class:`kvwasi.wasi.Wasi`.

    A guest that traps has the message on this process's stderr, and its status is 128 + the number of the
    signal that a native program would have died of: 134 for ``unreachable``, 136 for arithmetic, 139 for
    memory and stack.

    Raises ``OSError`` for a file or directory that can't be opened, ``wasmtime.WasmtimeError`` for a module
    that is not valid, and whatever a file object given as stdio raised.
    """
    name = os.fspath(path) if argv0 is None else argv0
    with open(path, "rb") as file:
        code = file.read()
    if not code.startswith(b"\0asm"):
        try:
            code = bytes(wasmtime.wat2wasm(code))
        except wasmtime.WasmtimeError as error:
            why = str(error).partition("\n")[0]
            raise wasmtime.WasmtimeError(f"no WebAssembly module, nor the text of one: {why}") from None
    config = wasmtime.Config()
    config.parallel_compilation = len(code) > _PARALLEL_BYTES
    engine = wasmtime.Engine(config)
    module = wasmtime.Module(engine, code)
    linker = wasmtime.Linker(engine)
    store = wasmtime.Store(engine)
    standard_streams_flushed()
    with Wasi([name, *args], env, stdin, stdout, stderr, preopens) as wasi:
        wasi.add_to_linker(linker)
        exit_type = wasmtime.FuncType([wasmtime.ValType.i32()], [])
        linker.define_func("wasi_snapshot_preview1", "proc_exit", exit_type, _proc_exit)
        wasi.add_to_store(store)
        try:
            status = _call_start(wasi, linker, store, module)
        finally:
            pending = wasi.pending_exception()
        if pending is not None:
            raise pending
    return status


def _call_start(wasi: Wasi, linker: wasmtime.Linker, store: wasmtime.Store, module: wasmtime.Module) -> int:
    try:
        instance = linker.instantiate(store, module)  # may run code of the guest
        exports = instance.exports(store)
        if isinstance(exports.get("memory"), wasmtime.Memory):
            wasi.attach(store, instance)
        start = exports.get("_start")
        if isinstance(start, wasmtime.Func):
            return _call(start, store)
    except _Exit as exit_call:
        return exit_call.status
    except wasmtime.Trap as trap:
        print(trap, file=sys.stderr)
        code = trap.trap_code
        return _SIGNAL_BASE + (_SIGNALS.get(code, _SIGABRT) if code is not None else _SIGABRT)
    raise wasmtime.WasmtimeError("the module has no _start: it is no command")


def _call(start: wasmtime.Func, store: wasmtime.Store) -> int:
    try:
        start(store)
    except wasmtime.WasmtimeError as error:  # of a call that is wasmtime's own
        print(error, file=sys.stderr)
        return 1
    return 0
