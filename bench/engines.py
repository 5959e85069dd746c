"""Engines that need the checkout: our guest as native code, and under wasmtime-py's own WASI."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import compiled
import wasmtime

from kvwasi.bench.engines import Engine, Entry, Kvwasi, Lmdb
from kvwasi.bench.peers import ENGINES as INSTALLABLE
from kvwasi.bench.peers import installed


class GuestNative(Kvwasi):
    """kvwasi with the same C as native code in place of WebAssembly, and the machine's file calls as its own.

    Everything above the guest is the same code, so that the driver costs the same on both sides.
    """

    name = "guest-native"

    def open(self) -> None:
        self._use(compiled.native_kvwasi().open(self._path))

    @staticmethod
    def version() -> str:
        return f"the guest's C by {' '.join(compiled.compiler()[-1:])} -O3"


OK, NOT_FOUND, NEEDS_SYNC, AGAIN, SYNC_FIRST = 0, 1, 3, 4, 5
OPEN_CREATE, IN_TRANSACTION, DURABLE, BARRIER_DONE = 2, 2, 4, 8
HAS_START, REVERSE = 1, 4
WHERE_FILE, WHERE_MEMORY, WHERE_MISSING = 0, 1, 2
BLOCK_HEAD = struct.Struct("<QIIIi QQQ iiIIII QII")  # kv_guest_block up to the keys
VALUE = struct.Struct("<QIIIi")
ENTRY = struct.Struct("<QIIIi II")
DATA_BYTES = 1 << 18
BATCH_ENTRIES = 1000


class GuestStock(Engine):
    """Our guest as anyone would run it with wasmtime-py: its WASI, its calls (some 20 us each)."""

    name = "guest-stock"
    share = 50
    threads = False

    def __init__(self, directory: Path) -> None:
        self.place = directory
        self.open()

    def open(self) -> None:
        engine = wasmtime.Engine()
        module = wasmtime.Module(engine, (files("kvwasi") / "kv.wasm").read_bytes())
        linker, config = wasmtime.Linker(engine), wasmtime.WasiConfig()
        linker.define_wasi()
        self._store = wasmtime.Store(engine)
        config.preopen_dir(str(self.place), "/db")
        self._store.set_wasi(config)
        exports: Any = linker.instantiate(self._store, module).exports(self._store)
        self._exports = exports
        self._memory = exports["memory"]
        self._exports["_initialize"](self._store)
        self._block = self._exports["kv_guest_init"](self._store)
        self._data = self._head()[12]
        self._write(self._data, b"/db/bench.kv")
        self._call("kv_guest_open", len(b"/db/bench.kv"), OPEN_CREATE, 0)
        self._fd = os.open(self.place / "bench.kv", os.O_RDONLY)

    def close(self) -> None:
        while self._call("kv_guest_close_mark") == NEEDS_SYNC:
            self._call("kv_guest_flush")
        self._call("kv_guest_close")
        os.close(self._fd)

    @staticmethod
    def version() -> str:
        return f"the guest under wasmtime-py {version('wasmtime')}"

    def get(self, key: bytes) -> bytes | None:
        self._write(self._block + BLOCK_HEAD.size, key)
        if self._call("kv_guest_get", 0, len(key), 0) == NOT_FOUND:
            return None
        return self._value(*self._head()[:4])

    def put(self, key: bytes, value: bytes) -> None:
        self._arguments(key, value)
        self._commit("kv_guest_put", 0, len(key), len(value), DURABLE)

    def put_in_transaction(self, entries: Iterable[Entry]) -> None:
        self._call("kv_guest_txn_begin")
        for key, value in entries:
            if len(value) > 1 << 16:
                self._put_large(key, value)
                continue
            self._arguments(key, value)
            self._call("kv_guest_put", 0, len(key), len(value), IN_TRANSACTION)
        self._commit("kv_guest_txn_commit", DURABLE)

    def _put_large(self, key: bytes, value: bytes) -> None:
        self._write(self._block + BLOCK_HEAD.size, key)
        self._call("kv_guest_value_begin", 0, len(key), len(value), IN_TRANSACTION)
        for first in range(0, len(value), DATA_BYTES):
            piece = value[first : first + DATA_BYTES]
            self._write(self._data, piece)
            self._call("kv_guest_value_chunk", len(piece))
        self._call("kv_guest_value_end")

    def put_batch(self, entries: Sequence[Entry]) -> None:
        self._call("kv_guest_txn_begin")
        packed, count = bytearray(), 0
        for key, value in entries:
            packed += struct.pack("<II", len(key), len(value)) + key + value
            packed += bytes(-len(packed) % 8)
            count += 1
            if len(packed) > DATA_BYTES:
                self._put_packed(packed, count)
                packed, count = bytearray(), 0
        self._put_packed(packed, count)
        self._commit("kv_guest_txn_commit", DURABLE)

    def _put_packed(self, packed: bytearray, count: int) -> None:
        self._write(self._data, packed)
        self._call("kv_guest_put_many", 0, count, len(packed))

    def delete_in_transaction(self, keys: Iterable[bytes]) -> None:
        self._call("kv_guest_txn_begin")
        for key in keys:
            self._write(self._block + BLOCK_HEAD.size, key)
            self._call("kv_guest_delete", 0, len(key), IN_TRANSACTION)
        self._commit("kv_guest_txn_commit", DURABLE)

    def get_batches(self, keys: Sequence[bytes], count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        for first in range(0, len(keys), count):
            batch = keys[first : first + count]
            packed = b"".join(struct.pack("<I", len(k)) + k + bytes(-len(k) % 4) for k in batch)
            self._write(self._data, packed)
            self._call("kv_guest_get_many", 0, len(batch), len(packed), 0)
            refs = VALUE.iter_unpack(self._read(self._data, VALUE.size * len(batch)))
            found += [self._value(*ref[:4]) for ref in refs]
        return found

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return self._range(b"", REVERSE if reverse else 0, BATCH_ENTRIES)

    def seek_each(self, keys: Iterable[bytes], count: int) -> list[Entry]:
        found: list[Entry] = []
        for key in keys:
            found += itertools.islice(self._range(key, HAS_START, count), count)
        return found

    def _range(self, start: bytes, flags: int, limit: int) -> Iterator[Entry]:
        self._write(self._block + BLOCK_HEAD.size, start)
        self._call("kv_guest_cursor_open", 0, len(start), 0, 0, flags)
        handle = self._head()[11]
        try:
            while True:
                self._call("kv_guest_cursor_next", handle, limit)
                count, at = self._head()[6], 0
                if count == 0:
                    return
                batch = self._read(self._data, DATA_BYTES * 4)
                for _ in range(count):
                    offset, length, sum_, where, _fd, key_length, step = ENTRY.unpack_from(batch, at)
                    key = batch[at + ENTRY.size : at + ENTRY.size + key_length]
                    yield key, self._value(offset, length, sum_, where) or b""
                    at += step
        finally:
            self._call("kv_guest_cursor_close", handle)

    def _value(self, offset: int, length: int, _sum: int, where: int) -> bytes | None:
        if where == WHERE_MISSING:
            return None
        return self._read(offset, length) if where == WHERE_MEMORY else os.pread(self._fd, length, offset)

    def _arguments(self, key: bytes, value: bytes) -> None:
        self._write(self._block + BLOCK_HEAD.size, key)
        self._write(self._data, value)

    def _commit(self, name: str, *arguments: int) -> None:
        """A call that may ask for flushes; wasmtime's own WASI makes them."""
        status = self._call(name, *arguments)
        if status == SYNC_FIRST:
            os.fdatasync(self._fd)
            status = self._call(name, arguments[0] | BARRIER_DONE)
        if status == NEEDS_SYNC:
            self._call("kv_guest_flush")

    def _call(self, name: str, *arguments: int) -> int:
        while (status := self._exports[name](self._store, *arguments)) == AGAIN:
            pass
        if status > SYNC_FIRST:
            raise RuntimeError(f"{name}: status {status}")
        return status  # type: ignore[no-any-return]

    def _head(self) -> tuple[int, ...]:
        return BLOCK_HEAD.unpack(self._read(self._block, BLOCK_HEAD.size))

    def _read(self, at: int, length: int) -> bytes:
        return bytes(self._memory.read(self._store, at, at + length))

    def _write(self, at: int, data: bytes | bytearray) -> None:
        self._memory.write(self._store, data, at)


class Unsynced(Kvwasi):
    """kvwasi whose commits the operating system has when they return."""

    name = "kvwasi"
    synced = False


class LmdbUnsynced(Lmdb):
    """LMDB in the like mode (which may cost it the database in a power cut)."""

    name = "lmdb"
    synced = False


class Bare(Engine):
    """No store: each record appended to space written before, and flushed. What the disk costs."""

    name = "bare-put"
    threads = False
    checked = False
    function = "reference_put"
    header = bytes(40)

    def __init__(self, directory: Path) -> None:
        self.place = directory
        library = compiled.reference()
        self._call, self._close = getattr(library, self.function), library.reference_close
        self._file = library.reference_open(os.fsencode(directory / "bare"), 16 << 20)
        if not self._file:
            raise OSError(compiled.errno(), "cannot write the reference's file")

    def put_batch(self, entries: Sequence[Entry]) -> None:
        pass

    def put(self, key: bytes, value: bytes) -> None:
        record = self.header + key + value
        error = self._call(self._file, record, len(record))
        if error:
            raise OSError(error, os.strerror(error))

    def scan(self, *, reverse: bool = False) -> Iterator[Entry]:
        return iter(())

    def close(self) -> None:
        self._close(self._file)

    @staticmethod
    def version() -> str:
        return "pwrite + fdatasync in C"


class BareGroup(Bare):
    """The same from many threads: one of them flushes for all who wait."""

    name = "bare-group"
    threads = True
    function = "reference_group_put"

    @staticmethod
    def version() -> str:
        return "the same with a group commit"


ENGINES: dict[str, type[Engine]] = {**INSTALLABLE, GuestNative.name: GuestNative, GuestStock.name: GuestStock}
DEFAULT = [*(name for name in installed() if name != "diskcache"), GuestNative.name, GuestStock.name]
