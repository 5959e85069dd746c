"""A guest that breaks its own rules is a typed error, and nothing is asked of it again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "guest-db/include/kv_guest.h").read_text()

ABI = int(re.search(r"#define KV_GUEST_ABI (\d+)", HEADER)[1])  # type: ignore[index]

# Parameters of each export, as in kv_guest.h.
SIGNATURES = {
    name: re.findall(r"int(32|64)_t", parameters)
    for name, parameters in re.findall(r"kv_status (kv_guest_\w+)\(([^)]*)\)", HEADER)
}

_OPEN = """
import sys, wasmtime, kvwasi
from kvwasi.engine import _engine, module
_engine.module_compile(bytes(wasmtime.wat2wasm(sys.stdin.read())))
def tell(call):
    try:
        print(call())
    except kvwasi.KvError as error:
        print(f"{type(error).__name__}: {error}")
store = None
def opened():
    global store
    store = kvwasi.open(sys.argv[1])
    return "open"
tell(opened)
if store is not None:
    get, put = lambda: store.get("k"), lambda: store.put("k", "v")
    for call in (CALLS):
        tell(call)
    tell(lambda: store.get("k"))
"""


def guest(bodies: dict[str, str], block: int = 1024, data: int = 65_536, abi: int = ABI) -> str:
    """A module with every export: each answers KV_OK but for what `bodies` says."""
    functions = [f'(func (export "kv_guest_init") (result i32) i32.const {block})']
    for name, parameters in SIGNATURES.items():
        types = " ".join(f"i{bits}" for bits in parameters)
        body = bodies.get(name, "i32.const 0")
        functions.append(f'(func (export "{name}") (param {types}) (result i32) {body})')
    words = (data.to_bytes(4, "little") + abi.to_bytes(4, "little")).hex()
    escaped = "".join(f"\\{words[at : at + 2]}" for at in range(0, len(words), 2))
    memory = f'(memory (export "memory") 40) (data (i32.const {block + 64}) "{escaped}")'
    return f"(module {memory} {' '.join(functions)})"


def run(
    tmp_path: Path, module: str, calls: str = "lambda: len(store), get, lambda: len(store), put, store.close"
) -> list[str]:
    command = [sys.executable, "-c", _OPEN.replace("CALLS", calls), str(tmp_path / "my.kv")]
    done = subprocess.run(command, input=module, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_guest_that_does_nothing(tmp_path: Path) -> None:
    lines = run(tmp_path, guest({"kv_guest_get": "i32.const 1", "kv_guest_put": "i32.const 0"}))
    assert lines[:5] == ["open", "0", "None", "0", "True"]
    assert lines[5:] == ["None", "ClosedError: the store is closed"]


@pytest.mark.parametrize(
    "body", ["unreachable", "i32.const -4 i32.load", "i32.const 1 i32.const 0 i32.div_s"]
)
def test_a_trap(tmp_path: Path, body: str) -> None:
    lines = run(tmp_path, guest({"kv_guest_get": body}))
    assert lines[:2] == ["open", "0"]
    assert all(line.startswith("EngineError: ") and "my.kv" in line for line in lines[2:5]), lines
    assert "wasm trap" in lines[2]
    assert lines[5:] == ["None", "ClosedError: the store is closed"]


def test_an_unknown_status(tmp_path: Path) -> None:
    lines = run(tmp_path, guest({"kv_guest_put": "i32.const 77"}))
    assert "EngineError" in lines[4]
    assert "77" in lines[4]


def test_a_value_outside_of_memory(tmp_path: Path) -> None:
    """get answers with a reference of kind KV_WHERE_MEMORY beyond the end."""
    body = """
        (i64.store (i32.const 1024) (i64.const 0x7fffffff)) (i32.store (i32.const 1032) (i32.const 100))
        (i32.store (i32.const 1040) (i32.const 1)) i32.const 0"""
    lines = run(tmp_path, guest({"kv_guest_get": body}))
    assert "outside of its memory" in lines[2]
    assert lines[3].startswith("EngineError")


@pytest.mark.parametrize("wrong", [{"abi": 9}, {"data": 2_600_000}, {"data": 65_537}, {"block": 0}])
def test_another_version(tmp_path: Path, wrong: dict[str, int]) -> None:
    (line,) = run(tmp_path, guest({}, **wrong))  # type: ignore[arg-type]
    assert line.startswith("EngineError: ")
    assert "another version" in line


def test_an_export_is_missing(tmp_path: Path) -> None:
    (line,) = run(tmp_path, guest({}).replace("kv_guest_stats", "kv_guest_statistics"))
    assert "does not export kv_guest_stats" in line
    (line,) = run(tmp_path, "(module)")
    assert "exports no memory" in line


def test_a_snapshot_that_cannot_be(tmp_path: Path) -> None:
    body = "(i32.store (i32.const 1084) (i32.const 1024)) i32.const 0"  # block.handle
    lines = run(tmp_path, guest({"kv_guest_snapshot_open": body}), "store.snapshot, get")
    assert all("a snapshot that cannot be" in line for line in lines[1:]), lines


@pytest.mark.parametrize(("key_length", "step"), [(1025, 1064), (8, 32), (8, 44), (8, 1 << 24)])
def test_names_that_do_not_fit(tmp_path: Path, key_length: int, step: int) -> None:
    """table_names answers with one entry whose lengths are wrong."""
    body = f"""
        (i64.store (i32.const 1056) (i64.const 1))
        (i32.store (i32.const 65560) (i32.const {key_length}))
        (i32.store (i32.const 65564) (i32.const {step}))
        i32.const 0"""
    lines = run(tmp_path, guest({"kv_guest_table_names": body}), "store.tables, get")
    assert all("does not fit its buffer" in line for line in lines[1:]), lines


def test_more_names_than_there_are(tmp_path: Path) -> None:
    body = "(i64.store (i32.const 1056) (i64.const 0xffffffff)) i32.const 0"
    lines = run(tmp_path, guest({"kv_guest_table_names": body}), "store.tables, get")
    assert all("does not fit its buffer" in line for line in lines[1:]), lines
