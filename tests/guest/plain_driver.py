"""Drive the guest with wasmtime-py's own WASI: no host of ours, the exports alone."""

import struct
from importlib import resources
from pathlib import Path

import wasmtime

OK, NOT_FOUND, NEEDS_SYNC, AGAIN = 0, 1, 3, 4
OPEN_CREATE, DURABLE = 2, 4
BLOCK_HEAD = struct.Struct("<QIIIi QQQ iiIIII QII")  # kv_guest_block up to the keys
ENTRY = struct.Struct("<QIIIi II")


class PlainDatabase:
    """A database in ``directory`` (guest name ``/db``), one call of the guest at a time."""

    def __init__(self, directory: Path, name: str, *, random_seed: int = 0) -> None:
        engine = wasmtime.Engine()
        module = wasmtime.Module(engine, (resources.files("kvwasi") / "kv.wasm").read_bytes())
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self._store = wasmtime.Store(engine)
        config = wasmtime.WasiConfig()
        config.preopen_dir(str(directory), "/db")
        self._store.set_wasi(config)
        self._exports = linker.instantiate(self._store, module).exports(self._store)
        self._call("_initialize")
        self._block = self._call("kv_guest_init")
        self._data = self._head()[12]
        self._write(self._block + 40, struct.pack("<Q", random_seed))
        path = f"/db/{name}".encode()
        self._write(self._data, path)
        self._expect(OK, self._call("kv_guest_open", len(path), OPEN_CREATE, 0))

    def put(self, key: bytes, value: bytes, *, durable: bool = True) -> None:
        self._write(self._block + BLOCK_HEAD.size, key)
        self._write(self._data, value)
        status = self._call("kv_guest_put", 0, len(key), len(value), DURABLE if durable else 0)
        self._expect(NEEDS_SYNC if durable else OK, status)
        if durable:
            self._expect(OK, self._call("kv_guest_flush"))

    def delete(self, key: bytes) -> None:
        self._write(self._block + BLOCK_HEAD.size, key)
        self._expect(NEEDS_SYNC, self._call("kv_guest_delete", 0, len(key), DURABLE))
        self._expect(OK, self._call("kv_guest_flush"))

    def keys(self) -> list[bytes]:
        self._expect(OK, self._call("kv_guest_cursor_open", 0, 0, 0, 0, 0))
        handle, found = self._head()[11], []
        while True:
            self._expect(OK, self._call("kv_guest_cursor_next", handle, 100))
            count, at = self._head()[6], self._data
            if count == 0:
                break
            for _ in range(count):
                *_, length, step = ENTRY.unpack(self._read(at, ENTRY.size))
                found.append(self._read(at + ENTRY.size, length))
                at += step
        self._expect(OK, self._call("kv_guest_cursor_close", handle))
        return found

    def close(self) -> None:
        while (status := self._call("kv_guest_close_mark")) in (NEEDS_SYNC, AGAIN):
            if status == NEEDS_SYNC:
                self._expect(OK, self._call("kv_guest_flush"))
        self._expect(OK, status)
        self._expect(OK, self._call("kv_guest_close"))

    def _call(self, name: str, *arguments: int) -> int:
        return self._exports[name](self._store, *arguments)  # type: ignore[no-any-return, operator]

    def _head(self) -> tuple[int, ...]:
        return BLOCK_HEAD.unpack(self._read(self._block, BLOCK_HEAD.size))

    def _read(self, at: int, length: int) -> bytes:
        return bytes(self._exports["memory"].read(self._store, at, at + length))  # type: ignore[union-attr]

    def _write(self, at: int, data: bytes) -> None:
        self._exports["memory"].write(self._store, data, at)  # type: ignore[union-attr]

    @staticmethod
    def _expect(expected: int, status: int) -> None:
        assert status == expected, f"status {status}"
