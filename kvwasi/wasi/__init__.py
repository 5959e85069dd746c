"""The WASI host: preview1 file calls at native speed for any module run by wasmtime-py.

>>> from kvwasi.wasi import Preopen, run_module
>>> run_module("tool.wasm", ["in.txt"], preopens=[Preopen(".", ".", sharing="exclusive")])  # doctest: +SKIP
0
"""

from typing import TYPE_CHECKING, Any

from kvwasi.wasi.errors import UnsupportedWasmtimeError

if TYPE_CHECKING:
    from kvwasi.wasi.host import Preopen, Wasi
    from kvwasi.wasi.run import run_module

__all__ = ["Preopen", "UnsupportedWasmtimeError", "Wasi", "run_module"]

_HOMES = {
    "Preopen": "kvwasi.wasi.host",
    "Wasi": "kvwasi.wasi.host",
    "run_module": "kvwasi.wasi.run",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the store needs the data plane, but not wasmtime-py, whose import is slow."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
