"""C that is compiled when it is needed, into build/bench/: the references, and the engine as native code."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "bench" / "native"
OUTPUT = ROOT / "build" / "bench"
GUEST, ENGINE, HOST = ROOT / "guest-db", ROOT / "kvwasi" / "engine", ROOT / "kvwasi" / "wasi" / "native"
# As guest-db/meson.build compiles the guest, and kvwasi/engine/meson.build the layer above it.
GUEST_FLAGS = ["-std=gnu11", "-O3", "-DNDEBUG", "-flto", "-fno-strict-aliasing", "-D_GNU_SOURCE"]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]


def compiler() -> list[str]:
    """The machine's C compiler, else zig's."""
    found = next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return found or [sys.executable, "-m", "ziglang", "cc"]


def _output(name: str, inputs: Sequence[Path]) -> Path:
    """Where a product of ``inputs`` lies: under another name as soon as one of them changes."""
    state = hashlib.blake2b(repr((sys.version, compiler())).encode(), digest_size=8)
    for path in sorted(inputs):
        state.update(path.read_bytes())
    return OUTPUT / f"{Path(name).stem}-{state.hexdigest()}{Path(name).suffix}"


def _run(command: Sequence[str | Path], output: Path) -> None:
    """Run a compiler whose last argument is its output, which appears when it is whole."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    new = output.with_stem(f"{output.stem}-{os.getpid()}")
    done = subprocess.run([*command, new], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{output.name} does not compile:\n{done.stdout}")
    new.replace(output)


def errno() -> int:
    """Of the last call of a library of this module that failed."""
    return ctypes.get_errno()


def _library(name: str) -> ctypes.CDLL:
    source = NATIVE / f"{name}.c"
    output = _output(f"{name}.so", [source])
    if not output.exists():
        _run(
            [*compiler(), *WARNINGS, "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", source, "-pthread", "-o"],
            output,
        )
    return ctypes.CDLL(str(output), use_errno=True)


@cache
def counted() -> ctypes.CDLL:
    """native/counted.c as a library."""
    return _library("counted")


@cache
def reference() -> ctypes.CDLL:
    """native/reference.c as a library."""
    library = _library("reference")
    library.reference_open.restype = ctypes.c_void_p
    library.reference_open.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
    library.reference_close.argtypes = [ctypes.c_void_p]
    library.reference_close.restype = None
    library.reference_flush.argtypes = [ctypes.c_void_p]
    for name in ("reference_put", "reference_group_put", "reference_write", "reference_nothing"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    return library


def _engine_sources() -> list[Path]:
    layer = [path for path in (ENGINE / "native").glob("*.c") if path.name not in ("instance.c", "runtime.c")]
    return [NATIVE / "native_instance.c", *layer, *(GUEST / "src").glob("*.c")]


def build_engine() -> Path:
    """kvwasi.engine._engine with the guest as native code in it."""
    headers = [*ENGINE.glob("*.p*"), *ENGINE.glob("native/*.h"), *GUEST.rglob("*.h"), *HOST.glob("*.h")]
    sources = _engine_sources()
    output = _output("_engine.so", [*headers, *sources])
    if output.exists():
        return output
    glue = output.with_suffix(".c")
    cython: list[str | Path] = [
        sys.executable,
        "-m",
        "cython",
        "-3",
        ENGINE / "_engine.pyx",
        "-I",
        ROOT,
        "-o",
    ]
    _run(cython, glue)
    includes = [
        GUEST / "include",
        GUEST / "src",
        ENGINE / "native",
        HOST,
        Path(sysconfig.get_path("include")),
    ]
    flags = [*GUEST_FLAGS, "-fPIC", "-fvisibility=hidden", *(f"-I{path}" for path in includes)]
    _run([*compiler(), *flags, "-shared", "-w", glue, *sources, "-pthread", "-o"], output)
    return output


@cache
def native_kvwasi() -> ModuleType:
    """A second ``kvwasi`` beside the real one, whose guest is native code; all else is the same."""
    path = build_engine()
    importlib.import_module("kvwasi.wasi._host")  # the WASI host is shared
    shared = {name: module for name, module in sys.modules.items() if _is_replaced(name)}
    for name in shared:
        del sys.modules[name]
    try:
        # The package without its content, so that its engine is there before the rest asks for it.
        package_spec = importlib.util.find_spec("kvwasi")
        assert package_spec is not None and package_spec.loader is not None
        sys.modules["kvwasi"] = package = importlib.util.module_from_spec(package_spec)
        engine = importlib.import_module("kvwasi.engine")
        loader = importlib.machinery.ExtensionFileLoader("kvwasi.engine._engine", str(path))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        sys.modules[loader.name] = native = importlib.util.module_from_spec(spec)
        loader.exec_module(native)
        engine._engine = native  # type: ignore[attr-defined]
        package_spec.loader.exec_module(package)
        return package
    finally:
        for name in [name for name in sys.modules if _is_replaced(name)]:
            del sys.modules[name]
        sys.modules.update(shared)


def _is_replaced(name: str) -> bool:
    """Modules of the package that stand above the WASI host."""
    return (name == "kvwasi" or name.startswith("kvwasi.")) and not name.startswith(
        ("kvwasi.wasi", "kvwasi.bench", "kvwasi.errors")
    )
