"""The guest's module for this process: from the cache of compiled modules, or compiled and put there.

A compiled module is native code, so the cache is a directory of the user's own: see
:mod:`kvwasi.wasi.codecache`.
"""

from __future__ import annotations

import os
import threading

from kvwasi.engine import _engine
from kvwasi.wasi import codecache

_lock = threading.Lock()


def _wasm() -> bytes:
    """The module as it was built, from beside the package or from where an editable install keeps it."""
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kv.wasm")
    found = codecache.read_file(beside)
    if found is not None:
        return found
    import importlib.resources

    return (importlib.resources.files("kvwasi") / "kv.wasm").read_bytes()


def ensure_loaded() -> None:
    """Have the module in this process.

    Raises:
        EngineError: it does not compile.
    """
    if _engine.module_loaded():
        return
    with _lock:
        if _engine.module_loaded():
            return
        wasm = _wasm()
        digest = f"{_engine.hash64(wasm):016x}{_engine.hash64(wasm, 1):016x}"
        key = f"{digest}-wasmtime-{codecache.wasmtime_version()}"
        sealed = codecache.load(key)
        if sealed is not None and _unseal(sealed):
            return
        compiled = _engine.module_compile(wasm)
        if compiled:
            codecache.store(key, _engine.hash64(compiled).to_bytes(8, "little") + compiled)


def _unseal(sealed: bytes) -> bool:
    """Load a cache entry if it is what was written; wasmtime itself refuses other versions and processors."""
    compiled = sealed[8:]
    if not compiled or int.from_bytes(sealed[:8], "little") != _engine.hash64(compiled):
        return False
    return _engine.module_load(compiled)
