"""The package as built: whole, and buildable from its source distribution without a C compiler."""

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import mesonpy
import pytest
import wasmtime

ROOT = Path(__file__).resolve().parent.parent
BACKEND = ROOT / "build_backend"


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kvwasi_build", BACKEND / "kvwasi_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with what a build needs but a C compiler."""
    directory = tmp_path_factory.mktemp("bin")
    for name in ("sh", "git", "ninja", "meson", "cython"):
        scripts = Path(mesonpy.__file__).parents[4] / "bin"
        found = shutil.which(name, path=f"{scripts}:{os.environ['PATH']}")
        if found:
            (directory / name).symlink_to(found)
    return directory


@pytest.fixture(scope="module")
def installed_from_sdist(bare_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package built from its source distribution by zig alone."""
    if not (ROOT / ".git").exists():
        pytest.skip("a source distribution is made from a git checkout")
    place = tmp_path_factory.mktemp("sdist")
    environment = {**os.environ, "PATH": str(bare_path)}
    environment.pop("CC", None)
    for arguments, directory in (
        (["-c", f"import kvwasi_build; kvwasi_build.build_sdist({str(place)!r})"], BACKEND),
        (["-m", "pip", "install", "-qq", "--no-build-isolation", "--no-deps", "--target", "site"], place),
    ):
        sdists = map(str, place.glob("*.tar.gz"))
        where = ROOT if directory is BACKEND else place
        subprocess.run(
            [sys.executable, *arguments, *sdists],
            cwd=where,
            env={**environment, "PYTHONPATH": str(BACKEND)},
            check=True,
            timeout=300,
        )
    return place / "site"


def test_guest_imports_only_wasi_preview1() -> None:
    wasm = files("kvwasi") / "kv.wasm"
    module = wasmtime.Module(wasmtime.Engine(), wasm.read_bytes())
    assert {imported.module for imported in module.imports} <= {"wasi_snapshot_preview1"}


@pytest.mark.timeout(600)
def test_the_source_distribution_is_whole(installed_from_sdist: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "kvwasi/*.py", "kvwasi/*.pyi"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for name in [*tracked, "kvwasi/cli.py", "kvwasi/kv.wasm", "kvwasi/py.typed"]:
        assert (installed_from_sdist / name).is_file(), f"{name} is not installed"
    assert not (installed_from_sdist / "cli.py").exists()


@pytest.mark.timeout(600)
def test_what_zig_built_works(installed_from_sdist: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = [{str(installed_from_sdist)!r}]
sys.path += {[entry for entry in sys.path if entry]!r}
import kvwasi
assert kvwasi.__file__.startswith({str(installed_from_sdist)!r}), kvwasi.__file__
with kvwasi.open("a.kv") as store:
    store[b"key"] = b"value"
with kvwasi.open("a.kv", "r") as store:
    assert store[b"key"] == b"value"
"""
    # neither this directory nor an editable install's finder may stand before it
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, check=True, timeout=120)


def test_zig_compiles_where_there_is_no_c_compiler(
    backend: ModuleType, bare_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(bare_path))
    monkeypatch.delenv("CC", raising=False)
    backend._choose_c_compiler()
    assert "-m ziglang cc" in os.environ["CC"]
    monkeypatch.setenv("CC", "my-compiler")
    backend._choose_c_compiler()
    assert os.environ["CC"] == "my-compiler"


def test_what_is_missing_is_named(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="pip install") as caught:
        patched.setattr(sys, "modules", {**sys.modules, "ziglang": None})
        backend._prepare()
    assert "ziglang" in str(caught.value)
    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="python3-dev"):
        patched.setattr("sysconfig.get_path", lambda name: "/nonexistent")
        backend._prepare()
