"""The package as built: the guest is there and imports nothing but WASI preview1."""

from pathlib import Path

import wasmtime

import kvwasi


def test_guest_imports_only_wasi_preview1() -> None:
    wasm = Path(kvwasi.__file__).parent / "kv.wasm"
    if not wasm.exists():  # an editable install keeps it in the build directory
        import importlib.resources

        wasm = Path(str(importlib.resources.files("kvwasi") / "kv.wasm"))
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(wasm))
    assert {imported.module for imported in module.imports} <= {"wasi_snapshot_preview1"}
