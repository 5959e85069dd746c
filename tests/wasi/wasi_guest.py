"""A guest that makes one WASI call at a time and shows every byte that the call changed."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import wasmtime

from kvwasi.wasi import Preopen, Wasi

Mode = Literal["shared", "exclusive", "walking", "wasmtime"]

SIGNATURES = {
    "clock_res_get": "ii",
    "clock_time_get": "ili",
    "fd_advise": "illi",
    "fd_allocate": "ill",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "ill",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "il",
    "fd_filestat_set_times": "illi",
    "fd_pread": "iiili",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiili",
    "fd_read": "iiii",
    "fd_readdir": "iiili",
    "fd_renumber": "ii",
    "fd_seek": "ilii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiilli",
    "path_link": "iiiiiii",
    "path_open": "iiiiillii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}

_NAMES = """
OK 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY CANCELED CHILD
CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST FAULT FBIG HOSTUNREACH IDRM ILSEQ
INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK MSGSIZE MULTIHOP NAMETOOLONG NETDOWN NETRESET
NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC NOLCK NOLINK NOMEM NOMSG NOPROTOOPT NOSPC NOSYS NOTCONN
NOTDIR NOTEMPTY NOTRECOVERABLE NOTSOCK NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD PERM PIPE PROTO
PROTONOSUPPORT PROTOTYPE RANGE ROFS SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV NOTCAPABLE
"""
ERRNO = dict(enumerate(_NAMES.split()))

READ, WRITE, SYNC = 1 << 1, 1 << 6, 1 << 4
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC_FLAG = 1, 2, 4, 8, 16
PAGE = 65536
FILL = b"?"
ROOT = 3  # the first preopened directory


def module_text(pages: int = 2) -> str:
    """A module that exports each call, made from inside it, and its memory."""
    types = {"i": "i32", "l": "i64"}
    lines = ["(module"]
    for name, parameters in SIGNATURES.items():
        wasm = " ".join(types[letter] for letter in parameters)
        lines.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {wasm}) (result i32)))')
    lines.append(f'(memory (export "memory") {pages} 64)')
    lines.append('(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))')
    for name, parameters in SIGNATURES.items():
        wasm = " ".join(types[letter] for letter in parameters)
        gets = " ".join(f"(local.get {i})" for i in range(len(parameters)))
        lines.append(f'(func (export "{name}") (param {wasm}) (result i32) (call ${name} {gets}))')
    lines.append(")")
    return "\n".join(lines)


ENGINE = wasmtime.Engine()
MODULE = wasmtime.Module(ENGINE, module_text())


class Guest:
    """One instance of the module over one WASI."""

    def __init__(
        self,
        mode: Mode,
        preopens: list[tuple[Path, str, bool]],
        *,
        attach: bool = True,
        engine: wasmtime.Engine = ENGINE,
        **stdio: object,
    ) -> None:
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        self.wasi: Wasi | None = None
        if mode == "wasmtime":
            config = wasmtime.WasiConfig()
            for host, guest, write in preopens:
                config.preopen_dir(str(host), guest, write)
            self.store.set_wasi(config)
            linker.define_wasi()
        else:
            sharing: Literal["shared", "exclusive"] = "exclusive" if mode == "exclusive" else "shared"
            stdio = {"stdin": None, "stdout": None, "stderr": None} | stdio
            self.wasi = Wasi(
                preopens=[Preopen(host, guest, write, sharing) for host, guest, write in preopens],
                **stdio,  # type: ignore[arg-type]
            )
            self.wasi._host.resolve_by_walking(mode == "walking")
            self.wasi.add_to_linker(linker)
            self.wasi.add_to_store(self.store)
        module = MODULE if engine is ENGINE else wasmtime.Module(engine, module_text())
        self.instance = linker.instantiate(self.store, module)
        self.exports = self.instance.exports(self.store)
        if self.wasi and attach:
            self.wasi.attach(self.store, self.instance)
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = memory
        self.size = memory.data_len(self.store)
        memory.write(self.store, FILL * self.size, 0)
        self.next = 16

    def close(self) -> None:
        if self.wasi:
            self.wasi.close()
        self.store.close()

    # memory

    def reserve(self, length: int, align: int = 8) -> int:
        """An address for ``length`` bytes that nothing else uses."""
        address = -(-self.next // align) * align
        self.next = address + length + 8
        assert self.next <= self.size
        return address

    def put(self, data: bytes) -> int:
        address = self.reserve(len(data))
        self.memory.write(self.store, data, address)
        return address

    def get(self, address: int, length: int) -> bytes:
        return bytes(self.memory.read(self.store, address, address + length))

    def iovecs(self, *parts: tuple[int, int]) -> int:
        return self.put(b"".join(struct.pack("<II", *part) for part in parts))

    # calls

    def raw(self, name: str, *args: int) -> str:
        """Make a call; the name of its errno."""
        wrapped = [
            arg - (1 << bits) if arg >= 1 << (bits - 1) else arg
            for arg, bits in zip(args, (32 if c == "i" else 64 for c in SIGNATURES[name]), strict=True)
        ]
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return ERRNO[function(self.store, *wrapped)]

    def check(self, name: str, *args: int, errno: str = "OK", writes: dict[int, bytes] | None = None) -> None:
        """Make a call that must answer ``errno`` and change exactly the bytes ``writes``."""
        expected = bytearray(self.get(0, self.size))
        for address, data in (writes or {}).items():
            expected[address : address + len(data)] = data
        assert self.raw(name, *args) == errno
        found = self.get(0, self.size)
        if found != expected:
            at = next(i for i in range(self.size) if found[i] != expected[i])
            got, wanted = found[at : at + 64], bytes(expected[at : at + 64])
            raise AssertionError(f"{name}: memory differs at {at}: {got!r} not {wanted!r}")

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Give back the memory that is reserved within."""
        mark = self.next
        yield
        self.next = mark

    def result(self, name: str, *args: int, size: int) -> bytes:
        """Make a call that succeeds and whose last argument points to ``size`` bytes of result."""
        with self.scratch():
            out = self.reserve(size)
            assert self.raw(name, *args, out) == "OK", name
            return self.get(out, size)

    def path(self, text: str | bytes) -> tuple[int, int]:
        data = text.encode() if isinstance(text, str) else text
        return self.put(data), len(data)

    def path_call(self, name: str, path: str | bytes, *, fd: int = ROOT) -> str:
        """A call that takes a descriptor and a path."""
        with self.scratch():
            return self.raw(name, fd, *self.path(path))

    def try_open(
        self,
        path: str | bytes,
        *,
        oflags: int = 0,
        rights: int = READ | WRITE,
        fdflags: int = 0,
        follow: int = 1,
        fd: int = ROOT,
    ) -> tuple[str, int]:
        with self.scratch():
            out = self.reserve(4)
            errno = self.raw("path_open", fd, follow, *self.path(path), oflags, rights, rights, fdflags, out)
            return errno, int.from_bytes(self.get(out, 4), "little")

    def open(self, path: str | bytes, **options: int) -> int:
        errno, fd = self.try_open(path, **options)
        assert errno == "OK", errno
        return fd

    def write(self, fd: int, data: bytes, *, at: int | None = None) -> int:
        with self.scratch():
            vector = self.iovecs((self.put(data), len(data)))
            if at is None:
                return int.from_bytes(self.result("fd_write", fd, vector, 1, size=4), "little")
            return int.from_bytes(self.result("fd_pwrite", fd, vector, 1, at, size=4), "little")

    def read(self, fd: int, length: int, *, at: int | None = None) -> bytes:
        with self.scratch():
            buffer = self.reserve(length)
            vector = self.iovecs((buffer, length))
            if at is None:
                got = self.result("fd_read", fd, vector, 1, size=4)
            else:
                got = self.result("fd_pread", fd, vector, 1, at, size=4)
            return self.get(buffer, int.from_bytes(got, "little"))

    def seek(self, fd: int, offset: int, whence: int = 0) -> int:
        return int.from_bytes(self.result("fd_seek", fd, offset, whence, size=8), "little")

    def filestat(self, fd: int) -> "Filestat":
        return Filestat(self.result("fd_filestat_get", fd, size=64))

    def path_filestat(self, path: str, *, follow: int = 1, fd: int = ROOT) -> "Filestat":
        return Filestat(self.result("path_filestat_get", fd, follow, *self.path(path), size=64))

    def listing(self, fd: int, buffer: int = 4096) -> list[tuple[str, int, int]]:
        """Name, inode and type of every entry, read with a buffer of that size as wasi-libc does."""
        entries: list[tuple[str, int, int]] = []
        cookie = 0
        with self.scratch():
            address = self.reserve(buffer)
            while True:
                used = int.from_bytes(
                    self.result("fd_readdir", fd, address, buffer, cookie, size=4), "little"
                )
                data = self.get(address, used)
                while len(data) >= 24:
                    following, inode, length, kind = struct.unpack_from("<QQIB", data)
                    if len(data) < 24 + length:
                        break
                    entries.append((data[24 : 24 + length].decode(), inode, kind))
                    cookie, data = following, data[24 + length :]
                if used < buffer:
                    return entries


class Filestat:
    """The structure of that name."""

    def __init__(self, data: bytes) -> None:
        self.device, self.inode, self.kind = struct.unpack_from("<QQB", data)
        assert data[17:24] == bytes(7)  # padding
        self.links, self.size, self.atim, self.mtim, self.ctim = struct.unpack_from("<QQQQQ", data, 24)
