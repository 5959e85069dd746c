"""``Wasi``: the file calls of preview1 for a module that wasmtime-py runs.

Everything that concerns files is the C data plane's, and so are the clocks, that what it waits for is on the
guest's time scale; arguments, environment, randomness and ``proc_exit`` stay wasmtime's own.
"""

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Literal, Self

import wasmtime

from kvwasi.wasi import _host
from kvwasi.wasi.trace import Watcher, hook_of

__all__ = ["Preopen", "Wasi"]

_host.self_test()

StrPath = str | os.PathLike[str]
Stdio = int | IO[Any] | None


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory of the host that the guest finds opened.

    Arguments:
        host: the directory.
        guest: its name for the guest.
        write: False makes everything below it read-only, by every route.
        sharing: ``"shared"`` when other processes may write, truncate or replace the files: every call goes
            to the operating system. ``"exclusive"`` when only this host changes them: reads and small writes
            are copies from and to a mapping of the file. If somebody changes them all the same, nothing
            crashes, but where a file was cut short the last page may still be written to in vain, and its end
            is noticed late. A mapping is held under a lock (``F_OFD_SETLK`` on the last byte that a file can
            have): a file that another exclusive host writes, or that a program has locked as a whole, is
            used as in shared mode.
    """

    host: StrPath
    guest: str
    write: bool = True
    sharing: Literal["shared", "exclusive"] = "shared"

    def __post_init__(self) -> None:
        if self.sharing not in ("shared", "exclusive"):
            raise ValueError(f'sharing is "shared" or "exclusive", not {self.sharing!r}')
        if not self.guest:
            raise ValueError("a preopened directory needs a name for the guest")


class Wasi:
    """The WASI of one instance: in the place of ``Linker.define_wasi()`` and ``Store.set_wasi()``.

    Arguments:
        args: ``argv`` of the guest, its name first.
        env: the guest's environment.
        stdin, stdout, stderr: a descriptor, a file object (one with a ``fileno`` is used through that, any
            other through its ``read`` or ``write``), or None for none. By default this process's own.
        preopens: the directories the guest can reach. See :class:`Preopen`.

    Raises ``OSError`` for a directory or descriptor that can't be opened.

    >>> import io, wasmtime
    >>> engine = wasmtime.Engine()
    >>> module = wasmtime.Module(engine, '''(module
    ...   (import "wasi_snapshot_preview1" "fd_write"
    ...     (func $fd_write (param i32 i32 i32 i32) (result i32)))
    ...   (memory (export "memory") 1)
    ...   (data (i32.const 8) "\\\\08\\\\00\\\\00\\\\00\\\\06\\\\00\\\\00\\\\00")
    ...   (data (i32.const 16) "hello\\\\n")
    ...   (func (export "_start")
    ...     (i32.store (i32.const 8) (i32.const 16))
    ...     (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))''')
    >>> linker, store, out = wasmtime.Linker(engine), wasmtime.Store(engine), io.BytesIO()
    >>> with Wasi(["hello"], stdout=out) as wasi:
    ...     wasi.add_to_linker(linker)
    ...     wasi.add_to_store(store)
    ...     instance = linker.instantiate(store, module)
    ...     wasi.attach(store, instance)
    ...     instance.exports(store)["_start"](store)
    >>> out.getvalue()
    b'hello\\n'
    """

    def __init__(
        self,
        args: Sequence[str] = (),
        env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        stdin: Stdio = 0,
        stdout: Stdio = 1,
        stderr: Stdio = 2,
        preopens: Iterable[Preopen] = (),
    ) -> None:
        self._attached: wasmtime.Store | None = None
        self._args = list(args)
        self._env = list(env.items() if isinstance(env, Mapping) else env)
        for text in (*self._args, *(part for pair in self._env for part in pair)):
            if "\0" in text:
                raise ValueError("arguments and environment have no NUL characters")
        self._host = _host.Host()
        try:
            self._connect(0, stdin)
            self._connect(1, stdout)
            self._connect(2, stderr)
            for preopen in preopens:
                self._host.preopen(
                    preopen.host,
                    preopen.guest,
                    write=preopen.write,
                    exclusive=preopen.sharing == "exclusive",
                )
        except BaseException:
            self._host.close()
            raise

    def _connect(self, guest_fd: int, what: Stdio) -> None:
        if what is None:
            return
        if isinstance(what, int):
            self._host.stdio_fd(guest_fd, what)
            return
        try:
            os_fd = what.fileno()
        except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
            terminal = bool(getattr(what, "isatty", lambda: False)())
            self._host.stdio_file(guest_fd, what, read=guest_fd == 0, write=guest_fd != 0, terminal=terminal)
            return
        if guest_fd != 0:
            what.flush()
        self._host.stdio_fd(guest_fd, os_fd)

    def add_to_linker(self, linker: wasmtime.Linker) -> None:
        """Define all of ``wasi_snapshot_preview1`` in ``linker``: wasmtime's own, and the file calls over it.

        Allows shadowing in the linker. Raises ``wasmtime.WasmtimeError`` when it refuses.
        """
        linker.allow_shadowing = True
        linker.define_wasi()
        address = ctypes.cast(linker.ptr(), ctypes.c_void_p).value
        assert address is not None
        try:
            self._host.define(address)
        except RuntimeError as error:
            raise wasmtime.WasmtimeError(str(error)) from None

    def add_to_store(self, store: wasmtime.Store) -> None:
        """Give ``store`` the arguments and the environment."""
        config = wasmtime.WasiConfig()
        config.argv = self._args
        config.env = self._env
        store.set_wasi(config)

    def attach(self, store: wasmtime.Store, instance: wasmtime.Instance) -> None:
        """Tell which instance's memory the calls work on, which is faster than looking it up in each call.

        Only when no other instance uses this object.
        """
        memory = instance.exports(store).get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise ValueError('the instance exports no memory named "memory"')
        context = ctypes.cast(store._context(), ctypes.c_void_p).value
        assert context is not None
        self._host.attach(context, ctypes.addressof(memory._memory))
        self._attached = store  # lives as long as its address is in use

    def watch(self, watcher: Watcher | None) -> None:
        """Have every storage call told to ``watcher``, which may fail it or cut it short; None ends that.

        Without one it costs nothing. With one, files have no windows: every read and write is a call. See
        :mod:`kvwasi.wasi.trace`. Not while the guest runs.
        """
        self._host.set_hook(None if watcher is None else hook_of(watcher))

    def pending_exception(self) -> BaseException | None:
        """The exception that a file object given as stdio raised, or None; asking clears it."""
        return self._host.pending_exception()

    def close(self) -> None:
        """Close every descriptor of the guest. A guest that goes on finds them closed (``EBADF``)."""
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def standard_streams_flushed() -> None:
    """Write out what Python still buffers for this process's stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
