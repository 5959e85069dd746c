"""The engine is an ordinary WASI program: the same file under wasmtime-py's own WASI, with a plain driver."""

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import wasmtime

import kvwasi

# kv_guest.h
COUNT_AT = 32
HANDLE_AT = 60
DATA_ADDRESS_AT = 64
TABLE_AT = 80
KEY_AT = 88
OK, NEEDS_SYNC, AGAIN, SYNC_FIRST = 0, 3, 4, 5
CREATE, IN_TRANSACTION, DURABLE, BARRIER_DONE = 2, 2, 4, 8
IN_FILE = 0


class PlainDriver:
    """A host without threads: kv_guest_flush after each commit; values are read from the file."""

    def __init__(self, directory: Path, name: str, flags: int) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.preopen_dir(str(directory), "/")
        self.store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        module = wasmtime.Module(engine, (files("kvwasi") / "kv.wasm").read_bytes())
        self.instance = linker.instantiate(self.store, module)
        self.exports = self.instance.exports(self.store)
        self.memory = self.exports["memory"]
        self.path = directory / name
        self.export("_initialize")
        self.block = self.export("kv_guest_init")
        self.data = self.word(DATA_ADDRESS_AT)
        self.write(self.data, b"/" + name.encode())
        self.call("open", len(name) + 1, flags, 0)

    def export(self, name: str, *arguments: int) -> int:
        return self.exports[name](self.store, *arguments)  # type: ignore[no-any-return,operator]

    def call(self, name: str, *arguments: int) -> int:
        while (status := self.export(f"kv_guest_{name}", *arguments)) == AGAIN:
            pass
        if status == NEEDS_SYNC:
            assert self.export("kv_guest_flush") == OK
        assert status < 16, (name, status)
        return status

    def write(self, address: int, data: bytes) -> None:
        assert isinstance(self.memory, wasmtime.Memory)
        self.memory.write(self.store, data, address)

    def read(self, address: int, length: int) -> bytes:
        assert isinstance(self.memory, wasmtime.Memory)
        return bytes(self.memory.read(self.store, address, address + length))

    def word(self, offset: int) -> int:
        return int.from_bytes(self.read(self.block + offset, 4), "little")

    def table(self, name: bytes, how: str, *arguments: int) -> int:
        """The number of a table; `how`: "table_find" (with a view), or in a transaction "table_create"."""
        self.write(self.block + KEY_AT, name)
        assert self.call(how, len(name), *arguments) == OK
        return self.word(TABLE_AT)

    def put(self, key: bytes, value: bytes, flags: int, table: int = 0) -> None:
        self.write(self.block + KEY_AT, key)
        self.write(self.data, value)
        self.call("put", table, len(key), len(value), flags)

    def put_large(self, key: bytes, value: bytes) -> None:
        self.write(self.block + KEY_AT, key)
        self.call("value_begin", 0, len(key), len(value), IN_TRANSACTION)
        for at in range(0, len(value), 1 << 20):
            chunk = value[at : at + (1 << 20)]
            self.write(self.data, chunk)
            self.call("value_chunk", len(chunk))
        self.call("value_end")

    def commit(self) -> None:
        status = self.export("kv_guest_txn_commit", DURABLE)
        while status == SYNC_FIRST:  # large values are to be on disk first
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())
            status = self.export("kv_guest_txn_commit", DURABLE | BARRIER_DONE)
        assert status == NEEDS_SYNC
        assert self.export("kv_guest_flush") == OK

    def value(self, ref: bytes) -> bytes:
        offset, length, _, where = struct.unpack_from("<QIII", ref)
        if where != IN_FILE:
            return self.read(offset, length)
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def items(self, table: int = 0) -> Iterator[tuple[bytes, bytes]]:
        self.call("cursor_open", table, 0, 0, 0, 0)
        handle = self.word(HANDLE_AT)
        while True:
            self.call("cursor_next", handle, 100)
            count = self.word(COUNT_AT)
            batch = self.read(self.data, 1 << 20)
            if not count:
                break
            at = 0
            for _ in range(count):
                key_length, step = struct.unpack_from("<II", batch, at + 24)
                yield batch[at + 32 : at + 32 + key_length], self.value(batch[at : at + 24])
                at += step
        self.call("cursor_close", handle)

    def close(self) -> None:
        while self.call("close_mark") == NEEDS_SYNC:
            pass
        self.call("close")


CONTENT = {b"key-%04d" % n: b"value %d " % n * (n % 60) for n in range(500)} | {
    b"large": bytes(range(256)) * 9000,
    b"empty": b"",
    b"\xff" * 1024: b"\0",
}


@pytest.fixture
def theirs(path: Path) -> Path:
    driver = PlainDriver(path.parent, path.name, CREATE)
    for key, value in list(CONTENT.items())[:20]:
        driver.put(key, value, DURABLE)
    driver.call("txn_begin")
    for key, value in CONTENT.items():
        if len(value) > 65_536:
            driver.put_large(key, value)
        else:
            driver.put(key, value, IN_TRANSACTION)
    driver.put(b"k", b"of a table", IN_TRANSACTION, driver.table(b"t", "table_create"))
    driver.commit()
    driver.close()
    return path


def test_written_there_read_here(theirs: Path) -> None:
    with kvwasi.open(theirs, "r") as store:
        assert dict(store) == CONTENT
        assert store.tables() == ["t"]
        assert dict(store.table("t")) == {b"k": b"of a table"}
        assert store.check() == []
        assert store.stats().recovered_commits == 0


def test_written_here_read_there(path: Path) -> None:
    with kvwasi.open(path) as store:
        store.put_many(CONTENT)
        store["passing"] = "x"
        del store["passing"]
        store.table("t").put_many(CONTENT)
    driver = PlainDriver(path.parent, path.name, 0)
    assert list(driver.items()) == sorted(CONTENT.items())
    driver.put(b"more", b"1", DURABLE)
    table = driver.table(b"t", "table_find", 0)
    assert list(driver.items(table)) == sorted(CONTENT.items())
    driver.put(b"more", b"2", DURABLE, table)
    driver.close()
    with kvwasi.open(path) as store:
        assert dict(store) == {**CONTENT, b"more": b"1"}
        assert dict(store.table("t")) == {**CONTENT, b"more": b"2"}


# --- Node.js ---

NODE = shutil.which("node")


def run_node(path: Path, content: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Put `content` with Node's own WASI; what the database then has."""
    assert NODE is not None
    driver = Path(__file__).parents[1] / "guest" / "node_driver.mjs"
    command = [
        NODE,
        "--no-warnings",
        str(driver),
        str(files("kvwasi") / "kv.wasm"),
        str(path.parent),
        path.name,
    ]
    pairs = json.dumps([[key.hex(), value.hex()] for key, value in content.items()])
    run = subprocess.run(command, input=pairs, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in json.loads(run.stdout)]
    assert found == sorted(found)
    return dict(found)


def has_wasi() -> bool:
    """Node before version 20 has another interface."""
    probe = 'import("node:wasi").then(w => new w.WASI({version: "preview1"}).getImportObject())'
    run = subprocess.run([NODE or "node", "-e", probe], capture_output=True) if NODE else None
    return run is not None and run.returncode == 0


@pytest.mark.skipif(not has_wasi(), reason="needs node with node:wasi")
def test_node_writes_and_reads_the_same_files(path: Path) -> None:
    small = {key: value for key, value in CONTENT.items() if len(value) <= 65_536}
    assert run_node(path, small) == small
    with kvwasi.open(path) as store:
        assert dict(store) == small
        assert store.check() == []
        store.put_many(CONTENT)
        store["passing"] = "x"
        del store["passing"]
    assert run_node(path, {b"more": b"1"}) == {**CONTENT, b"more": b"1"}
    with kvwasi.open(path, "r") as store:
        assert dict(store) == {**CONTENT, b"more": b"1"}
        assert store.stats().recovered_commits == 0
